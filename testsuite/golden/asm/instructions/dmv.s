; `dmv` moves on chip between any partitions and memories, with conversion. The operands may not overlap.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim dmv.s --values > out
; RUN: not kiln sim overlap.s >> out 2>&1
; RUN: expect %s < out
;--- dmv.s
.target edge
.output y i32 [3] @0x1000
.data @0x0 f32 1.5, 2.5, 3.5, -4.5, 5.5, 1e10
.engine q0
    apset ap0, f32 @0x0 [2,1,1,3] <3,0,0,1>
    dld spm[0:0x0].f32, ap0
    dmv acc[8:0x0].f32, spm[0:0x0].f32, 2:1x1x3
    dmv spm[1:0x20].i32, acc[8:0x0].f32<0,0,-1>, 1:1x1x1
    dmv spm[1:0x24].i32, acc[9:0x4].f32, 1:1x1x2
    apset ap0, i32 @0x1000 [1,1,1,3] <3,0,0,1>
    dst ap0, spm[1:0x20].i32
    halt
;--- overlap.s
.target edge
.data @0x0 f32 1, 2, 3
.engine q0
    apset ap0, f32 @0x0 [1,1,1,3] <0,0,0,1>
    dld spm[0:0x0].f32, ap0
    dmv spm[0:0x4].f32, spm[0:0x0].f32, 1:1x1x2
    halt
; EXPECT
; On edge: 366 cycles, 0.37 µs, 128 B of DRAM traffic
;   q0        8 instructions, busy       160 ticks, waiting         0
; y: i32 [3]
;   1 5 2147483647
; kiln::sim::trap
;
;   × trap in q0 at word 3 (cycle 33): the operands' extents differ: source and
;   │ destination overlap
;   │   dmv spm[0:0x4].f32<0,0,1>, spm[0:0x0].f32<0,0,1>, 1:1x1x2
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
