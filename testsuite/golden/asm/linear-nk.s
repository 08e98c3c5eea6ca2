; Linear layer with weights stored [N, K], as `MatMul(x, Transpose(w))` has them: y[48,80] = x[48,96] · w[80,96]ᵀ.
; No copy of w: the DMA walks k, along which w is contiguous, as the partition dim (`dtr`).
; RUN: kiln sim %s | expect %s
; RUN: kiln asm %s -o %t.kiln && kiln disasm --whole %t.kiln > %t.s && kiln asm %t.s -o %t.again
; RUN: cmp %t.kiln %t.again
.target edge
.input  x f32 [48,96] @0x0
.input  w f32 [80,96] @0x8000
.output y f32 [48,80] @0x10000
.origin "linear|MatMul"
.buffer x dram @0x0 bytes=18432
.buffer w dram @0x8000 bytes=30720
.buffer y dram @0x10000 bytes=15360
.buffer x.spm spm parts=0..48 @0x0 bytes=384
.buffer w0.spm spm parts=0..64 @0x400 bytes=320
.buffer w1.spm spm parts=0..32 @0x600 bytes=320
.buffer y.spm spm parts=0..48 @0x800 bytes=320
.buffer xw.acc acc parts=0..48 @0x0 bytes=320

.engine q0
.from 0:1
    apset ap0, f32 @0x0 [48,1,1,96] <96,0,0,1>
    dld spm[0:0x0].f32, ap0 in=[3,0]
    sems sem0, n=1
    semw sem3, n=1
    apset ap1, f32 @0x10000 [48,1,1,80] <80,0,0,1>
    dst ap1, spm[0:0x800].f32 in=[6,2]
    halt

.engine q1
.from 0:1
    apset ap0, f32 @0x8000 [64,1,1,80] <1,0,0,96>     ; k = 0..64 on partitions
    dtr spm[0:0x400].f32, ap0 in=[4,1]
    apset ap0, f32 @0x8100 [32,1,1,80] <1,0,0,96>     ; k = 64..96
    dtr spm[0:0x600].f32, ap0 in=[5,1]
    sems sem1, n=1
    halt

.engine mxu
.from 0:1
    semw sem0, n=1
    ldwt spm[0:0x0].f32, k=64, m=48 in=[3]
    semw sem1, n=1
    mma acc[0:0x0].f32, spm[0:0x400].f32, k=64, m=48, n2=80 in=[7,4]
    ldwt spm[0:0x100].f32, k=32, m=48 in=[3]
    mma acc[0:0x0].f32, spm[0:0x600].f32, k=32, m=48, n2=80, cont=1 in=[7,5]
    sems sem2, n=1
    halt

.engine act
.from 0:1
    semw sem2, n=1
    act identity, spm[0:0x800].f32, acc[0:0x0].f32, 48:1x1x80 in=[6,7]
    sems sem3, n=1
    halt
; EXPECT
; On edge: 4089 cycles, 4.09 µs, 63 KiB of DRAM traffic
;   mxu        8 instructions, busy       752 ticks, waiting      2043
;   act        4 instructions, busy       120 ticks, waiting      2826
;   q0        7 instructions, busy      1989 ticks, waiting      2917
;   q1        6 instructions, busy      1808 ticks, waiting         0
; y: f32 [48, 80]  min -11.8690  max 12.7789  mean -0.0132
