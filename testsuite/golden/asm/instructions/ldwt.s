; `ldwt` loads the transpose: the view has the output dim on partitions and the contracted dim free. Same product as
; in ldw.s.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim ldwt.s --values > out
; RUN: not kiln sim absent.s --set has_ldwt=0 >> out 2>&1
; RUN: expect %s < out
;--- ldwt.s
.target edge
.output y f32 [3,2] @0x1000
.data @0x0 f32 1, 10, 2, 20, 3, 30
.data @0x100 f32 1, 0.5, 1, -1
.engine q0
    apset ap0, f32 @0x0 [3,1,1,2] <2,0,0,1>
    dld spm[0:0x0].f32, ap0
    apset ap0, f32 @0x100 [2,1,1,2] <2,0,0,1>
    dld spm[0:0x20].f32, ap0
    sems sem0, n=1
    semw sem1, n=1
    apset ap0, f32 @0x1000 [3,1,1,2] <2,0,0,1>
    dst ap0, acc[1:0x0].f32
    halt
.engine mxu
    semw sem0, n=1
    ldwt spm[0:0x0].f32, k=2, m=3, row=0, col=1
    mma acc[1:0x0].f32, spm[0:0x20].f32, k=2, m=3, n2=2
    sems sem1, n=1
    halt
;--- absent.s
.target edge
.data @0x0 f32 1, 10, 2, 20, 3, 30
.engine q0
    apset ap0, f32 @0x0 [3,1,1,2] <2,0,0,1>
    dld spm[0:0x0].f32, ap0
    sems sem0, n=1
    halt
.engine mxu
    semw sem0, n=1
    ldwt spm[0:0x0].f32, k=2, m=3
    halt
; EXPECT
; On edge: 672 cycles, 0.67 µs, 192 B of DRAM traffic
;   mxu        5 instructions, busy        11 ticks, waiting       274
;   q0        9 instructions, busy        96 ticks, waiting       367
; y: f32 [3, 2]
;   11 -9.5
;   22 -19
;   33 -28.5
; kiln::sim::illegal
;
;   × stream mxu, word 1: target `edge` has no `ldwt`
;   help: the program file is damaged, or for a machine without this instruction
