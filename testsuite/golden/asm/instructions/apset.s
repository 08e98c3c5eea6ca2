; `apset` sets an access pattern: four extents and strides, outermost first. Here every second column of two rows,
; backwards, with a register on top of the base.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim apset.s --values > out
; RUN: not kiln sim outside.s >> out 2>&1
; RUN: expect %s < out
;--- apset.s
.target edge
.output y f32 [2,2] @0x1000
.output z f32 [4] @0x1400
.data @0x0 f32 0, 1, 2, 3, 4, 5, 6, 7
.engine q0
    apset ap0, f32 @0x0 [2,1,1,4] <4,0,0,1>
    dld spm[0:0x0].f32, ap0
    li r1, imm=16
    apset ap15, f32 @0xc [2,1,1,2] <4,0,0,-2>
    dld spm[0:0x40].f32, ap15
    apset ap15, f32 @0x0 [1,2,1,2] <0,2,0,1>
    dld spm[0:0x60].f32<2,0,1>, ap15, reg=r1
    apset ap0, f32 @0x1000 [2,1,1,2] <2,0,0,1>
    dst ap0, spm[0:0x40].f32
    apset ap0, f32 @0x1400 [1,1,1,4] <4,0,0,1>
    dst ap0, spm[0:0x60].f32
    halt
;--- outside.s
.target edge
.dram 64
.engine q0
    apset ap0, f32 @0x30 [1,1,1,5] <0,0,0,1>
    dld spm[0:0x0].f32, ap0
    halt
; EXPECT
; On edge: 379 cycles, 0.38 µs, 512 B of DRAM traffic
;   q0       12 instructions, busy       160 ticks, waiting         0
; y: f32 [2, 2]
;   3 1
;   7 5
; z: f32 [4]
;   4 5 6 7
; kiln::sim::trap
;
;   × trap in q0 at word 2 (cycle 1): out of bounds: DRAM bytes 0x30..0x44 of
;   │ 0x40
;   │   dld spm[0:0x0].f32<0,0,1>, ap0
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
