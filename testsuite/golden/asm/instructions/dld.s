; `dld` loads with conversion: a stride of 0 repeats an element in every place; 4-bit elements come low nibble first;
; f8 is exact in f32.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim strides.s --values > out
; RUN: kiln sim nibbles.s --values >> out
; RUN: not kiln sim unwritten.s >> out 2>&1
; RUN: expect %s < out
;--- strides.s
.target edge
.output rows f32 [3,4] @0x1000
.output twice i32 [2,4] @0x1400
.data @0x0 f32 1.5, -2.5, 3, 4
.engine q0
    apset ap0, f32 @0x0 [3,1,1,4] <0,0,0,1>
    dld spm[0:0x40].f32, ap0
    apset ap0, f32 @0x0 [2,1,2,2] <2,0,0,1>
    dld spm[0:0x60].i32<0,2,1>, ap0
    apset ap0, f32 @0x1000 [3,1,1,4] <4,0,0,1>
    dst ap0, spm[0:0x40].f32
    apset ap0, i32 @0x1400 [2,1,1,4] <4,0,0,1>
    dst ap0, spm[0:0x60].i32
    halt
;--- nibbles.s
.target edge
.output i4 i8 [2,4] @0x1000
.output u4 f32 [2,4] @0x1400
.output e4m3 f32 [2,2] @0x1800
.output e5m2 f32 [2,2] @0x1c00
.blob 21f3785c
.image @0x0 row=4 blob=0
.engine q0
    apset ap0, i4 @0x0 [2,1,1,4] <4,0,0,1>
    dld spm[0:0x0].i8, ap0
    apset ap0, u4 @0x0 [2,1,1,4] <4,0,0,1>
    dld spm[0:0x20].f32, ap0
    apset ap0, f8e4m3 @0x0 [2,1,1,2] <2,0,0,1>
    dld spm[0:0x40].f32, ap0
    apset ap0, f8e5m2 @0x0 [2,1,1,2] <2,0,0,1>
    dld spm[0:0x60].f32, ap0
    apset ap0, i8 @0x1000 [2,1,1,4] <4,0,0,1>
    dst ap0, spm[0:0x0].i8
    apset ap0, f32 @0x1400 [2,1,1,4] <4,0,0,1>
    dst ap0, spm[0:0x20].f32
    apset ap0, f32 @0x1800 [2,1,1,2] <2,0,0,1>
    dst ap0, spm[0:0x40].f32
    apset ap0, f32 @0x1c00 [2,1,1,2] <2,0,0,1>
    dst ap0, spm[0:0x60].f32
    halt
;--- unwritten.s
.target edge
.dram 64
.engine q0
    apset ap0, f32 @0x0 [1,1,1,4] <0,0,0,1>
    dld spm[0:0x0].f32, ap0
    halt
; EXPECT
; On edge: 336 cycles, 0.34 µs, 256 B of DRAM traffic
;   q0        9 instructions, busy       128 ticks, waiting         0
; rows: f32 [3, 4]
;   1.5 -2.5 3 4
;   1.5 -2.5 3 4
;   1.5 -2.5 3 4
; twice: i32 [2, 4]
;   1 -2 1 -2
;   3 4 3 4
; On edge: 468 cycles, 0.47 µs, 512 B of DRAM traffic
;   q0       17 instructions, busy       256 ticks, waiting         0
; i4: i8 [2, 4]
;   1 2 3 -1
;   -8 7 -4 5
; u4: f32 [2, 4]
;   1 2 3 15
;   8 7 12 5
; e4m3: f32 [2, 2]
;   0.140625 -176
;   256 24
; e5m2: f32 [2, 2]
;   0.009765625 -14336
;   32768 256
; kiln::sim::trap
;
;   × trap in q0 at word 2 (cycle 1): uninitialised read: DRAM byte 0x0
;   │   dld spm[0:0x0].f32<0,0,1>, ap0
;   │   from no origin
;   help: an instruction reads before its operand was written: a wait is missing
;         or an address is wrong
