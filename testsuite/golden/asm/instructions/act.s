; `act` applies each function, in the order of the table, to −1.5, 0, 2 and NaN; then f(round(scale·x) + bias) with
; the sum of the results, before they round to f16, continued by `sumc`.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim functions.s --values > out
; RUN: kiln sim sums.s --values >> out
; RUN: not kiln sim no_table.s >> out 2>&1
; RUN: expect %s < out
;--- functions.s
.target edge
.output y f32 [23,4] @0x1000
.data @0x0 f32 -1.5, 0, 2, nan
.engine q0
    apset ap0, f32 @0x0 [1,1,1,4] <4,0,0,1>
    dld spm[0:0x0].f32, ap0
    sems sem0, n=1
    semw sem1, n=1
    apset ap0, f32 @0x1000 [1,1,23,4] <0,0,4,1>
    dst ap0, spm[0:0x40].f32<0,4,1>
    halt
.engine act
    semw sem0, n=1
    act identity, spm[0:0x40].f32, spm[0:0x0].f32, 1:1x1x4
    act exp, spm[0:0x50].f32, spm[0:0x0].f32, 1:1x1x4
    act log, spm[0:0x60].f32, spm[0:0x0].f32, 1:1x1x4
    act sqrt, spm[0:0x70].f32, spm[0:0x0].f32, 1:1x1x4
    act rsqrt, spm[0:0x80].f32, spm[0:0x0].f32, 1:1x1x4
    act reciprocal, spm[0:0x90].f32, spm[0:0x0].f32, 1:1x1x4
    act tanh, spm[0:0xa0].f32, spm[0:0x0].f32, 1:1x1x4
    act erf, spm[0:0xb0].f32, spm[0:0x0].f32, 1:1x1x4
    act sigmoid, spm[0:0xc0].f32, spm[0:0x0].f32, 1:1x1x4
    act sin, spm[0:0xd0].f32, spm[0:0x0].f32, 1:1x1x4
    act cos, spm[0:0xe0].f32, spm[0:0x0].f32, 1:1x1x4
    act softplus, spm[0:0xf0].f32, spm[0:0x0].f32, 1:1x1x4
    act relu, spm[0:0x100].f32, spm[0:0x0].f32, 1:1x1x4
    act square, spm[0:0x110].f32, spm[0:0x0].f32, 1:1x1x4
    act abs, spm[0:0x120].f32, spm[0:0x0].f32, 1:1x1x4
    act neg, spm[0:0x130].f32, spm[0:0x0].f32, 1:1x1x4
    act sign, spm[0:0x140].f32, spm[0:0x0].f32, 1:1x1x4
    act floor, spm[0:0x150].f32, spm[0:0x0].f32, 1:1x1x4
    act ceil, spm[0:0x160].f32, spm[0:0x0].f32, 1:1x1x4
    act round, spm[0:0x170].f32, spm[0:0x0].f32, 1:1x1x4
    act not, spm[0:0x180].f32, spm[0:0x0].f32, 1:1x1x4
    act is_nan, spm[0:0x190].f32, spm[0:0x0].f32, 1:1x1x4
    act is_inf, spm[0:0x1a0].f32, spm[0:0x0].f32, 1:1x1x4
    sems sem1, n=1
    halt
;--- sums.s
.target edge
.output y f16 [2,2] @0x1000
.output sums f32 [2,1] @0x1400
.data @0x0 f32 0, 2, 4, 6
.data @0x100 f32 0, -2
.engine q0
    apset ap0, f32 @0x0 [2,1,1,2] <2,0,0,1>
    dld spm[0:0x0].f32, ap0
    apset ap0, f32 @0x100 [2,1,1,1] <1,0,0,1>
    dld spm[0:0x10].f32, ap0
    sems sem0, n=1
    semw sem1, n=1
    apset ap0, f16 @0x1000 [2,1,1,2] <2,0,0,1>
    dst ap0, spm[0:0x40].f16
    apset ap0, f32 @0x1400 [2,1,1,1] <1,0,0,1>
    dst ap0, spm[0:0x50].f32
    halt
.engine act
    semw sem0, n=1
    act exp, spm[0:0x40].f16, spm[0:0x0].f32, bias=spm[0:0x10].f32<0,0,0>, sum=spm[0:0x50].f32, over=n2, scale=0.5, 2:1x1x2
    act identity, spm[0:0x60].f32, spm[0:0x0].f32, sum=spm[0:0x50].f32, over=n2, sumc=1, 2:1x1x2
    sems sem1, n=1
    halt
;--- no_table.s
.target edge
.data @0x0 f32 1, 2
.engine q0
    apset ap0, f32 @0x0 [1,1,1,2] <2,0,0,1>
    dld spm[0:0x0].f32, ap0
    sems sem0, n=1
    halt
.engine act
    semw sem0, n=1
    act lut, spm[0:0x40].f32, spm[0:0x0].f32, 1:1x1x2
    halt
; EXPECT
; On edge: 1515 cycles, 1.51 µs, 448 B of DRAM traffic
;   act       26 instructions, busy      1012 ticks, waiting       241
;   q0        7 instructions, busy        64 ticks, waiting      1224
; y: f32 [23, 4]
;   -1.5 0 2 NaN
;   0.22313017 1 7.389056 NaN
;   NaN -inf 0.6931472 NaN
;   NaN 0 1.4142135 NaN
;   NaN inf 0.70710677 NaN
;   -0.6666667 inf 0.5 NaN
;   -0.90514827 0 0.9640276 NaN
;   -0.96610516 0 0.9953223 NaN
;   0.18242553 0.5 0.8807971 NaN
;   -0.997495 0 0.9092974 NaN
;   0.0707372 1 -0.41614684 NaN
;   0.20141329 0.6931472 2.126928 NaN
;   0 0 2 NaN
;   2.25 0 4 NaN
;   1.5 0 2 NaN
;   1.5 -0 -2 NaN
;   -1 0 1 NaN
;   -2 0 2 NaN
;   -1 0 2 NaN
;   -2 0 2 NaN
;   0 1 0 0
;   0 0 0 1
;   0 0 0 0
; On edge: 634 cycles, 0.63 µs, 256 B of DRAM traffic
;   act        5 instructions, busy        84 ticks, waiting       274
;   q0       11 instructions, busy       128 ticks, waiting       296
; y: f16 [2, 2]
;   1 2.71875
;   1 2.71875
; sums: f32 [2, 1]
;   5.7182817
;   13.718282
; kiln::sim::trap
;
;   × trap in act at word 1 (cycle 242): this machine does not have a lookup
;   │ table: none was loaded
;   │   act lut, spm[0:0x40].f32<0,0,1>, spm[0:0x0].f32<0,0,1>, 1:1x1x2
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
