; The second signal was sent behind the first: waiting for it tells all. That is advice, and no fault.
; RUN: kiln sim %s --sanitize | expect %s
.target edge
.engine vec
    viota spm[0:0x0].f32, 4:1x1x8
    sems sem0, n=1
    sems sem1, n=1
    halt
.engine act
    semw sem0, n=1
    semw sem1, n=1
    act identity, spm[0:0x100].f32, spm[0:0x0].f32, 4:1x1x8
    halt
; EXPECT
; On edge: 76 cycles, 0.08 µs, 0 B of DRAM traffic
;   vec        4 instructions, busy        22 ticks, waiting         0
;   act        4 instructions, busy        48 ticks, waiting        26
; advice: a wait that tells nothing new
;   act word 0: semw sem0, n=1  [no origin]
;   [kiln::sanitize::redundant_wait] other waits tell the stream the same: this one and its signals can go
; Sanitizer: 0 faults, 1 pieces of advice
