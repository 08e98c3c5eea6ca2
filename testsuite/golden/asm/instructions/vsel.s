; `vsel` keeps what lies on the right side of an affine predicate of partition, free dims and a register; the rest is
; the constant.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim vsel.s --values > out
; RUN: not kiln sim outside.s >> out 2>&1
; RUN: expect %s < out
;--- vsel.s
.target edge
.output causal f32 [3,4] @0x1000
.output second_pair f32 [3,4] @0x1400
.data @0x0 f32 0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23
.engine q0
    apset ap0, f32 @0x0 [3,1,1,4] <4,0,0,1>
    dld spm[0:0x0].f32, ap0
    sems sem0, n=1
    semw sem1, n=1
    apset ap0, f32 @0x1000 [3,1,1,4] <4,0,0,1>
    dst ap0, spm[0:0x40].f32
    apset ap0, f32 @0x1400 [3,1,1,4] <4,0,0,1>
    dst ap0, spm[0:0x60].f32
    halt
.engine vec
    semw sem0, n=1
    li r1, imm=1
    vsel spm[0:0x40].f32, spm[0:0x0].f32, 3:1x1x4, base=0, reg=r1, cp=1, c2=-1, -inf
    vsel spm[0:0x60].f32<0,2,1>, spm[0:0x0].f32<0,2,1>, 3:1x2x2, base=-1, c1=1, 0.0f
    sems sem1, n=1
    halt
;--- outside.s
.target edge
.engine vec
    vsel spm[0:0x7ffc].f32, spm[0:0x0].f32, 1:1x1x2, 0.0f
    halt
; EXPECT
; On edge: 560 cycles, 0.56 µs, 192 B of DRAM traffic
;   vec        6 instructions, busy        42 ticks, waiting       241
;   q0        9 instructions, busy        96 ticks, waiting       255
; causal: f32 [3, 4]
;   0 1 -inf -inf
;   10 11 12 -inf
;   20 21 22 23
; second_pair: f32 [3, 4]
;   0 0 2 3
;   0 0 12 13
;   0 0 22 23
; kiln::sim::trap
;
;   × trap in vec at word 0 (cycle 0): out of bounds: bytes 32764..32772 of a
;   │ spm partition of 32768 bytes
;   │   vsel spm[0:0x7ffc].f32<0,0,1>, spm[0:0x0].f32<0,0,1>, 1:1x1x2, 0
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
