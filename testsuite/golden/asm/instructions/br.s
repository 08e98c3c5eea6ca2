; `br` on each condition: a taken branch skips the `alu` that would clear the bit of its condition. Not taken here: ne
; (4) and ge (16).
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim br.s --values > out
; RUN: not kiln sim middle.s >> out 2>&1
; RUN: expect %s < out
;--- br.s
.target edge
.output mask i32 [1] @0x1000
.engine q0
    li r1, imm=-1
    li r2, imm=1
    li r3, imm=31
    br al, r0, r0, a
    alu xor, r3, r3, r0, imm=1
a:
    br eq, r1, r1, b
    alu xor, r3, r3, r0, imm=2
b:
    br ne, r1, r1, c
    alu xor, r3, r3, r0, imm=4
c:
    br lt, r1, r2, d
    alu xor, r3, r3, r0, imm=8
d:
    br ge, r1, r2, e
    alu xor, r3, r3, r0, imm=16
e:
    sts r3, spm[0:0x0].i32
    apset ap0, i32 @0x1000 [1,1,1,1] <1,0,0,1>
    dst ap0, spm[0:0x0].i32
    halt
;--- middle.s
.target edge
.engine ctl
    apset ap0, f32 @0x0 [1,1,1,1] <0,0,0,0>
    br al, r0, r0, @1
    halt
; EXPECT
; On edge: 268 cycles, 0.27 µs, 64 B of DRAM traffic
;   q0       14 instructions, busy        32 ticks, waiting         0
; mask: i32 [1]
;   11
; kiln::sim::trap
;
;   × trap in ctl at word 2 (cycle 1): loop or branch: the target is not the
;   │ first word of an instruction
;   │   br al, r0, r0, @1
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
