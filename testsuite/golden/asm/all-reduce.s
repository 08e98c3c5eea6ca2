; Four cores of a chip sum their partial results in the order of their numbers; each stores a row of what all then have.
; ((1e8 + 1) - 1e8) + 1 is 1 in f32, in any other order of the sums it would be 2 or 0.
; RUN: kiln sim %s --values | expect %s
.target chip
.output y f32 [4,2] @0x1000
.engine q0
    dfill spm[0:0x0].f32, 1:1x1x2, 1e8f
    sems sem0, n=1
    semw sem1, n=1
    apset ap0, f32 @0x1000 [1,1,1,2] <2,0,0,1>
    dst ap0, spm[0:0x40].f32
    halt
.engine col
    semw sem0, n=1
    cred sum, spm[0:0x40].f32, spm[0:0x0].f32, 1:1x1x2, group=1
    sems sem1, n=1
    halt
.core 1
.engine q0
    dfill spm[0:0x0].f32, 1:1x1x2, 1.0f
    sems sem0, n=1
    semw sem1, n=1
    apset ap0, f32 @0x1008 [1,1,1,2] <2,0,0,1>
    dst ap0, spm[0:0x40].f32
    halt
.engine col
    semw sem0, n=1
    cred sum, spm[0:0x40].f32, spm[0:0x0].f32, 1:1x1x2, group=1
    sems sem1, n=1
    halt
.core 2
.engine q0
    dfill spm[0:0x0].f32, 1:1x1x2, -1e8f
    sems sem0, n=1
    semw sem1, n=1
    apset ap0, f32 @0x1010 [1,1,1,2] <2,0,0,1>
    dst ap0, spm[0:0x40].f32
    halt
.engine col
    semw sem0, n=1
    cred sum, spm[0:0x40].f32, spm[0:0x0].f32, 1:1x1x2, group=1
    sems sem1, n=1
    halt
.core 3
.engine q0
    dfill spm[0:0x0].f32, 1:1x1x2, 1.0f
    sems sem0, n=1
    semw sem1, n=1
    apset ap0, f32 @0x1018 [1,1,1,2] <2,0,0,1>
    dst ap0, spm[0:0x40].f32
    halt
.engine col
    semw sem0, n=1
    cred sum, spm[0:0x40].f32, spm[0:0x0].f32, 1:1x1x2, group=1
    sems sem1, n=1
    halt
; EXPECT
; On chip: 17853 cycles, 7.44 µs, 256 B of DRAM traffic
;   col       16 instructions, busy         4 ticks, waiting    116488
;   q0       24 instructions, busy      2048 ticks, waiting    115720
; y: f32 [4, 2]
;   1 1
;   1 1
;   1 1
;   1 1
