; `loop` runs its body count + rc times and steps its registers, which have their old values afterwards; with none
; left it skips.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim loop.s --values > out
; RUN: not kiln sim end.s >> out 2>&1
; RUN: not kiln sim deep.s >> out 2>&1
; RUN: expect %s < out
;--- loop.s
.target edge
.output sum_and_r1 i32 [2] @0x1000
.engine q0
    li r1, imm=100
    li r2, imm=-2
    li r5, imm=0
    loop count=2, outer, step=r1:10
    loop count=5, rc=r2, inner, step=r1:1
    alu add, r5, r5, r1
inner:
    endl
outer:
    endl
    loop rc=r2, none, step=r1:1
    trap code=1
none:
    endl
    sts r5, spm[0:0x0].i32
    sts r1, spm[0:0x4].i32
    apset ap0, i32 @0x1000 [1,1,1,2] <2,0,0,1>
    dst ap0, spm[0:0x0].i32
    halt
;--- end.s
.target edge
.engine ctl
    loop count=2, @1
    nop
    endl
    halt
;--- deep.s
.target edge
.engine ctl
    loop count=1, end0
    loop count=1, end1
    loop count=1, end2
    loop count=1, end3
    loop count=1, end4
    loop count=1, end5
    loop count=1, end6
    loop count=1, end7
    loop count=1, end8
    nop
end8:
    endl
end7:
    endl
end6:
    endl
end5:
    endl
end4:
    endl
end3:
    endl
end2:
    endl
end1:
    endl
end0:
    endl
    halt
; EXPECT
; On edge: 292 cycles, 0.29 µs, 64 B of DRAM traffic
;   q0       26 instructions, busy        32 ticks, waiting         0
; sum_and_r1: i32 [2]
;   636 100
; kiln::sim::trap
;
;   × trap in ctl at word 0 (cycle 0): loop or branch: the loop's end is no
;   │ `endl` after it
;   │   loop count=2, @1
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
;
; kiln::sim::trap
;
;   × trap in ctl at word 8 (cycle 8): loop or branch: more than 8 loops deep
;   │   loop count=1, @10
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
