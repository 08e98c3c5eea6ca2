; The consumer keeps up this time; nothing makes it.
; RUN: not kiln sim %s --sanitize | expect %s
.target edge
.engine vec
    loop count=70000, end
    sems sem0, n=1
    nop
end: endl
    halt
.engine act
    loop count=70000, end
    semw sem0, n=1
end: endl
    halt
; EXPECT
; On edge: 140004 cycles, 140.00 µs, 0 B of DRAM traffic
;   vec   210002 instructions, busy         0 ticks, waiting         0
;   act   140002 instructions, busy         0 ticks, waiting     70003
; fault: a semaphore that may overflow: semaphore 0 may count to 65536 (4465 times)
;   vec word 1: sems sem0, n=1  [no origin]
;   [kiln::sanitize::semaphore_overflow] let the producer wait for credits that its consumer gives back
; Sanitizer: 1 fault, 0 pieces of advice
