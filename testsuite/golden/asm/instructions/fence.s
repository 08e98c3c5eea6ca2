; `fence` waits for the transfers of its own stream: the 32 cycles to issue, 200 of latency and the bytes.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim without.s --values > out
; RUN: kiln sim with.s --values >> out
; RUN: expect %s < out
;--- without.s
.target edge
.output at i32 [1] @0x100
.data @0x0 f32 1, 2, 3, 4
.engine q0
    apset ap0, f32 @0x0 [1,1,1,4] <0,0,0,1>
    dld spm[0:0x0].f32, ap0
    csr r1, cycle
    sts r1, spm[0:0x20].i32
    apset ap1, i32 @0x100 [1,1,1,1] <0,0,0,1>
    dst ap1, spm[0:0x20].i32
    halt
;--- with.s
.target edge
.output at i32 [1] @0x100
.data @0x0 f32 1, 2, 3, 4
.engine q0
    apset ap0, f32 @0x0 [1,1,1,4] <0,0,0,1>
    dld spm[0:0x0].f32, ap0
    fence
    csr r1, cycle
    sts r1, spm[0:0x20].i32
    apset ap1, i32 @0x100 [1,1,1,1] <0,0,0,1>
    dst ap1, spm[0:0x20].i32
    halt
; EXPECT
; On edge: 292 cycles, 0.29 µs, 128 B of DRAM traffic
;   q0        7 instructions, busy        64 ticks, waiting         0
; at: i32 [1]
;   33
; On edge: 497 cycles, 0.50 µs, 128 B of DRAM traffic
;   q0        8 instructions, busy        64 ticks, waiting         0
; at: i32 [1]
;   238
