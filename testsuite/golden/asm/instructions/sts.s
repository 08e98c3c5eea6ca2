; `sts` writes the low bits of a register to one element of its view's first partition.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim sts.s --values > out
; RUN: not kiln sim misaligned.s >> out 2>&1
; RUN: expect %s < out
;--- sts.s
.target edge
.output y u8 [2,4] @0x1000
.engine q0
    li r1, imm=0x12345678
    sts r1, spm[0:0x0].i32
    sts r1, spm[1:0x0].u16
    li r1, imm=-1
    sts r1, spm[1:0x2].u8
    sts r0, spm[1:0x3].u8
    apset ap0, u8 @0x1000 [2,1,1,4] <4,0,0,1>
    dst ap0, spm[0:0x0].u8
    halt
;--- misaligned.s
.target edge
.engine ctl
    sts r1, spm[0:0x2].i32
    halt
; EXPECT
; On edge: 323 cycles, 0.32 µs, 64 B of DRAM traffic
;   q0        9 instructions, busy        32 ticks, waiting         0
; y: u8 [2, 4]
;   120 86 52 18
;   120 86 255 0
; kiln::sim::trap
;
;   × trap in ctl at word 0 (cycle 0): misaligned: i32 at byte 2 of spm
;   │   sts r1, spm[0:0x2].i32<0,0,1>
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
