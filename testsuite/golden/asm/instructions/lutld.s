; `lutld` loads a table: low end, reciprocal of the step, 256 knots. Here x² at −8, −7.9375, …: linear between the
; knots and beyond the ends.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim lutld.s --values > out
; RUN: not kiln sim short.s >> out 2>&1
; RUN: expect %s < out
;--- lutld.s
.target edge
.output y f32 [6] @0x1000
.data @0x0 f32 -8, 16
.data @0x800 f32 -8, 0.03125, -9, 0, 7.9375, 100
.dram 0x2000
.engine vec
    viota spm[0:0x0].f32, 1:1x1x256, base=-128, c2=1
    vts mul, spm[0:0x0].f32, spm[0:0x0].f32, 0.0625f, 1:1x1x256
    vtt mul, spm[0:0x0].f32, spm[0:0x0].f32, spm[0:0x0].f32, 1:1x1x256
    sems sem0, n=1
    halt
.engine q0
    semw sem0, n=1
    apset ap0, f32 @0x8 [1,1,1,256] <0,0,0,1>
    dst ap0, spm[0:0x0].f32
    apset ap0, f32 @0x800 [1,1,1,6] <0,0,0,1>
    dld spm[0:0x800].f32, ap0
    sems sem1, n=1
    semw sem2, n=1
    apset ap0, f32 @0x1000 [1,1,1,6] <0,0,0,1>
    dst ap0, spm[0:0x820].f32
    halt
.engine act
    semw sem1, n=1
    apset ap0, f32 @0x0 [1,1,1,258] <0,0,0,1>
    lutld lut3, ap0
    act lut, spm[0:0x820].f32, spm[0:0x800].f32, 1:1x1x6
    sems sem2, n=1
    halt
;--- short.s
.target edge
.data @0x0 f32 1, 2
.engine act
    apset ap0, f32 @0x0 [1,1,1,2] <0,0,0,1>
    lutld lut0, ap0
    halt
; EXPECT
; On edge: 1127 cycles, 1.13 µs, 2.2 KiB of DRAM traffic
;   vec        5 instructions, busy       252 ticks, waiting         0
;   act        6 instructions, busy       110 ticks, waiting       587
;   q0       10 instructions, busy       125 ticks, waiting       821
; y: f32 [6]
;   64 0.001953125 79.9375 0 63.003906 1518.7422
; kiln::sim::trap
;
;   × trap in act at word 2 (cycle 1): the operands' extents differ: a lookup
;   │ table is 258 f32
;   │   lutld lut0, ap0
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
