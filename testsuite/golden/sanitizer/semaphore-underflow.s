; A wait that no signal is left for.
; RUN: not kiln sim %s --sanitize 2>&1 | expect %s
.target edge
.engine vec
    semw sem0, n=2
    halt
.engine act
    sems sem0, n=1
    halt
; EXPECT
; fault: a wait that nothing will signal: vec: sem0 is 1, needs 2, signalled by act
;   vec word 0: semw sem0, n=2  [no origin]
;   [kiln::sanitize::semaphore_underflow] a signal is missing, or a wait is one too many
; Sanitizer: 1 fault, 0 pieces of advice
; kiln::sim::deadlock
;
;   × deadlock at cycle 4:
;   │   vec at word 0: semw sem0, n=2  [no origin]
;   │     sem0 is 1, needs 2, signalled by act
;   │   … and nothing will signal it
;   help: each engine waits for what only the next one could do: signal a
;         semaphore, or come to a barrier
