; `sems` adds to a semaphore when all earlier instructions of its stream are complete, 4 cycles later; it does not
; block. A count above 65535 overflows; a semaphore has one producer.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim sems.s --values > out
; RUN: not kiln sim overflow.s >> out 2>&1
; RUN: not kiln sim shared.s >> out 2>&1
; RUN: expect %s < out
;--- sems.s
.target edge
.engine vec
    viota spm[0:0x0].i32, 64:1x1x40
    sems sem0, n=1
    halt
.engine act
    semw sem0, n=1
    halt
;--- overflow.s
.target edge
.engine ctl
    sems sem0, n=65535
    sems sem0, n=1
    halt
;--- shared.s
.target edge
.engine ctl
    sems sem0, n=1
    halt
.engine vec
    sems sem0, n=1
    halt
.engine act
    semw sem0, n=2
    halt
; EXPECT
; On edge: 35 cycles, 0.04 µs, 0 B of DRAM traffic
;   vec        3 instructions, busy        30 ticks, waiting         0
;   act        2 instructions, busy         0 ticks, waiting        34
; kiln::sim::trap
;
;   × trap in ctl at word 1 (cycle 5): semaphore 0 overflows: 65535 + 1
;   │   sems sem0, n=1
;   │   from no origin
;   help: the producer runs ahead without credits from its consumer
;
; kiln::sim::shared_semaphore
;
;   × semaphore 0 has two producers: ctl and vec
;   help: give each pair of a producing and a consuming engine a semaphore of
;         its own
