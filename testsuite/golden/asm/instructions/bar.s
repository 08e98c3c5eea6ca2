; `bar` waits for every core of its group: of one core, for none.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim bar.s --values > out
; RUN: not kiln sim group.s >> out 2>&1
; RUN: expect %s < out
;--- bar.s
.target edge
.engine col
    bar
    csr r1, cycle
    halt
;--- group.s
.target edge
.engine col
    bar group=3
    halt
; EXPECT
; On edge: 2 cycles, 0.00 µs, 0 B of DRAM traffic
;   col        3 instructions, busy         1 ticks, waiting         0
; kiln::sim::trap
;
;   × trap in col at word 0 (cycle 0): this machine does not have another group
;   │ of cores than 0 (all), 1 (its row) and 2 (its column)
;   │   bar group=3
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
