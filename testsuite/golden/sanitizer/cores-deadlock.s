; Core 0 waits at the barrier of all cores, core 1 at that of its row, and an engine of it for what would come behind.
; RUN: not kiln sim %s --sanitize 2>&1 | expect %s
.target chip
.engine col
    bar group=0
    halt
.core 1
.engine col
    bar group=1
    sems sem0, n=1
    halt
.engine act
    semw sem0, n=1
    halt
; EXPECT
; fault: a deadlock: col: waits for the other cores of group 0, of which these have not come: 1; col of core 1: waits for the other cores of group 1, of which these have not come: 0
;   col word 0: bar  [no origin]
;   col of core 1 word 0: bar group=1  [no origin]
;   [kiln::sanitize::deadlock] each engine waits for what only the next one could do: signal a semaphore, or come to a barrier
; Sanitizer: 1 fault, 0 pieces of advice
; kiln::sim::deadlock
;
;   × deadlock at cycle 0:
;   │   col at word 0: bar  [no origin]
;   │     waits for the other cores of group 0, of which these have not come: 1
;   │   col of core 1 at word 0: bar group=1  [no origin]
;   │     waits for the other cores of group 1, of which these have not come: 0
;   │   … and round again
;   help: each engine waits for what only the next one could do: signal a
;         semaphore, or come to a barrier
