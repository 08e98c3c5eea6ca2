; One token of decoding with a cache of capacity 256 updated in place; `past` tokens are in it. The runtime scalar
; places the new row and bounds the mask. Keys beyond it are computed and masked: 256 columns are one instruction.
.target edge
.scalar past 0..255
.input  q  f32 [64] @0x0
.input  kn f32 [64] @0x100
.input  vn f32 [64] @0x200
.input  k  f32 [256,64] @0x1000
.input  v  f32 [256,64] @0x11000
.output o  f32 [64] @0x300
.output k_out f32 [256,64] @0x1000 alias=k
.output v_out f32 [256,64] @0x11000 alias=v

.engine q0
    csr   r1, scalar0
    alu   shl, r1, r1, r0, imm=8                    ; past rows of 256 bytes
    apset ap0, f32 @0x100 [1,1,1,64] <0,0,0,1>
    dld   spm[0:0x2000].f32, ap0
    apset ap1, f32 @0x1000 [1,1,1,64] <0,0,0,1>
    dst   ap1, reg=r1, spm[0:0x2000].f32
    apset ap2, f32 @0x1000 [64,1,1,256] <1,0,0,64>
    dtr   spm[0:0x0].f32, ap2                       ; keys turned: d on partitions
    apset ap3, f32 @0x0 [64,1,1,1] <1,0,0,0>
    dld   spm[0:0x2200].f32<0,0,0>, ap3             ; q: d on partitions
    sems  sem0, n=1
    semw  sem5, n=1
    apset ap4, f32 @0x300 [1,1,1,64] <0,0,0,1>
    dst   ap4, spm[0:0x2300].f32
    halt
.engine q1
    csr   r1, scalar0
    alu   shl, r1, r1, r0, imm=8
    apset ap0, f32 @0x200 [1,1,1,64] <0,0,0,1>
    dld   spm[0:0x2100].f32, ap0
    apset ap1, f32 @0x11000 [1,1,1,64] <0,0,0,1>
    dst   ap1, reg=r1, spm[0:0x2100].f32
    apset ap2, f32 @0x11000 [64,1,4,64] <64,0,4096,1>
    dld   spm[0:0x400].f32<0,64,1>, ap2             ; values: keys on partitions, four chunks
    sems  sem1, n=1
    halt
.engine mxu
    semw  sem0, n=1
    ldw   spm[0:0x2200].f32<0,0,0>, k=64, m=1
    mma   acc[0:0x0].f32, spm[0:0x0].f32, k=64, m=1, n2=256
    sems  sem2, n=1
    semw  sem1, n=1
    semw  sem4, n=1
    ldwt  spm[0:0x1000].f32, k=64, m=1
    mma   acc[0:0x400].f32, spm[0:0x400].f32, k=64, m=1, n2=64
    li    r1, imm=256
    loop  count=3, done, step=r1:256
    ldwt  spm[0:0x1000+r1].f32, k=64, m=1
    mma   acc[0:0x400].f32, spm[0:0x400+r1].f32, k=64, m=1, n2=64, cont=1
done: endl
    sems  sem6, n=1
    halt
.engine vec
    csr   r1, scalar0
    semw  sem2, n=1
    vsel  spm[0:0x1800].f32, acc[0:0x0].f32, 1:1x1x256, reg=r1, c2=-1, -inf
    vred  max, spm[0:0x2210].f32<0,0,0>, spm[0:0x1800].f32, 1:1x1x256, dims=n2
    vts   mul, spm[0:0x2210].f32<0,0,0>, spm[0:0x2210].f32<0,0,0>, -0.125f, 1:1x1x1
    sems  sem3, n=1
    halt
.engine act
    semw  sem3, n=1
    act   exp, spm[0:0x1000].f32, spm[0:0x1800].f32, bias=spm[0:0x2210].f32<0,0,0>, sum=spm[0:0x2214].f32<0,0,0>, over=n2, scale=0.125, 1:1x1x256
    sems  sem4, n=1
    act   reciprocal, spm[0:0x2214].f32<0,0,0>, spm[0:0x2214].f32<0,0,0>, 1:1x1x1
    semw  sem6, n=1
    actr  identity, spm[0:0x2300].f32, acc[0:0x400].f32, spm[0:0x2214].f32<0,0,0>, 1:1x1x64
    sems  sem5, n=1
    halt
