; `vred` over the marked dims, ascending; `cont` goes on from the destination (not for arg kinds). NaN wins in max and
; min.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim vred.s --values > out
; RUN: kiln sim integers.s --values >> out
; RUN: not kiln sim continued.s >> out 2>&1
; RUN: expect %s < out
;--- vred.s
.target edge
.output kinds f32 [2,6] @0x1000
.output rows_twice f32 [2,2] @0x1400
.data @0x0 f32 1, 5, -2, 5, 3, nan, -4, 1
.engine q0
    apset ap0, f32 @0x0 [2,1,1,4] <4,0,0,1>
    dld spm[0:0x0].f32, ap0
    sems sem0, n=1
    semw sem1, n=1
    apset ap0, f32 @0x1000 [2,1,1,6] <6,0,0,1>
    dst ap0, spm[0:0x40].f32
    apset ap0, f32 @0x1400 [2,1,1,2] <2,0,0,1>
    dst ap0, spm[0:0x60].f32
    halt
.engine vec
    semw sem0, n=1
    vred sum, spm[0:0x40].f32, spm[0:0x0].f32<0,2,1>, 2:1x2x2, dims=n1n2
    vred prod, spm[0:0x44].f32, spm[0:0x0].f32<0,2,1>, 2:1x2x2, dims=n1n2
    vred max, spm[0:0x48].f32, spm[0:0x0].f32<0,2,1>, 2:1x2x2, dims=n1n2
    vred min, spm[0:0x4c].f32, spm[0:0x0].f32<0,2,1>, 2:1x2x2, dims=n1n2
    vred argmax, spm[0:0x50].f32, spm[0:0x0].f32<0,2,1>, 2:1x2x2, dims=n1n2
    vred argmin, spm[0:0x54].f32, spm[0:0x0].f32<0,2,1>, 2:1x2x2, dims=n1n2
    vred sum, spm[0:0x60].f32<0,1,0>, spm[0:0x0].f32<0,2,1>, 2:1x2x2, dims=n2
    vred sum, spm[0:0x60].f32<0,1,0>, spm[0:0x0].f32<0,2,1>, 2:1x2x2, dims=n2, cont=1
    sems sem1, n=1
    halt
;--- integers.s
.target edge
.output y i32 [2] @0x1000
.data @0x0 i32 2147483647, 1, 5, -9
.engine q0
    apset ap0, i32 @0x0 [1,1,1,4] <4,0,0,1>
    dld spm[0:0x0].i32, ap0
    sems sem0, n=1
    semw sem1, n=1
    apset ap0, i32 @0x1000 [1,1,1,2] <2,0,0,1>
    dst ap0, spm[0:0x40].i32
    halt
.engine vec
    semw sem0, n=1
    vred sum, spm[0:0x40].i32, spm[0:0x0].i32, 1:1x1x4, dims=n2
    vred max, spm[0:0x44].i32, spm[0:0x0].i32, 1:1x1x4, dims=n2
    sems sem1, n=1
    halt
;--- continued.s
.target edge
.data @0x0 f32 1, 2, 3, 4
.engine q0
    apset ap0, f32 @0x0 [1,1,1,4] <4,0,0,1>
    dld spm[0:0x0].f32, ap0
    sems sem0, n=1
    halt
.engine vec
    semw sem0, n=1
    vred argmax, spm[0:0x40].i32, spm[0:0x0].f32, 1:1x1x4, dims=n2, cont=1
    halt
; EXPECT
; On edge: 685 cycles, 0.69 µs, 192 B of DRAM traffic
;   vec       11 instructions, busy       168 ticks, waiting       241
;   q0        9 instructions, busy        96 ticks, waiting       380
; kinds: f32 [2, 6]
;   9 -50 5 -2 1 2
;   NaN NaN NaN NaN 1 1
; rows_twice: f32 [2, 2]
;   12 6
;   NaN -6
; On edge: 526 cycles, 0.53 µs, 128 B of DRAM traffic
;   vec        5 instructions, busy        42 ticks, waiting       241
;   q0        7 instructions, busy        64 ticks, waiting       254
; y: i32 [2]
;   2147483644 2147483647
; kiln::sim::trap
;
;   × trap in vec at word 1 (cycle 242): this machine does not have argmax or
;   │ argmin that continue
;   │   vred argmax, spm[0:0x40].i32<0,0,1>, spm[0:0x0].f32<0,0,1>, 1:1x1x4,
;   │ dims=n2, cont=1
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
