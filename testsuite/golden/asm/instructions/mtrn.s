; `mtrn` transposes through the array into the accumulators.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim mtrn.s --values > out
; RUN: not kiln sim scratchpad.s >> out 2>&1
; RUN: not kiln sim absent.s --set has_mtrn=0 >> out 2>&1
; RUN: expect %s < out
;--- mtrn.s
.target edge
.output y f32 [3,2] @0x1000
.data @0x0 f32 1, 2, 3, 10, 20, 30
.engine q0
    apset ap0, f32 @0x0 [2,1,1,3] <3,0,0,1>
    dld spm[0:0x0].f32, ap0
    sems sem0, n=1
    semw sem1, n=1
    apset ap0, f32 @0x1000 [3,1,1,2] <2,0,0,1>
    dst ap0, acc[0:0x0].f32
    halt
.engine mxu
    semw sem0, n=1
    mtrn acc[0:0x0].f32, spm[0:0x0].f32, parts=2, n=3
    sems sem1, n=1
    halt
;--- scratchpad.s
.target edge
.data @0x0 f32 1, 2, 3, 10, 20, 30
.engine q0
    apset ap0, f32 @0x0 [2,1,1,3] <3,0,0,1>
    dld spm[0:0x0].f32, ap0
    sems sem0, n=1
    halt
.engine mxu
    semw sem0, n=1
    mtrn spm[0:0x40].f32, spm[0:0x0].f32, parts=2, n=3
    halt
;--- absent.s
.target edge
.engine mxu
    mtrn acc[0:0x0].f32, spm[0:0x0].f32, parts=2, n=3
    halt
; EXPECT
; On edge: 628 cycles, 0.63 µs, 128 B of DRAM traffic
;   mxu        4 instructions, busy         8 ticks, waiting       241
;   q0        7 instructions, busy        64 ticks, waiting       356
; y: f32 [3, 2]
;   1 10
;   2 20
;   3 30
; kiln::sim::trap
;
;   × trap in mxu at word 1 (cycle 242): this machine does not have transposes
;   │ into the scratchpad
;   │   mtrn spm[0:0x40].f32<0,0,1>, spm[0:0x0].f32<0,0,1>, parts=2, n=3
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
;
; kiln::sim::illegal
;
;   × stream mxu, word 0: target `edge` has no `mtrn`
;   help: the program file is damaged, or for a machine without this instruction
