; `vscan` cumulates along the last dim, from a carry, exclusively, in reverse.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim vscan.s --values > out
; RUN: not kiln sim argmax.s >> out 2>&1
; RUN: expect %s < out
;--- vscan.s
.target edge
.output sum f32 [2,4] @0x1000
.output carried f32 [2,4] @0x1400
.output max f32 [2,4] @0x1800
.output prod f32 [2,4] @0x1c00
.data @0x0 f32 1, 2, 3, 4, -1, 5, 0.5, 2
.data @0x100 f32 100, 200
.engine q0
    apset ap0, f32 @0x0 [2,1,1,4] <4,0,0,1>
    dld spm[0:0x0].f32, ap0
    apset ap0, f32 @0x100 [2,1,1,1] <1,0,0,1>
    dld spm[0:0x10].f32, ap0
    sems sem0, n=1
    semw sem1, n=1
    apset ap0, f32 @0x1000 [2,1,1,4] <4,0,0,1>
    dst ap0, spm[0:0x40].f32
    apset ap0, f32 @0x1400 [2,1,1,4] <4,0,0,1>
    dst ap0, spm[0:0x50].f32
    apset ap0, f32 @0x1800 [2,1,1,4] <4,0,0,1>
    dst ap0, spm[0:0x60].f32
    apset ap0, f32 @0x1c00 [2,1,1,4] <4,0,0,1>
    dst ap0, spm[0:0x70].f32
    halt
.engine vec
    semw sem0, n=1
    vscan sum, spm[0:0x40].f32, spm[0:0x0].f32, 2:1x1x4
    vscan sum, spm[0:0x50].f32, spm[0:0x0].f32, carry=spm[0:0x10].f32, 2:1x1x4, exclusive=1
    vscan max, spm[0:0x60].f32, spm[0:0x0].f32, 2:1x1x4, reverse=1
    vscan prod, spm[0:0x70].f32, spm[0:0x0].f32, 2:1x1x4, exclusive=1, reverse=1
    sems sem1, n=1
    halt
;--- argmax.s
.target edge
.data @0x0 f32 1, 2
.engine q0
    apset ap0, f32 @0x0 [1,1,1,2] <2,0,0,1>
    dld spm[0:0x0].f32, ap0
    sems sem0, n=1
    halt
.engine vec
    semw sem0, n=1
    vscan argmax, spm[0:0x40].f32, spm[0:0x0].f32, 1:1x1x2
    halt
; EXPECT
; On edge: 712 cycles, 0.71 µs, 384 B of DRAM traffic
;   vec        7 instructions, busy        96 ticks, waiting       274
;   q0       15 instructions, busy       192 ticks, waiting       308
; sum: f32 [2, 4]
;   1 3 6 10
;   -1 4 4.5 6.5
; carried: f32 [2, 4]
;   100 101 103 106
;   200 199 204 204.5
; max: f32 [2, 4]
;   4 4 4 4
;   5 5 2 2
; prod: f32 [2, 4]
;   24 12 4 1
;   5 1 2 1
; kiln::sim::trap
;
;   × trap in vec at word 1 (cycle 242): this machine does not have cumulating
;   │ argmax or argmin
;   │   vscan argmax, spm[0:0x40].f32<0,0,1>, spm[0:0x0].f32<0,0,1>, 1:1x1x2
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
