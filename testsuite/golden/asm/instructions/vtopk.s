; `vtopk` sorts out the k largest or smallest of the last dim, the lower index first among equals; NaN counts as
; largest.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim vtopk.s --values > out
; RUN: not kiln sim short.s >> out 2>&1
; RUN: expect %s < out
;--- vtopk.s
.target edge
.output largest f32 [2,3] @0x1000
.output at i32 [2,3] @0x1400
.output smallest f32 [2,3] @0x1800
.output at_small i32 [2,3] @0x1c00
.data @0x0 f32 1, 3, 3, -2, 0, nan, 4, -inf, 4, inf
.engine q0
    apset ap0, f32 @0x0 [2,1,1,5] <5,0,0,1>
    dld spm[0:0x0].f32, ap0
    sems sem0, n=1
    semw sem1, n=1
    apset ap0, f32 @0x1000 [2,1,1,3] <3,0,0,1>
    dst ap0, spm[0:0x40].f32
    apset ap0, i32 @0x1400 [2,1,1,3] <3,0,0,1>
    dst ap0, spm[0:0x50].i32
    apset ap0, f32 @0x1800 [2,1,1,3] <3,0,0,1>
    dst ap0, spm[0:0x60].f32
    apset ap0, i32 @0x1c00 [2,1,1,3] <3,0,0,1>
    dst ap0, spm[0:0x70].i32
    halt
.engine vec
    semw sem0, n=1
    vtopk spm[0:0x40].f32, spm[0:0x50].i32, spm[0:0x0].f32, 2:1x1x5, k=3
    vtopk spm[0:0x60].f32, spm[0:0x70].i32, spm[0:0x0].f32, 2:1x1x5, k=3, smallest=1
    sems sem1, n=1
    halt
;--- short.s
.target edge
.data @0x0 f32 1, 2
.engine q0
    apset ap0, f32 @0x0 [1,1,1,2] <2,0,0,1>
    dld spm[0:0x0].f32, ap0
    sems sem0, n=1
    halt
.engine vec
    semw sem0, n=1
    vtopk spm[0:0x40].f32, spm[0:0x50].i32, spm[0:0x0].f32, 1:1x1x2, k=3
    halt
; EXPECT
; On edge: 627 cycles, 0.63 µs, 320 B of DRAM traffic
;   vec        5 instructions, busy        44 ticks, waiting       241
;   q0       13 instructions, busy       160 ticks, waiting       256
; largest: f32 [2, 3]
;   3 3 1
;   NaN inf 4
; at: i32 [2, 3]
;   1 2 0
;   0 4 1
; smallest: f32 [2, 3]
;   -2 0 1
;   -inf 4 4
; at_small: i32 [2, 3]
;   3 4 0
;   2 1 3
; kiln::sim::trap
;
;   × trap in vec at word 1 (cycle 242): the operands' extents differ: the 3
;   │ first of 2 elements
;   │   vtopk spm[0:0x40].f32<0,0,1>, spm[0:0x50].i32<0,0,1>,
;   │ spm[0:0x0].f32<0,0,1>, 1:1x1x2, k=3
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
