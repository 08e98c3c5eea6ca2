; One head-block of causal attention: 64 queries at positions 64..128, 128 keys, d = 64. Scores never leave the chip.
; Qᵀ is stationary, Kᵀ moves: scores have queries on partitions, so that maximum, −m and the sum are of a partition;
; the probabilities become stationary through the transposing load, V moves.
.target edge
.input  q f32 [64,64]  @0x0
.input  k f32 [128,64] @0x4000
.input  v f32 [128,64] @0xc000
.output o f32 [64,64]  @0x14000

.engine q0
    apset ap0, f32 @0x0 [64,1,1,64] <64,0,0,1>
    dld   spm[0:0x0].f32, ap0                       ; q
    sems  sem0, n=1
    semw  sem5, n=1
    apset ap1, f32 @0x14000 [64,1,1,64] <64,0,0,1>
    dst   ap1, spm[0:0xc00].f32
    halt
.engine q1
    apset ap0, f32 @0x4000 [64,1,1,128] <1,0,0,64>
    dtr   spm[0:0x100].f32, ap0                     ; k turned: d on partitions, keys free
    sems  sem1, n=1
    halt
.engine q2
    apset ap0, f32 @0xc000 [64,1,2,64] <64,0,4096,1>
    dld   spm[0:0x400].f32<0,64,1>, ap0             ; v: keys on partitions, two chunks
    sems  sem2, n=1
    halt
.engine mxu
    semw  sem0, n=1
    semw  sem1, n=1
    ldwt  spm[0:0x0].f32, k=64, m=64
    mma   acc[0:0x0].f32, spm[0:0x100].f32, k=64, m=64, n2=128
    sems  sem3, n=1
    semw  sem2, n=1
    semw  sem4, n=1
    ldwt  spm[0:0x800].f32, k=64, m=64
    mma   acc[0:0x400].f32, spm[0:0x400].f32, k=64, m=64, n2=64
    ldwt  spm[0:0x900].f32, k=64, m=64
    mma   acc[0:0x400].f32, spm[0:0x500].f32, k=64, m=64, n2=64, cont=1
    sems  sem6, n=1
    halt
.engine vec
    semw  sem3, n=1
    ; query 64 + p sees key j while 64 + p − j ≥ 0
    vsel  spm[0:0x600].f32, acc[0:0x0].f32, 64:1x1x128, base=64, cp=1, c2=-1, -inf
    vred  max, spm[0:0xa00].f32<0,0,0>, spm[0:0x600].f32, 64:1x1x128, dims=n2
    vts   mul, spm[0:0xa00].f32<0,0,0>, spm[0:0xa00].f32<0,0,0>, -0.125f, 64:1x1x1
    sems  sem7, n=1
    halt
.engine act
    semw  sem7, n=1
    act   exp, spm[0:0x800].f32, spm[0:0x600].f32, bias=spm[0:0xa00].f32<0,0,0>, sum=spm[0:0xa04].f32<0,0,0>, over=n2, scale=0.125, 64:1x1x128
    sems  sem4, n=1
    act   reciprocal, spm[0:0xa04].f32<0,0,0>, spm[0:0xa04].f32<0,0,0>, 64:1x1x1
    semw  sem6, n=1
    actr  identity, spm[0:0xc00].f32, acc[0:0x400].f32, spm[0:0xa04].f32<0,0,0>, 64:1x1x64
    sems  sem5, n=1
    halt
