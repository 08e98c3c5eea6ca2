; `alu` computes ra op (rb + imm): here −7 op (2 + 1), in the order of the table. Division truncates, shifts are
; arithmetic.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim alu.s --values > out
; RUN: not kiln sim zero.s >> out 2>&1
; RUN: expect %s < out
;--- alu.s
.target edge
.output y i32 [12] @0x1000
.engine q0
    li r1, imm=-7
    li r2, imm=2
    alu add, r3, r1, r2, imm=1
    sts r3, spm[0:0x0].i32
    alu sub, r3, r1, r2, imm=1
    sts r3, spm[0:0x4].i32
    alu mul, r3, r1, r2, imm=1
    sts r3, spm[0:0x8].i32
    alu div, r3, r1, r2, imm=1
    sts r3, spm[0:0xc].i32
    alu mod, r3, r1, r2, imm=1
    sts r3, spm[0:0x10].i32
    alu and, r3, r1, r2, imm=1
    sts r3, spm[0:0x14].i32
    alu or, r3, r1, r2, imm=1
    sts r3, spm[0:0x18].i32
    alu xor, r3, r1, r2, imm=1
    sts r3, spm[0:0x1c].i32
    alu shl, r3, r1, r2, imm=1
    sts r3, spm[0:0x20].i32
    alu shr, r3, r1, r2, imm=1
    sts r3, spm[0:0x24].i32
    alu min, r3, r1, r2, imm=1
    sts r3, spm[0:0x28].i32
    alu max, r3, r1, r2, imm=1
    sts r3, spm[0:0x2c].i32
    apset ap0, i32 @0x1000 [1,1,1,12] <12,0,0,1>
    dst ap0, spm[0:0x0].i32
    halt
;--- zero.s
.target edge
.engine ctl
    li r1, imm=3
    alu mod, r2, r1, r0
    halt
; EXPECT
; On edge: 503 cycles, 0.50 µs, 64 B of DRAM traffic
;   q0       29 instructions, busy        32 ticks, waiting         0
; y: i32 [12]
;   -4 -10 -21 -2 -1 1 -5 -6 -56 -1 -7 3
; kiln::sim::trap
;
;   × trap in ctl at word 1 (cycle 1): scalar division by zero
;   │   alu mod, r2, r1, r0
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
