; Signals that nothing waits for.
; RUN: not kiln sim %s --sanitize | expect %s
.target edge
.engine vec
    semw sem0, n=1
    halt
.engine act
    sems sem0, n=3
    halt
; EXPECT
; On edge: 5 cycles, 0.01 µs, 0 B of DRAM traffic
;   vec        2 instructions, busy         0 ticks, waiting         4
;   act        2 instructions, busy         0 ticks, waiting         0
; fault: signals that nothing waits for: semaphore 0 ends at 2
;   act word 0: sems sem0, n=3  [no origin]
;   [kiln::sanitize::semaphore_left_over] a wait is missing, or a signal is one too many
; Sanitizer: 1 fault, 0 pieces of advice
