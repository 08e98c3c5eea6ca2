; `mma` multiplies the moving operand by the grid; `cont` continues the chain, `zs` and `zx` are zero points of
; unsigned integers.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim floats.s --values > out
; RUN: kiln sim integers.s --values >> out
; RUN: not kiln sim not_loaded.s >> out 2>&1
; RUN: not kiln sim scratchpad.s >> out 2>&1
; RUN: expect %s < out
;--- floats.s
.target edge
.output y f32 [2,3] @0x1000
.data @0x0 f32 1, 2, 3, 4
.data @0x100 f32 1, 0, 10, 0, 1, 100
.engine q0
    apset ap0, f32 @0x0 [2,1,1,2] <2,0,0,1>
    dld spm[0:0x0].f32, ap0
    apset ap0, f32 @0x100 [2,1,1,3] <3,0,0,1>
    dld spm[0:0x20].f32, ap0
    sems sem0, n=1
    semw sem1, n=1
    apset ap0, f32 @0x1000 [2,1,1,3] <3,0,0,1>
    dst ap0, acc[0:0x0].f32
    halt
.engine mxu
    semw sem0, n=1
    ldw spm[0:0x0].f32, k=2, m=2
    mma acc[0:0x0].f32, spm[0:0x20].f32, k=2, m=2, n2=3
    mma acc[0:0x0].f32, spm[0:0x20].f32<0,0,0>, k=2, m=2, n2=3, cont=1
    sems sem1, n=1
    halt
;--- integers.s
.target edge
.output y i32 [2,2] @0x1000
.data @0x0 u8 1, 2, 3, 4
.data @0x100 u8 2, 3, 0, 255
.engine q0
    apset ap0, u8 @0x0 [2,1,1,2] <2,0,0,1>
    dld spm[0:0x0].u8, ap0
    apset ap0, u8 @0x100 [2,1,1,2] <2,0,0,1>
    dld spm[0:0x20].u8, ap0
    sems sem0, n=1
    semw sem1, n=1
    apset ap0, i32 @0x1000 [2,1,1,2] <2,0,0,1>
    dst ap0, acc[0:0x0].i32
    halt
.engine mxu
    semw sem0, n=1
    ldw spm[0:0x0].u8, k=2, m=2
    mma acc[0:0x0].i32, spm[0:0x20].u8, k=2, m=2, n2=2, zs=1, zx=2
    sems sem1, n=1
    halt
;--- not_loaded.s
.target edge
.data @0x0 f32 1, 2, 3, 4
.engine q0
    apset ap0, f32 @0x0 [2,1,1,2] <2,0,0,1>
    dld spm[0:0x0].f32, ap0
    sems sem0, n=1
    halt
.engine mxu
    semw sem0, n=1
    ldw spm[0:0x0].f32, k=2, m=1
    mma acc[0:0x0].f32, spm[0:0x0].f32, k=2, m=2, n2=2
    halt
;--- scratchpad.s
.target edge
.data @0x0 f32 1, 2, 3, 4
.engine q0
    apset ap0, f32 @0x0 [2,1,1,2] <2,0,0,1>
    dld spm[0:0x0].f32, ap0
    sems sem0, n=1
    halt
.engine mxu
    semw sem0, n=1
    ldw spm[0:0x0].f32, k=2, m=2
    mma spm[0:0x40].f32, spm[0:0x0].f32, k=2, m=2, n2=2
    halt
; EXPECT
; On edge: 811 cycles, 0.81 µs, 192 B of DRAM traffic
;   mxu        6 instructions, busy        26 ticks, waiting       274
;   q0        9 instructions, busy        96 ticks, waiting       506
; y: f32 [2, 3]
;   2 4 311
;   4 6 422
; On edge: 664 cycles, 0.66 µs, 192 B of DRAM traffic
;   mxu        5 instructions, busy         3 ticks, waiting       274
;   q0        9 instructions, busy        96 ticks, waiting       359
; y: i32 [2, 2]
;   -4 506
;   -6 760
; kiln::sim::trap
;
;   × trap in mxu at word 2 (cycle 252): uninitialised read: stationary row 0,
;   │ column 1
;   │   mma acc[0:0x0].f32<0,0,1>, spm[0:0x0].f32<0,0,1>, k=2, m=2, n2=2
;   │   from no origin
;   help: an instruction reads before its operand was written: a wait is missing
;         or an address is wrong
;
; kiln::sim::trap
;
;   × trap in mxu at word 2 (cycle 252): this machine does not have products
;   │ into the scratchpad
;   │   mma spm[0:0x40].f32<0,0,1>, spm[0:0x0].f32<0,0,1>, k=2, m=2, n2=2
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
