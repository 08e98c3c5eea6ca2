; One step of decoding with a cache: 4 query heads of d = 16 share one key and value head; `past` tokens are in the
; cache of 64 when the step begins. The new key and value are stored behind them, in place; the scalar is read by the
; queue that addresses with it and by VEC, which masks with it. Nothing is compiled for a given length.
; RUN: kiln sim %s | expect %s
; RUN: kiln asm %s -o %t.kiln && kiln disasm --whole %t.kiln > %t.s && kiln asm %t.s -o %t.again
; RUN: cmp %t.kiln %t.again
.target edge
.scalar past 0..63
.input  q       f32 [4,16]  @0x0
.input  k       f32 [16]    @0x200
.input  v       f32 [16]    @0x300
.input  k_cache f32 [64,16] @0x1000
.input  v_cache f32 [64,16] @0x2000
.output o       f32 [4,16]  @0x4000
.output k_next  f32 [64,16] @0x1000 alias=k_cache
.output v_next  f32 [64,16] @0x2000 alias=v_cache
.origin "decode|Attention"
.buffer q dram @0x0 bytes=256
.buffer k dram @0x200 bytes=64
.buffer v dram @0x300 bytes=64
.buffer k_cache dram @0x1000 bytes=4096
.buffer v_cache dram @0x2000 bytes=4096
.buffer o dram @0x4000 bytes=256
.buffer k.spm spm parts=0..1 @0x0 bytes=64
.buffer v.spm spm parts=0..1 @0x40 bytes=64
.buffer q.spm spm parts=0..4 @0x80 bytes=64
.buffer kT.spm spm parts=0..16 @0x100 bytes=256
.buffer vs.spm spm parts=0..64 @0x200 bytes=64
.buffer p.spm spm parts=0..4 @0x300 bytes=256
.buffer max.spm spm parts=0..4 @0x400 bytes=4
.buffer sum.spm spm parts=0..4 @0x404 bytes=4
.buffer o.spm spm parts=0..4 @0x500 bytes=64
.buffer scores.acc acc parts=0..4 @0x0 bytes=256
.buffer pv.acc acc parts=0..4 @0x400 bytes=64

.engine q0
.from 0:1
    csr r1, scalar0
    alu mul, r2, r1, r0, imm=64                            ; bytes of a cache row
    apset ap0, f32 @0x200 [1,1,1,16] <0,0,0,1>
    dld spm[0:0x0].f32, ap0 in=[6,1]
    apset ap0, f32 @0x300 [1,1,1,16] <0,0,0,1>
    dld spm[0:0x40].f32, ap0 in=[7,2]
    fence
    apset ap1, f32 @0x1000 [1,1,1,16] <0,0,0,1>
    dst ap1, reg=r2, spm[0:0x0].f32 in=[6,3]
    apset ap1, f32 @0x2000 [1,1,1,16] <0,0,0,1>
    dst ap1, reg=r2, spm[0:0x40].f32 in=[7,4]
    fence
    apset ap2, f32 @0x0 [4,1,1,16] <16,0,0,1>
    dld spm[0:0x80].f32, ap2 in=[8,0]
    apset ap2, f32 @0x1000 [16,1,1,64] <1,0,0,16>
    dtr spm[0:0x100].f32, ap2 in=[9,3] ; Kᵀ: [d, position]
    sems sem0, n=1
    apset ap2, f32 @0x2000 [64,1,1,16] <16,0,0,1>
    dld spm[0:0x200].f32, ap2 in=[10,4]
    sems sem1, n=1
    semw sem6, n=1
    apset ap3, f32 @0x4000 [4,1,1,16] <16,0,0,1>
    dst ap3, spm[0:0x500].f32 in=[14,5]
    halt

.engine mxu
.from 0:1
    semw sem0, n=1
    ldwt spm[0:0x80].f32, k=16, m=4 in=[8]
    mma acc[0:0x0].f32, spm[0:0x100].f32, k=16, m=4, n2=64 in=[15,9]
    sems sem2, n=1
    semw sem4, n=1
    ldwt spm[0:0x300].f32, k=64, m=4 in=[11]
    semw sem1, n=1
    mma acc[0:0x400].f32, spm[0:0x200].f32, k=64, m=4, n2=16 in=[16,10]
    sems sem5, n=1
    halt

.engine vec
.from 0:1
    csr r1, scalar0
    semw sem2, n=1
    vsel spm[0:0x300].f32, acc[0:0x0].f32, 4:1x1x64, base=0, reg=r1, c2=-1, -inf in=[11,15] ; past − position ≥ 0
    vred max, spm[0:0x400].f32, spm[0:0x300].f32, 4:1x1x64, dims=n2 in=[12,11]
    vts mul, spm[0:0x400].f32, spm[0:0x400].f32, -0.25f, 4:1x1x1 in=[12,12]
    sems sem3, n=1
    semw sem5, n=1
    semw sem7, n=1
    vtt div, spm[0:0x500].f32, acc[0:0x400].f32, spm[0:0x404].f32<0,0,0>, 4:1x1x16 in=[14,16,13]
    sems sem6, n=1
    halt

.engine act
.from 0:1
    semw sem3, n=1
    act exp, spm[0:0x300].f32, spm[0:0x300].f32, bias=spm[0:0x400].f32<0,0,0>, sum=spm[0:0x404].f32, over=n2, scale=0.25, 4:1x1x64 in=[11,11,12,13]
    sems sem4, n=1
    sems sem7, n=1
    halt
; EXPECT
; On edge: 2252 cycles, 2.25 µs, 8.8 KiB of DRAM traffic
;   mxu       10 instructions, busy       400 ticks, waiting      1656
;   vec       11 instructions, busy       129 ticks, waiting      1864
;   act        5 instructions, busy       104 ticks, waiting      1574
;   q0       24 instructions, busy       674 ticks, waiting      1357
; o: f32 [4, 16]  min -0.1560  max 0.2444  mean 0.0184
; k_next: f32 [64, 16]  min -0.9999  max 0.9974  mean -0.0230
; v_next: f32 [64, 16]  min -0.9990  max 0.9993  mean 0.0127
