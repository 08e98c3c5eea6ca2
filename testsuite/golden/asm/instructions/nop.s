; `nop` takes one cycle of its own stream and nothing of the others: the longer stream decides.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim nop.s --values > out
; RUN: expect %s < out
;--- nop.s
.target edge
.engine ctl
    nop
    nop
    nop
    halt
.engine vec
    nop
    nop
    nop
    nop
    nop
    halt
; EXPECT
; On edge: 5 cycles, 0.01 µs, 0 B of DRAM traffic
;   ctl        4 instructions, busy         0 ticks, waiting         0
;   vec        6 instructions, busy         0 ticks, waiting         0
