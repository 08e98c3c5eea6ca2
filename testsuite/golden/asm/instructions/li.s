; `li` sets a register; r0 stays 0. Stores take the low bits.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim li.s --values > out
; RUN: expect %s < out
;--- li.s
.target edge
.output y i32 [3] @0x1000
.engine q0
    li r1, imm=-5
    li r2, imm=0x100000007
    li r0, imm=9
    sts r1, spm[0:0x0].i32
    sts r2, spm[0:0x4].i32
    sts r0, spm[0:0x8].i32
    apset ap0, i32 @0x1000 [1,1,1,3] <3,0,0,1>
    dst ap0, spm[0:0x0].i32
    halt
; EXPECT
; On edge: 303 cycles, 0.30 µs, 64 B of DRAM traffic
;   q0        9 instructions, busy        32 ticks, waiting         0
; y: i32 [3]
;   -5 7 0
