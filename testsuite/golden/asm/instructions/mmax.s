; `mmax` multiplies with a power-of-two scale (E8M0, 127 is 1) for every 32 rows of each operand: 33 rows of ones
; here, the last under the second scale. Only machines with block scaling have it.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim mmax.s --set has_mmax=1 --values > out
; RUN: not kiln sim absent.s >> out 2>&1
; RUN: expect %s < out
;--- mmax.s
.target edge
.output y f32 [2,2] @0x1000
.data @0x0 u8 127, 128, 130, 127
.data @0x100 u8 127, 126, 127, 129
.engine q0
    dfill spm[0:0x0].f8e4m3, 33:1x1x4, 1.0f
    apset ap0, u8 @0x0 [2,1,1,2] <2,0,0,1>
    dld spm[0:0x20].u8, ap0
    apset ap0, u8 @0x100 [2,1,1,2] <2,0,0,1>
    dld spm[0:0x40].u8, ap0
    sems sem0, n=1
    semw sem1, n=1
    apset ap0, f32 @0x1000 [2,1,1,2] <2,0,0,1>
    dst ap0, acc[0:0x0].f32
    halt
.engine mxu
    semw sem0, n=1
    ldw spm[0:0x0].f8e4m3, k=33, m=2
    mmax acc[0:0x0].f32, spm[0:0x0].f8e4m3, spm[0:0x20].u8, spm[0:0x40].u8, k=33, m=2, n2=2
    sems sem1, n=1
    halt
;--- absent.s
.target edge
.engine mxu
    mmax acc[0:0x0].f32, spm[0:0x0].f8e4m3, spm[0:0x20].u8, spm[0:0x40].u8, k=33, m=2, n2=2
    halt
; EXPECT
; On edge: 727 cycles, 0.73 µs, 192 B of DRAM traffic
;   mxu        5 instructions, busy        34 ticks, waiting       306
;   q0       10 instructions, busy       128 ticks, waiting       390
; y: f32 [2, 2]
;   40 48
;   65 36
; kiln::sim::illegal
;
;   × stream mxu, word 0: target `edge` has no `mmax`
;   help: the program file is damaged, or for a machine without this instruction
