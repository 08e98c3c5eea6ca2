; A message is there when its sender knows it; the receiver has to meet the sender behind it.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: not kiln sim race.s --sanitize > out
; RUN: sed 's/nop/bar/' race.s > ordered.s && kiln sim ordered.s --sanitize >> out
; RUN: expect %s < out
;--- race.s
.target chip
.origin "sum|ReduceSum"
.engine col
.from 0:1
    semw sem1, n=1
    cput core=1, spm[0:0x100].f32, spm[0:0x0].f32, 2:1x1x4
    nop
    halt
.engine q0
    dfill spm[0:0x0].f32, 2:1x1x4, 1.0f
    sems sem1, n=1
    halt
.core 1
.engine col
    nop
    sems sem0, n=1
    halt
.engine act
    loop count=5000, end
    csr r1, cycle
end: endl
    semw sem0, n=1
    act identity, spm[0:0x200].f32, spm[0:0x100].f32, 2:1x1x4
    halt
; EXPECT
; On chip: 10208 cycles, 4.25 µs, 0 B of DRAM traffic
;   act    10004 instructions, busy       408 ticks, waiting         0
;   col        7 instructions, busy         2 ticks, waiting       322
;   q0        3 instructions, busy       256 ticks, waiting         0
; fault: a read races with a write: spm of core 1 partitions 0..2, bytes 0x100..0x110
;   act of core 1 word 4: act identity, spm[0:0x200].f32<0,0,1>, spm[0:0x100].f32<0,0,1>, 2:1x1x4  [no origin]
;   col word 1: cput core=1, spm[0:0x100].f32<0,0,1>, spm[0:0x0].f32<0,0,1>, 2:1x1x4  [sum|ReduceSum]
;   [kiln::sanitize::read_after_write] the reader must wait for a signal that the writer sends afterwards
; Sanitizer: 1 fault, 0 pieces of advice
; On chip: 10208 cycles, 4.25 µs, 0 B of DRAM traffic
;   act    10004 instructions, busy       408 ticks, waiting         0
;   col        7 instructions, busy        10 ticks, waiting     15050
;   q0        3 instructions, busy       256 ticks, waiting         0
; Sanitizer: 0 faults, 0 pieces of advice
