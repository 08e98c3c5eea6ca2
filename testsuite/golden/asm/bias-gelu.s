; Linear layer with bias and exact GELU as epilogue: y[40,48] = gelu(x[40,64] · w[64,48] + b).
; w is stationary as it lies ([K, N], `ldw`), xᵀ moves, so features come out on partitions and the bias is ACT's
; per-partition bias. Two blocks of 20 tokens in a hardware loop: while ACT and VEC finish one block, the array makes
; the next; each accumulator half is handed back by a semaphore.
; RUN: kiln sim %s | expect %s
; RUN: kiln asm %s -o %t.kiln && kiln disasm --whole %t.kiln > %t.s && kiln asm %t.s -o %t.again
; RUN: cmp %t.kiln %t.again
.target edge
.input  x f32 [40,64] @0x0
.input  w f32 [64,48] @0x4000
.input  b f32 [48]    @0x8000
.output y f32 [40,48] @0xa000
.origin "fc|MatMul"
.origin "gelu|Gelu"
.buffer x dram @0x0 bytes=10240
.buffer w dram @0x4000 bytes=12288
.buffer b dram @0x8000 bytes=192
.buffer y dram @0xa000 bytes=7680
.buffer w.spm spm parts=0..64 @0x0 bytes=192
.buffer xT.spm spm parts=0..64 @0x100 bytes=160
.buffer b.spm spm parts=0..48 @0x200 bytes=4
.buffer y.spm spm parts=0..48 @0x300 bytes=80 slots=2 pitch=80
.buffer t.spm spm parts=0..48 @0x400 bytes=80 slots=2 pitch=80
.buffer xw.acc acc parts=0..48 @0x0 bytes=80 slots=2 pitch=1024

.engine q0
.from 0:1
    apset ap0, f32 @0x4000 [64,1,1,48] <48,0,0,1>
    dld spm[0:0x0].f32, ap0 in=[4,1]
    apset ap1, f32 @0x0 [64,1,1,40] <1,0,0,64>
    dtr spm[0:0x100].f32, ap1 in=[5,0]
    sems sem0, n=1
    apset ap2, f32 @0x8000 [48,1,1,1] <1,0,0,0>
    dtr spm[0:0x200].f32, ap2 in=[6,2]
    sems sem1, n=1
    apset ap3, f32 @0xa000 [48,1,1,20] <1,0,0,48>
    loop count=2, stored, step=r1:80 r2:3840
    semw sem5, n=1
    dst ap3, reg=r2, spm[0:0x300+r1].f32 in=[7,3]
stored:
    endl
    halt

.engine mxu
.from 0:1
    semw sem0, n=1
    ldw spm[0:0x0].f32, k=64, m=48 in=[4]
    loop count=2, made, step=r1:1024 r2:80
    semw sem6, n=1
    mma acc[0:0x0+r1].f32, spm[0:0x100+r2].f32, k=64, m=48, n2=20 in=[9,5]
    sems sem2, n=1
made:
    endl
    halt

.engine act
.from 1:1
    semw sem1, n=1
    sems sem6, n=2                                     ; both accumulator halves are free
    loop count=2, done, step=r1:1024 r2:80
    semw sem2, n=1
    act identity, spm[0:0x300+r2].f32, acc[0:0x0+r1].f32, bias=spm[0:0x200].f32<0,0,0>, 48:1x1x20 in=[7,9,6]
    act erf, spm[0:0x400+r2].f32, spm[0:0x300+r2].f32, scale=0.70710677, 48:1x1x20 in=[8,7]
    sems sem3, n=1
done:
    endl
    halt

.engine vec
.from 1:1
    loop count=2, done, step=r2:80
    semw sem3, n=1
    vts add, spm[0:0x400+r2].f32, spm[0:0x400+r2].f32, 1.0f, 48:1x1x20 in=[8,8]
    vtt mul, spm[0:0x300+r2].f32, spm[0:0x300+r2].f32, spm[0:0x400+r2].f32, 48:1x1x20 in=[7,7,8]
    vts mul, spm[0:0x300+r2].f32, spm[0:0x300+r2].f32, 0.5f, 48:1x1x20 in=[7,7]
    sems sem5, n=1
done:
    endl
    halt
; EXPECT
; On edge: 9524 cycles, 9.52 µs, 142.2 KiB of DRAM traffic
;   mxu       12 instructions, busy       224 ticks, waiting      1597
;   vec       14 instructions, busy       150 ticks, waiting      2025
;   act       14 instructions, busy       240 ticks, waiting      1853
;   q0       17 instructions, busy      8588 ticks, waiting      2047
; y: f32 [40, 48]  min -0.1700  max 8.0369  mean 1.0001
