; `endl` closes the innermost loop at no cost: li, loop and 3 × nop are 5 cycles.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim endl.s --values > out
; RUN: not kiln sim open.s >> out 2>&1
; RUN: expect %s < out
;--- endl.s
.target edge
.engine ctl
    li r1, imm=1
    loop count=2, rc=r1, end
    nop
end:
    endl
    halt
;--- open.s
.target edge
.engine ctl
    endl
    halt
; EXPECT
; On edge: 5 cycles, 0.01 µs, 0 B of DRAM traffic
;   ctl        9 instructions, busy         0 ticks, waiting         0
; kiln::sim::trap
;
;   × trap in ctl at word 0 (cycle 0): loop or branch: no loop is open
;   │   endl
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
