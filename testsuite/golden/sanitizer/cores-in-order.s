; A message, a reduction and a barrier in order: nothing is told.
; RUN: kiln sim %s --sanitize | expect %s
.target chip
.engine q0
    dfill spm[0:0x0].f32, 1:1x1x2, 1.0f
    sems sem0, n=1
    semw sem1, n=1
    dmv spm[0:0x80].f32, spm[0:0x40].f32, 1:1x1x2
    halt
.engine col
    semw sem0, n=1
    cred sum, spm[0:0x40].f32, spm[0:0x0].f32, 1:1x1x2
    cput core=1, spm[0:0x0].f32, spm[0:0x40].f32, 1:1x1x2
    sems sem1, n=1
    bar
    halt
.core 1
.engine q0
    dfill spm[0:0x0].f32, 1:1x1x2, 2.0f
    sems sem0, n=1
    semw sem1, n=1
    dmv spm[0:0x80].f32, spm[0:0x0].f32, 1:1x1x2
    halt
.engine col
    semw sem0, n=1
    cred sum, spm[0:0x40].f32, spm[0:0x0].f32, 1:1x1x2
    bar
    sems sem1, n=1
    halt
; EXPECT
; On chip: 9928 cycles, 4.14 µs, 0 B of DRAM traffic
;   col       11 instructions, busy        11 ticks, waiting     34245
;   q0       10 instructions, busy      1024 ticks, waiting     33866
; Sanitizer: 0 faults, 0 pieces of advice
