; Softmax over the free axis: x[48,100], rows on partitions.
; The row maximum leaves VEC negated, so that ACT subtracts it as a per-partition bias; ACT sums the exponentials
; while it makes them.
; RUN: kiln sim %s | expect %s
; RUN: kiln asm %s -o %t.kiln && kiln disasm --whole %t.kiln > %t.s && kiln asm %t.s -o %t.again
; RUN: cmp %t.kiln %t.again
.target edge
.input  x f32 [48,100] @0x0
.output y f32 [48,100] @0x8000
.origin "softmax|Softmax"
.buffer x dram @0x0 bytes=19200
.buffer y dram @0x8000 bytes=19200
.buffer x.spm spm parts=0..48 @0x0 bytes=400
.buffer max.spm spm parts=0..48 @0x200 bytes=4
.buffer sum.spm spm parts=0..48 @0x204 bytes=4

.engine q0
.from 0:1
    apset ap0, f32 @0x0 [48,1,1,100] <100,0,0,1>
    dld spm[0:0x0].f32, ap0 in=[2,0]
    sems sem0, n=1
    semw sem3, n=1
    apset ap1, f32 @0x8000 [48,1,1,100] <100,0,0,1>
    dst ap1, spm[0:0x0].f32 in=[2,1]
    halt

.engine vec
.from 0:1
    semw sem0, n=1
    vred max, spm[0:0x200].f32, spm[0:0x0].f32, 48:1x1x100, dims=n2 in=[3,2]
    vts mul, spm[0:0x200].f32, spm[0:0x200].f32, -1.0f, 48:1x1x1 in=[3,3]
    sems sem1, n=1
    semw sem2, n=1
    vtt div, spm[0:0x0].f32, spm[0:0x0].f32, spm[0:0x204].f32<0,0,0>, 48:1x1x100 in=[2,2,4]
    sems sem3, n=1
    halt

.engine act
.from 0:1
    semw sem1, n=1
    act exp, spm[0:0x0].f32, spm[0:0x0].f32, bias=spm[0:0x200].f32<0,0,0>, sum=spm[0:0x204].f32, over=n2, 48:1x1x100 in=[2,2,3,4]
    sems sem2, n=1
    halt
; EXPECT
; On edge: 3072 cycles, 3.07 µs, 37.5 KiB of DRAM traffic
;   vec        8 instructions, busy       186 ticks, waiting      1515
;   act        4 instructions, busy       140 ticks, waiting      1438
;   q0        7 instructions, busy      2260 ticks, waiting      1674
; y: f32 [48, 100]  min 0.0029  max 0.0269  mean 0.0100
