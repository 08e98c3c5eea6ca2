; The second message to a slot needs the receiver's word that the first one has been read: its credit.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: not kiln sim missing.s --sanitize > out
; RUN: sed 's/;credit//' missing.s > given.s && kiln sim given.s --sanitize >> out
; RUN: expect %s < out
;--- missing.s
.target chip
.engine q0
    dfill spm[0:0x0].f32, 2:1x1x4, 1.0f
    sems sem0, n=1
    halt
.engine col
    semw sem0, n=1
    cput core=1, spm[0:0x100].f32, spm[0:0x0].f32, 2:1x1x4
    bar
    ;credit bar
    cput core=1, spm[0:0x100].f32, spm[0:0x0].f32, 2:1x1x4
    halt
.core 1
.engine col
    bar
    sems sem0, n=1
    ;credit semw sem1, n=1
    ;credit bar
    halt
.engine act
    semw sem0, n=1
    act identity, spm[0:0x200].f32, spm[0:0x100].f32, 2:1x1x4
    ;credit sems sem1, n=1
    halt
; EXPECT
; On chip: 7367 cycles, 3.07 µs, 0 B of DRAM traffic
;   act        3 instructions, busy       408 ticks, waiting      9996
;   col        8 instructions, busy        12 ticks, waiting     15050
;   q0        3 instructions, busy       256 ticks, waiting         0
; fault: a read races with a write: spm of core 1 partitions 0..2, bytes 0x100..0x110
;   act of core 1 word 1: act identity, spm[0:0x200].f32<0,0,1>, spm[0:0x100].f32<0,0,1>, 2:1x1x4  [no origin]
;   col word 4: cput core=1, spm[0:0x100].f32<0,0,1>, spm[0:0x0].f32<0,0,1>, 2:1x1x4  [no origin]
;   [kiln::sanitize::read_after_write] the reader must wait for a signal that the writer sends afterwards
; Sanitizer: 1 fault, 0 pieces of advice
; On chip: 10041 cycles, 4.18 µs, 0 B of DRAM traffic
;   act        4 instructions, busy       408 ticks, waiting      9996
;   col       11 instructions, busy        20 ticks, waiting     25730
;   q0        3 instructions, busy       256 ticks, waiting         0
; Sanitizer: 0 faults, 0 pieces of advice
