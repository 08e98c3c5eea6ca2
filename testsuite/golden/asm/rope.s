; Rotary embedding over halves: x[32, 2·32], tables cos[32,32] and sin[32,32]; tokens on partitions.
;   y[:, :32] = x₁ cos − x₂ sin      y[:, 32:] = x₂ cos + x₁ sin
; Both halves go through one instruction each time: n1 walks the halves (stride 32 elements of x, 0 of the tables),
; and a negative stride reads the halves swapped.
; RUN: kiln sim %s | expect %s
; RUN: kiln asm %s -o %t.kiln && kiln disasm --whole %t.kiln > %t.s && kiln asm %t.s -o %t.again
; RUN: cmp %t.kiln %t.again
.target edge
.input  x   f32 [32,64] @0x0
.input  cos f32 [32,32] @0x4000
.input  sin f32 [32,32] @0x6000
.output y   f32 [32,64] @0x8000
.origin "rope|RotaryEmbedding"
.buffer x dram @0x0 bytes=8192
.buffer cos dram @0x4000 bytes=4096
.buffer sin dram @0x6000 bytes=4096
.buffer y dram @0x8000 bytes=8192
.buffer x.spm spm parts=0..32 @0x0 bytes=256
.buffer cos.spm spm parts=0..32 @0x100 bytes=128
.buffer sin.spm spm parts=0..32 @0x180 bytes=128
.buffer y.spm spm parts=0..32 @0x200 bytes=256
.buffer t.spm spm parts=0..32 @0x300 bytes=256

.engine q0
.from 0:1
    apset ap0, f32 @0x0 [32,1,1,64] <64,0,0,1>
    dld spm[0:0x0].f32, ap0 in=[4,0]
    apset ap1, f32 @0x4000 [32,1,1,32] <32,0,0,1>
    dld spm[0:0x100].f32, ap1 in=[5,1]
    apset ap1, f32 @0x6000 [32,1,1,32] <32,0,0,1>
    dld spm[0:0x180].f32, ap1 in=[6,2]
    sems sem0, n=1
    semw sem1, n=1
    apset ap2, f32 @0x8000 [32,1,1,64] <64,0,0,1>
    dst ap2, spm[0:0x200].f32 in=[7,3]
    halt

.engine vec
.from 0:1
    semw sem0, n=1
    vtt mul, spm[0:0x200].f32<0,32,1>, spm[0:0x0].f32<0,32,1>, spm[0:0x100].f32<0,0,1>, 32:1x2x32 in=[7,4,5] ; x₁ c, x₂ c
    vtt mul, spm[0:0x300].f32<0,32,1>, spm[0:0x80].f32<0,-32,1>, spm[0:0x180].f32<0,0,1>, 32:1x2x32 in=[8,4,6] ; x₂ s, x₁ s
    vtt sub, spm[0:0x200].f32, spm[0:0x200].f32, spm[0:0x300].f32, 32:1x1x32 in=[7,7,8]
    vtt add, spm[0:0x280].f32, spm[0:0x280].f32, spm[0:0x380].f32, 32:1x1x32 in=[7,7,8]
    sems sem1, n=1
    halt
; EXPECT
; On edge: 2050 cycles, 2.05 µs, 24 KiB of DRAM traffic
;   vec        7 instructions, busy       128 ticks, waiting      1201
;   q0       11 instructions, busy      1446 ticks, waiting      1234
; y: f32 [32, 64]  min -1.5564  max 1.6977  mean -0.0136
