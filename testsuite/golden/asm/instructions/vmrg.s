; `vmrg` takes `a` where the mask is not zero, else `b`; a stride of 0 broadcasts.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim vmrg.s --values > out
; RUN: not kiln sim misaligned.s >> out 2>&1
; RUN: expect %s < out
;--- vmrg.s
.target edge
.output y f32 [2,3] @0x1000
.data @0x0 u8 1, 0, 7, 0, 0, 1
.data @0x100 f32 1, 2, 3, 4, nan, 6
.data @0x200 f32 -1, -2
.engine q0
    apset ap0, u8 @0x0 [2,1,1,3] <3,0,0,1>
    dld spm[0:0x0].u8, ap0
    apset ap0, f32 @0x100 [2,1,1,3] <3,0,0,1>
    dld spm[0:0x10].f32, ap0
    apset ap0, f32 @0x200 [2,1,1,1] <1,0,0,1>
    dld spm[0:0x20].f32, ap0
    sems sem0, n=1
    semw sem1, n=1
    apset ap0, f32 @0x1000 [2,1,1,3] <3,0,0,1>
    dst ap0, spm[0:0x40].f32
    halt
.engine vec
    semw sem0, n=1
    vmrg spm[0:0x40].f32, spm[0:0x0].u8, spm[0:0x10].f32, spm[0:0x20].f32<0,0,0>, 2:1x1x3
    sems sem1, n=1
    halt
;--- misaligned.s
.target edge
.data @0x0 u8 1, 0, 7, 0, 0, 1, 2, 3
.engine q0
    apset ap0, u8 @0x0 [1,1,1,8] <8,0,0,1>
    dld spm[0:0x0].u8, ap0
    sems sem0, n=1
    halt
.engine vec
    semw sem0, n=1
    vmrg spm[0:0x42].f32, spm[0:0x0].u8, spm[0:0x4].f32, spm[0:0x4].f32, 1:1x1x1
    halt
; EXPECT
; On edge: 571 cycles, 0.57 µs, 256 B of DRAM traffic
;   vec        4 instructions, busy        21 ticks, waiting       307
;   q0       11 instructions, busy       128 ticks, waiting       233
; y: f32 [2, 3]
;   1 -1 3
;   -2 -2 6
; kiln::sim::trap
;
;   × trap in vec at word 1 (cycle 242): misaligned: f32 at byte 66 of spm
;   │   vmrg spm[0:0x42].f32<0,0,1>, spm[0:0x0].u8<0,0,1>,
;   │ spm[0:0x4].f32<0,0,1>, spm[0:0x4].f32<0,0,1>, 1:1x1x1
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
