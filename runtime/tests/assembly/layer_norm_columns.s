; Layer norm over 256 features that lie on partitions (four chunks of 64), tokens free: the sums over partitions are
; contracts with ones, which also hand them to every partition; gamma and beta are scalars of partition and chunk.
.target edge
.input  x f32 [256,64] @0x0
.input  g f32 [256]    @0x10000
.input  b f32 [256]    @0x10400
.output y f32 [256,64] @0x11000

.engine q0
    apset ap0, f32 @0x0 [64,4,1,64] <64,4096,0,1>
    dld   spm[0:0x0].f32<64,0,1>, ap0
    sems  sem0, n=1
    semw  sem3, n=1
    apset ap1, f32 @0x11000 [64,4,1,64] <64,4096,0,1>
    dst   ap1, spm[0:0x0].f32<64,0,1>
    halt
.engine q1
    dfill spm[0:0x1000].f32, 64:1x1x64, 1.0f        ; ones
    dfill spm[0:0x1100].f32<0,0,0>, 64:1x1x1, 0.00001f
    sems  sem1, n=1
    apset ap0, f32 @0x10000 [64,4,1,1] <1,64,0,0>
    dld   spm[0:0x1110].f32<1,0,0>, ap0
    apset ap1, f32 @0x10400 [64,4,1,1] <1,64,0,0>
    dld   spm[0:0x1120].f32<1,0,0>, ap1
    sems  sem2, n=1
    halt
.engine mxu
    semw  sem1, n=1
    ldw   spm[0:0x1000].f32, k=64, m=64
    semw  sem0, n=1
    mma   acc[0:0x0].f32, spm[0:0x0].f32, k=64, m=64, n2=64
    li    r1, imm=256
    loop  count=3, sum_end, step=r1:256
    mma   acc[0:0x0].f32, spm[0:0x0+r1].f32, k=64, m=64, n2=64, cont=1
sum_end: endl
    sems  sem4, n=1
    semw  sem5, n=1
    mma   acc[0:0x100].f32, spm[0:0x800].f32, k=64, m=64, n2=64
    loop  count=3, squares_end, step=r1:256
    mma   acc[0:0x100].f32, spm[0:0x800+r1].f32, k=64, m=64, n2=64, cont=1
squares_end: endl
    sems  sem4, n=1
    halt
.engine act
    semw  sem4, n=1
    act   identity, spm[0:0x1200].f32, acc[0:0x0].f32, scale=0.00390625, 64:1x1x64     ; mean
    sems  sem6, n=1
    semw  sem7, n=1
    act   square, spm[0:0x800].f32<64,0,1>, spm[0:0x0].f32<64,0,1>, 64:4x1x64
    sems  sem5, n=1
    semw  sem4, n=1
    ; 1/√(sum/256 + ε)
    act   rsqrt, spm[0:0x1300].f32, acc[0:0x100].f32, bias=spm[0:0x1100].f32<0,0,0>, scale=0.00390625, 64:1x1x64
    sems  sem6, n=1
    semw  sem7, n=1
    semw  sem2, n=1
    actr  identity, spm[0:0x0].f32<64,0,1>, spm[0:0x0].f32<64,0,1>, spm[0:0x1110].f32<1,0,0>, bias=spm[0:0x1120].f32<1,0,0>, 64:4x1x64
    sems  sem3, n=1
    halt
.engine vec
    semw  sem6, n=1
    vtt   sub, spm[0:0x0].f32<64,0,1>, spm[0:0x0].f32<64,0,1>, spm[0:0x1200].f32<0,0,1>, 64:4x1x64
    sems  sem7, n=1
    semw  sem6, n=1
    vtt   mul, spm[0:0x0].f32<64,0,1>, spm[0:0x0].f32<64,0,1>, spm[0:0x1300].f32<0,0,1>, 64:4x1x64
    sems  sem7, n=1
    halt
