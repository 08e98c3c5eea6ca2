; `vcvt` converts: floats to integers toward zero (`cast`) or to nearest even (`round`), saturating, NaN to 0;
; `nonzero` makes a mask; integers narrow by their low bits; f8 rounds to nearest even.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim floats.s --values > out
; RUN: kiln sim integers.s --values >> out
; RUN: not kiln sim nibbles.s >> out 2>&1
; RUN: expect %s < out
;--- floats.s
.target edge
.output cast i8 [6] @0x1000
.output round i8 [6] @0x1400
.output nonzero u8 [6] @0x1800
.output e4m3 f32 [6] @0x1c00
.output e5m2 f32 [6] @0x2000
.data @0x0 f32 2.5, -2.5, 3.5, 200, nan, 0.0625
.engine q0
    apset ap0, f32 @0x0 [1,1,1,6] <6,0,0,1>
    dld spm[0:0x0].f32, ap0
    sems sem0, n=1
    semw sem1, n=1
    apset ap0, i8 @0x1000 [1,1,1,6] <6,0,0,1>
    dst ap0, spm[0:0x40].i8
    apset ap0, i8 @0x1400 [1,1,1,6] <6,0,0,1>
    dst ap0, spm[0:0x50].i8
    apset ap0, u8 @0x1800 [1,1,1,6] <6,0,0,1>
    dst ap0, spm[0:0x60].u8
    apset ap0, f32 @0x1c00 [1,1,1,6] <6,0,0,1>
    dst ap0, spm[0:0x80].f32
    apset ap0, f32 @0x2000 [1,1,1,6] <6,0,0,1>
    dst ap0, spm[0:0xa0].f32
    halt
.engine vec
    semw sem0, n=1
    vcvt cast, spm[0:0x40].i8, spm[0:0x0].f32, 1:1x1x6
    vcvt round, spm[0:0x50].i8, spm[0:0x0].f32, 1:1x1x6
    vcvt nonzero, spm[0:0x60].u8, spm[0:0x0].f32, 1:1x1x6
    vcvt cast, spm[0:0x70].f8e4m3, spm[0:0x0].f32, 1:1x1x6
    vcvt cast, spm[0:0x80].f32, spm[0:0x70].f8e4m3, 1:1x1x6
    vcvt cast, spm[0:0x70].f8e5m2, spm[0:0x0].f32, 1:1x1x6
    vcvt cast, spm[0:0xa0].f32, spm[0:0x70].f8e5m2, 1:1x1x6
    sems sem1, n=1
    halt
;--- integers.s
.target edge
.output i8 i8 [4] @0x1000
.output u16 u16 [4] @0x1400
.output f16 f16 [4] @0x1800
.data @0x0 i32 300, -1, 65536, 2049
.engine q0
    apset ap0, i32 @0x0 [1,1,1,4] <4,0,0,1>
    dld spm[0:0x0].i32, ap0
    sems sem0, n=1
    semw sem1, n=1
    apset ap0, i8 @0x1000 [1,1,1,4] <4,0,0,1>
    dst ap0, spm[0:0x40].i8
    apset ap0, u16 @0x1400 [1,1,1,4] <4,0,0,1>
    dst ap0, spm[0:0x50].u16
    apset ap0, f16 @0x1800 [1,1,1,4] <4,0,0,1>
    dst ap0, spm[0:0x60].f16
    halt
.engine vec
    semw sem0, n=1
    vcvt cast, spm[0:0x40].i8, spm[0:0x0].i32, 1:1x1x4
    vcvt cast, spm[0:0x50].u16, spm[0:0x0].i32, 1:1x1x4
    vcvt cast, spm[0:0x60].f16, spm[0:0x0].i32, 1:1x1x4
    sems sem1, n=1
    halt
;--- nibbles.s
.target edge
.data @0x0 i32 1, 2
.engine q0
    apset ap0, i32 @0x0 [1,1,1,2] <2,0,0,1>
    dld spm[0:0x0].i32, ap0
    sems sem0, n=1
    halt
.engine vec
    semw sem0, n=1
    vcvt cast, spm[0:0x40].i4, spm[0:0x0].i32, 1:1x1x2
    halt
; EXPECT
; On edge: 770 cycles, 0.77 µs, 384 B of DRAM traffic
;   vec       10 instructions, busy       154 ticks, waiting       241
;   q0       15 instructions, busy       192 ticks, waiting       366
; cast: i8 [6]
;   2 -2 3 127 0 0
; round: i8 [6]
;   2 -2 4 127 0 0
; nonzero: u8 [6]
;   1 1 1 1 1 1
; e4m3: f32 [6]
;   2.5 -2.5 3.5 192 NaN 0.0625
; e5m2: f32 [6]
;   2.5 -2.5 3.5 192 NaN 0.0625
; On edge: 613 cycles, 0.61 µs, 256 B of DRAM traffic
;   vec        6 instructions, busy        63 ticks, waiting       241
;   q0       11 instructions, busy       128 ticks, waiting       275
; i8: i8 [4]
;   44 -1 0 1
; u16: u16 [4]
;   300 65535 0 2049
; f16: f16 [4]
;   300 -1 inf 2048
; kiln::sim::trap
;
;   × trap in vec at word 1 (cycle 242): i4 cannot be used here
;   │   vcvt cast, spm[0:0x40].i4<0,0,1>, spm[0:0x0].i32<0,0,1>, 1:1x1x2
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
