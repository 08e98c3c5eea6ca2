; `semw` blocks until the semaphore counts n, then subtracts n. When every stream waits, the cycle is told.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim semw.s --values > out
; RUN: not kiln sim deadlock.s >> out 2>&1
; RUN: expect %s < out
;--- semw.s
.target edge
.engine ctl
    nop
    nop
    sems sem3, n=1
    sems sem3, n=2
    halt
.engine vec
    semw sem3, n=3
    halt
;--- deadlock.s
.target edge
.engine vec
    semw sem0, n=1
    sems sem1, n=1
    halt
.engine act
    semw sem1, n=1
    sems sem0, n=1
    halt
; EXPECT
; On edge: 8 cycles, 0.01 µs, 0 B of DRAM traffic
;   ctl        5 instructions, busy         0 ticks, waiting         0
;   vec        2 instructions, busy         0 ticks, waiting         7
; kiln::sim::deadlock
;
;   × deadlock at cycle 0:
;   │   vec at word 0: semw sem0, n=1  [no origin]
;   │     sem0 is 0, needs 1, signalled by act
;   │   act at word 0: semw sem1, n=1  [no origin]
;   │     sem1 is 0, needs 1, signalled by vec
;   │   … and round again
;   help: each engine waits for what only the next one could do: signal a
;         semaphore, or come to a barrier
