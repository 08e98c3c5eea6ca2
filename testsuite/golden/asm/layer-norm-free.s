; Layer norm over the free axis: x[40,96], tokens on partitions, 96 features in each.
; Mean and variance are per-partition scalars (a view of strides 0); gamma and beta reach all partitions by a load
; with partition stride 0, which reads DRAM once.
; RUN: kiln sim %s | expect %s
; RUN: kiln asm %s -o %t.kiln && kiln disasm --whole %t.kiln > %t.s && kiln asm %t.s -o %t.again
; RUN: cmp %t.kiln %t.again
.target edge
.input  x     f32 [40,96] @0x0
.input  gamma f32 [96]    @0x4000
.input  beta  f32 [96]    @0x4200
.output y     f32 [40,96] @0x8000
.origin "norm|LayerNormalization"
.buffer x dram @0x0 bytes=15360
.buffer gamma dram @0x4000 bytes=384
.buffer beta dram @0x4200 bytes=384
.buffer y dram @0x8000 bytes=15360
.buffer x.spm spm parts=0..40 @0x0 bytes=384
.buffer gamma.spm spm parts=0..40 @0x200 bytes=384
.buffer beta.spm spm parts=0..40 @0x400 bytes=384
.buffer mean.spm spm parts=0..40 @0x600 bytes=4
.buffer var.spm spm parts=0..40 @0x604 bytes=4
.buffer rstd.spm spm parts=0..40 @0x608 bytes=4
.buffer eps.spm spm parts=0..40 @0x610 bytes=4

.engine q0
.from 0:1
    apset ap0, f32 @0x0 [40,1,1,96] <96,0,0,1>
    dld spm[0:0x0].f32, ap0 in=[4,0]
    sems sem0, n=1
    apset ap1, f32 @0x4000 [40,1,1,96] <0,0,0,1>
    dld spm[0:0x200].f32, ap1 in=[5,1]
    apset ap1, f32 @0x4200 [40,1,1,96] <0,0,0,1>
    dld spm[0:0x400].f32, ap1 in=[6,2]
    sems sem1, n=1
    semw sem4, n=1
    apset ap2, f32 @0x8000 [40,1,1,96] <96,0,0,1>
    dst ap2, spm[0:0x0].f32 in=[4,3]
    halt

.engine vec
.from 0:1
    semw sem0, n=1
    vred sum, spm[0:0x600].f32, spm[0:0x0].f32, 40:1x1x96, dims=n2 in=[7,4]
    vts mul, spm[0:0x600].f32, spm[0:0x600].f32, 0.010416667f, 40:1x1x1 in=[7,7] ; mean = sum / 96
    vtt sub, spm[0:0x0].f32, spm[0:0x0].f32, spm[0:0x600].f32<0,0,0>, 40:1x1x96 in=[4,4,7] ; x − mean
    sems sem2, n=1
    semw sem3, n=1
    vtt mul, spm[0:0x0].f32, spm[0:0x0].f32, spm[0:0x608].f32<0,0,0>, 40:1x1x96 in=[4,4,9] ; · 1/σ
    semw sem1, n=1
    vtt mul, spm[0:0x0].f32, spm[0:0x0].f32, spm[0:0x200].f32, 40:1x1x96 in=[4,4,5]
    vtt add, spm[0:0x0].f32, spm[0:0x0].f32, spm[0:0x400].f32, 40:1x1x96 in=[4,4,6]
    sems sem4, n=1
    halt

.engine act
.from 0:1
    semw sem2, n=1
    act square, spm[0:0x700].f32, spm[0:0x0].f32, sum=spm[0:0x604].f32, over=n2, 40:1x1x96 in=[-,4,8]
    semw sem5, n=1
    act identity, spm[0:0x604].f32, spm[0:0x604].f32, bias=spm[0:0x610].f32<0,0,0>, scale=0.010416667, 40:1x1x1 in=[8,8,10]
    act rsqrt, spm[0:0x608].f32, spm[0:0x604].f32, 40:1x1x1 in=[9,8]
    sems sem3, n=1
    halt

.engine q1
.from 0:1
    dfill spm[0:0x610].f32, 40:1x1x1, 0.00001f in=[10] ; epsilon
    sems sem5, n=1
    halt
; EXPECT
; On edge: 2824 cycles, 2.82 µs, 30.8 KiB of DRAM traffic
;   vec       12 instructions, busy       241 ticks, waiting      1437
;   act        7 instructions, busy       218 ticks, waiting      1255
;   q0       12 instructions, busy      2260 ticks, waiting      1585
;   q1        3 instructions, busy        32 ticks, waiting         0
; y: f32 [40, 96]  min -2.4554  max 2.6215  mean 0.0016
