; Embedding: y[24,40] = table[ids[24], :], one token on each partition. The host's ids are int64; the device holds
; i32, and an id outside the table is refused when it is bound.
; RUN: kiln sim %s | expect %s
; RUN: kiln asm %s -o %t.kiln && kiln disasm --whole %t.kiln > %t.s && kiln asm %t.s -o %t.again
; RUN: cmp %t.kiln %t.again
.target edge
.input  ids   i32 [24]    @0x0 host=i64 range=0..49
.input  table f16 [50,40] @0x1000
.output y     f32 [24,40] @0x4000
.origin "embed|Gather"
.buffer ids dram @0x0 bytes=96
.buffer table dram @0x1000 bytes=4000
.buffer y dram @0x4000 bytes=3840
.buffer ids.spm spm parts=0..24 @0x0 bytes=4
.buffer rows.spm spm parts=0..24 @0x100 bytes=160

.engine q0
.from 0:1
    apset ap0, i32 @0x0 [24,1,1,1] <1,0,0,0>
    dtr spm[0:0x0].i32, ap0 in=[3,0]
    fence                                              ; the gather reads them
    apset ap1, f16 @0x1000 [50,1,40,1] <40,0,1,0>
    dga spm[0:0x100].f32, ap1, spm[0:0x0].i32, parts=24, n0=1 in=[4,3,1]
    apset ap2, f32 @0x4000 [24,1,1,40] <40,0,0,1>
    fence
    dst ap2, spm[0:0x100].f32 in=[4,2]
    halt
; EXPECT
; On edge: 1115 cycles, 1.11 µs, 6.9 KiB of DRAM traffic
;   q0        9 instructions, busy       439 ticks, waiting         0
; y: f32 [24, 40]  min -0.9971  max 0.9985  mean -0.0090
