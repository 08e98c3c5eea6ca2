; `cput` to the own core is a copy that no link takes part in; this machine has one core.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim cput.s --values > out
; RUN: not kiln sim elsewhere.s >> out 2>&1
; RUN: expect %s < out
;--- cput.s
.target edge
.output y f32 [2,2] @0x1000
.data @0x0 f32 1, 2, 3, 4
.engine q0
    apset ap0, f32 @0x0 [2,1,1,2] <2,0,0,1>
    dld spm[0:0x0].f32, ap0
    sems sem0, n=1
    semw sem1, n=1
    apset ap0, f32 @0x1000 [2,1,1,2] <2,0,0,1>
    dst ap0, spm[1:0x40].f32
    halt
.engine col
    semw sem0, n=1
    cput core=0, spm[1:0x40].f32, spm[0:0x0].f32, 2:1x1x2
    sems sem1, n=1
    halt
;--- elsewhere.s
.target edge
.data @0x0 f32 1, 2, 3, 4
.engine q0
    apset ap0, f32 @0x0 [2,1,1,2] <2,0,0,1>
    dld spm[0:0x0].f32, ap0
    sems sem0, n=1
    halt
.engine col
    semw sem0, n=1
    cput core=1, spm[1:0x40].f32, spm[0:0x0].f32, 2:1x1x2
    halt
; EXPECT
; On edge: 500 cycles, 0.50 µs, 128 B of DRAM traffic
;   col        4 instructions, busy        16 ticks, waiting       241
;   q0        7 instructions, busy        64 ticks, waiting       228
; y: f32 [2, 2]
;   1 2
;   3 4
; kiln::sim::trap
;
;   × trap in col at word 1 (cycle 242): this machine does not have another core
;   │   cput core=1, spm[1:0x40].f32<0,0,1>, spm[0:0x0].f32<0,0,1>, 2:1x1x2
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
