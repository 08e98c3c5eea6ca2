; A circle of waits, with all its instructions.
; RUN: not kiln sim %s --sanitize 2>&1 | expect %s
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
; fault: a deadlock: vec: sem0 is 0, needs 1, signalled by act; act: sem1 is 0, needs 1, signalled by vec
;   vec word 0: semw sem0, n=1  [no origin]
;   act word 0: semw sem1, n=1  [no origin]
;   [kiln::sanitize::deadlock] each engine waits for what only the next one could do: signal a semaphore, or come to a barrier
; Sanitizer: 1 fault, 0 pieces of advice
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
