; `csr` reads a runtime scalar, the cycle or the core. A scalar that the program does not declare is illegal.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim csr.s --values > out
; RUN: not kiln sim undeclared.s >> out 2>&1
; RUN: expect %s < out
;--- csr.s
.target edge
.output y i32 [3] @0x1000
.scalar past 7..7
.engine q0
    csr r1, scalar0
    csr r2, core
    csr r3, cycle
    sts r1, spm[0:0x0].i32
    sts r2, spm[0:0x4].i32
    sts r3, spm[0:0x8].i32
    apset ap0, i32 @0x1000 [1,1,1,3] <3,0,0,1>
    dst ap0, spm[0:0x0].i32
    halt
;--- undeclared.s
.target edge
.engine ctl
    csr r1, scalar0
    halt
; EXPECT
; On edge: 303 cycles, 0.30 µs, 64 B of DRAM traffic
;   q0        9 instructions, busy        32 ticks, waiting         0
; y: i32 [3]
;   7 0 2
; kiln::program::invalid
;
;   × the program is inconsistent: stream ctl: word 0: scalar 0 is not declared
