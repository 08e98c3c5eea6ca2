; `halt` ends its stream: what stands behind it is not executed. The other streams go on.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim halt.s --values > out
; RUN: expect %s < out
;--- halt.s
.target edge
.engine ctl
    halt
    trap code=1
.engine col
    nop
    nop
    halt
; EXPECT
; On edge: 2 cycles, 0.00 µs, 0 B of DRAM traffic
;   ctl        1 instructions, busy         0 ticks, waiting         0
;   col        3 instructions, busy         0 ticks, waiting         0
