; `actr` takes its scale from memory: one for each partition here, and a bias.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim actr.s --values > out
; RUN: not kiln sim unwritten.s >> out 2>&1
; RUN: expect %s < out
;--- actr.s
.target edge
.output y f32 [2,2] @0x1000
.output squares bf16 [2,2] @0x1400
.data @0x0 f32 1, 2, 3, 4
.data @0x100 f32 10, -1
.data @0x200 f32 -15, 3.5
.engine q0
    apset ap0, f32 @0x0 [2,1,1,2] <2,0,0,1>
    dld spm[0:0x0].f32, ap0
    apset ap0, f32 @0x100 [2,1,1,1] <1,0,0,1>
    dld spm[0:0x10].f32, ap0
    apset ap0, f32 @0x200 [2,1,1,1] <1,0,0,1>
    dld spm[0:0x20].f32, ap0
    sems sem0, n=1
    semw sem1, n=1
    apset ap0, f32 @0x1000 [2,1,1,2] <2,0,0,1>
    dst ap0, spm[0:0x40].f32
    apset ap0, bf16 @0x1400 [2,1,1,2] <2,0,0,1>
    dst ap0, spm[0:0x50].bf16
    halt
.engine act
    semw sem0, n=1
    actr relu, spm[0:0x40].f32, spm[0:0x0].f32, spm[0:0x10].f32<0,0,0>, bias=spm[0:0x20].f32<0,0,0>, 2:1x1x2
    actr identity, spm[0:0x50].bf16, spm[0:0x0].f32, spm[0:0x0].f32, 2:1x1x2
    sems sem1, n=1
    halt
;--- unwritten.s
.target edge
.data @0x0 f32 1, 2
.engine q0
    apset ap0, f32 @0x0 [1,1,1,2] <2,0,0,1>
    dld spm[0:0x0].f32, ap0
    sems sem0, n=1
    halt
.engine act
    semw sem0, n=1
    actr relu, spm[0:0x40].f32, spm[0:0x0].f32, spm[0:0x10].f32, 1:1x1x2
    halt
; EXPECT
; On edge: 667 cycles, 0.67 µs, 320 B of DRAM traffic
;   act        5 instructions, busy        84 ticks, waiting       307
;   q0       13 instructions, busy       160 ticks, waiting       296
; y: f32 [2, 2]
;   0 5
;   0.5 0
; squares: bf16 [2, 2]
;   1 4
;   9 16
; kiln::sim::trap
;
;   × trap in act at word 1 (cycle 242): uninitialised read: spm partition 0,
;   │ byte 0x10
;   │   actr relu, spm[0:0x40].f32<0,0,1>, spm[0:0x0].f32<0,0,1>,
;   │ spm[0:0x10].f32<0,0,1>, 1:1x1x2
;   │   from no origin
;   help: an instruction reads before its operand was written: a wait is missing
;         or an address is wrong
