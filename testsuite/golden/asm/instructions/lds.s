; `lds` reads one element of its view's first partition: integers by sign or zero extension, an f32 as its bits.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim lds.s --values > out
; RUN: not kiln sim unwritten.s >> out 2>&1
; RUN: not kiln sim outside.s >> out 2>&1
; RUN: expect %s < out
;--- lds.s
.target edge
.output y i32 [4] @0x1000
.data @0x0 u8 1, 2, 254, 253
.data @0x100 f32 1.0
.engine q0
    apset ap0, u8 @0x0 [2,1,1,2] <2,0,0,1>
    dld spm[0:0x0].u8, ap0
    apset ap0, f32 @0x100 [1,1,1,1] <1,0,0,1>
    dld spm[0:0x10].f32, ap0
    fence
    lds r1, spm[1:0x0].i8
    lds r2, spm[1:0x1].u8
    lds r3, spm[1:0x0].i16
    lds r4, spm[0:0x10].f32
    sts r1, spm[0:0x40].i32
    sts r2, spm[0:0x44].i32
    sts r3, spm[0:0x48].i32
    sts r4, spm[0:0x4c].i32
    apset ap0, i32 @0x1000 [1,1,1,4] <4,0,0,1>
    dst ap0, spm[0:0x40].i32
    halt
;--- unwritten.s
.target edge
.engine ctl
    lds r1, spm[3:0x8].i32
    halt
;--- outside.s
.target edge
.engine ctl
    lds r1, spm[0:0x8000].i32
    halt
; EXPECT
; On edge: 676 cycles, 0.68 µs, 192 B of DRAM traffic
;   q0       16 instructions, busy        96 ticks, waiting         0
; y: i32 [4]
;   -2 253 -514 1065353216
; kiln::sim::trap
;
;   × trap in ctl at word 0 (cycle 0): uninitialised read: spm partition 3, byte
;   │ 0x8
;   │   lds r1, spm[3:0x8].i32<0,0,1>
;   │   from no origin
;   help: an instruction reads before its operand was written: a wait is missing
;         or an address is wrong
;
; kiln::sim::trap
;
;   × trap in ctl at word 0 (cycle 0): out of bounds: bytes 32768..32772 of a
;   │ spm partition of 32768 bytes
;   │   lds r1, spm[0:0x8000].i32<0,0,1>
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
