; Layer norm over the partition axis: x[40,64] with its 64 features on partitions and tokens along the free axis.
; A sum over partitions is a product with ones, which also brings the sum to every partition. gamma and beta are
; per-partition scalars, so they ride along as scale and bias of one ACT instruction.
; RUN: kiln sim %s | expect %s
; RUN: kiln asm %s -o %t.kiln && kiln disasm --whole %t.kiln > %t.s && kiln asm %t.s -o %t.again
; RUN: cmp %t.kiln %t.again
.target edge
.input  x     f32 [40,64] @0x0
.input  gamma f32 [64]    @0x4000
.input  beta  f32 [64]    @0x4200
.output y     f32 [40,64] @0x8000
.origin "norm|LayerNormalization"
.buffer x dram @0x0 bytes=10240
.buffer gamma dram @0x4000 bytes=256
.buffer beta dram @0x4200 bytes=256
.buffer y dram @0x8000 bytes=10240
.buffer x.spm spm parts=0..64 @0x0 bytes=160
.buffer ones.spm spm parts=0..64 @0x100 bytes=256
.buffer scale.spm spm parts=0..64 @0x200 bytes=160
.buffer y.spm spm parts=0..64 @0x300 bytes=160
.buffer gamma.spm spm parts=0..64 @0x400 bytes=4
.buffer beta.spm spm parts=0..64 @0x404 bytes=4
.buffer eps.spm spm parts=0..64 @0x408 bytes=4
.buffer mean.acc acc parts=0..64 @0x0 bytes=160
.buffer var.acc acc parts=0..64 @0x400 bytes=160

.engine q0
.from 0:1
    apset ap0, f32 @0x0 [64,1,1,40] <1,0,0,64>
    dtr spm[0:0x0].f32, ap0 in=[4,0] ; x turned: [feature, token]
    dfill spm[0:0x100].f32, 64:1x1x64, 0.015625f in=[5] ; 1/64: the product gives means at once
    sems sem0, n=1
    sems sem1, n=1
    apset ap1, f32 @0x4000 [64,1,1,1] <1,0,0,0>
    dtr spm[0:0x400].f32, ap1 in=[8,1]
    apset ap1, f32 @0x4200 [64,1,1,1] <1,0,0,0>
    dtr spm[0:0x404].f32, ap1 in=[9,2]
    dfill spm[0:0x408].f32, 64:1x1x1, 0.00001f in=[10]
    sems sem4, n=1
    semw sem6, n=1
    apset ap2, f32 @0x8000 [64,1,1,40] <1,0,0,64>
    dst ap2, spm[0:0x300].f32 in=[7,3]
    halt

.engine mxu
.from 0:1
    semw sem0, n=1
    ldw spm[0:0x100].f32, k=64, m=64 in=[5]
    mma acc[0:0x0].f32, spm[0:0x0].f32, k=64, m=64, n2=40 in=[11,4] ; means, in every partition
    sems sem2, n=1
    semw sem3, n=1
    mma acc[0:0x400].f32, spm[0:0x200].f32, k=64, m=64, n2=40 in=[12,6] ; variances
    sems sem5, n=1
    halt

.engine vec
.from 0:1
    semw sem1, n=1
    semw sem2, n=1
    vtt sub, spm[0:0x0].f32, spm[0:0x0].f32, acc[0:0x0].f32, 64:1x1x40 in=[4,4,11]
    vtt mul, spm[0:0x200].f32, spm[0:0x0].f32, spm[0:0x0].f32, 64:1x1x40 in=[6,4,4]
    sems sem3, n=1
    semw sem7, n=1
    vtt mul, spm[0:0x0].f32, spm[0:0x0].f32, spm[0:0x200].f32, 64:1x1x40 in=[4,4,6]
    sems sem8, n=1
    halt

.engine act
.from 0:1
    semw sem4, n=1
    semw sem5, n=1
    act rsqrt, spm[0:0x200].f32, acc[0:0x400].f32, bias=spm[0:0x408].f32<0,0,0>, 64:1x1x40 in=[6,12,10]
    sems sem7, n=1
    semw sem8, n=1
    actr identity, spm[0:0x300].f32, spm[0:0x0].f32, spm[0:0x400].f32<0,0,0>, bias=spm[0:0x404].f32<0,0,0>, 64:1x1x40 in=[7,4,8,9]
    sems sem6, n=1
    halt
; EXPECT
; On edge: 11897 cycles, 11.90 µs, 170.5 KiB of DRAM traffic
;   mxu        8 instructions, busy       384 ticks, waiting      1444
;   vec        9 instructions, busy        90 ticks, waiting      1842
;   act        8 instructions, busy       160 ticks, waiting      1857
;   q0       15 instructions, busy     10578 ticks, waiting      1859
; y: f32 [40, 64]  min -2.4836  max 2.4935  mean 0.0468
