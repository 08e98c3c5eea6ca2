; `dst` stores with conversion to the pattern's type: to integers toward zero and saturating, to f8 by nearest even
; (E4M3 has no infinity, E5M2 has).
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim dst.s --values > out
; RUN: not kiln sim twice.s >> out 2>&1
; RUN: not kiln sim unwritten.s >> out 2>&1
; RUN: expect %s < out
;--- dst.s
.target edge
.output i8 i8 [6] @0x1000
.output e4m3 f8e4m3 [6] @0x1400
.output e5m2 f8e5m2 [6] @0x1800
.output f16 f16 [6] @0x1c00
.output bf16 bf16 [6] @0x2000
.data @0x0 f32 1.0625, -2.7, 300, 460, -1e6, 0.001
.engine q0
    apset ap0, f32 @0x0 [1,1,1,6] <6,0,0,1>
    dld spm[0:0x0].f32, ap0
    fence
    apset ap0, i8 @0x1000 [1,1,1,6] <6,0,0,1>
    dst ap0, spm[0:0x0].f32
    apset ap0, f8e4m3 @0x1400 [1,1,1,6] <6,0,0,1>
    dst ap0, spm[0:0x0].f32
    apset ap0, f8e5m2 @0x1800 [1,1,1,6] <6,0,0,1>
    dst ap0, spm[0:0x0].f32
    apset ap0, f16 @0x1c00 [1,1,1,6] <6,0,0,1>
    dst ap0, spm[0:0x0].f32
    apset ap0, bf16 @0x2000 [1,1,1,6] <6,0,0,1>
    dst ap0, spm[0:0x0].f32
    halt
;--- twice.s
.target edge
.dram 64
.data @0x0 f32 1, 2
.engine q0
    apset ap0, f32 @0x0 [1,1,1,2] <0,0,0,1>
    dld spm[0:0x0].f32, ap0
    apset ap0, f32 @0x20 [1,1,1,2] <0,0,0,0>
    dst ap0, spm[0:0x0].f32
    halt
;--- unwritten.s
.target edge
.dram 64
.engine q0
    apset ap0, f32 @0x0 [1,1,1,2] <0,0,0,1>
    dst ap0, spm[0:0x0].f32
    halt
; EXPECT
; On edge: 607 cycles, 0.61 µs, 384 B of DRAM traffic
;   q0       14 instructions, busy       192 ticks, waiting         0
; i8: i8 [6]
;   1 -2 127 127 -128 0
; e4m3: f8e4m3 [6]
;   1 -2.75 288 448 NaN 0.001953125
; e5m2: f8e5m2 [6]
;   1 -2.5 320 448 -inf 0.0009765625
; f16: f16 [6]
;   1.0625 -2.6992188 300 460 -inf 0.0010004044
; bf16: bf16 [6]
;   1.0625 -2.703125 300 460 -999424 0.0009994507
; kiln::sim::trap
;
;   × trap in q0 at word 5 (cycle 34): the operands' extents differ: two
;   │ elements are stored to one address
;   │   dst ap0, spm[0:0x0].f32<0,0,1>
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
;
; kiln::sim::trap
;
;   × trap in q0 at word 2 (cycle 1): uninitialised read: spm partition 0, byte
;   │ 0x0
;   │   dst ap0, spm[0:0x0].f32<0,0,1>
;   │   from no origin
;   help: an instruction reads before its operand was written: a wait is missing
;         or an address is wrong
