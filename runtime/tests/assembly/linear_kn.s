; y = x·W + b with W as [K, N]: x is stationary through the transposing load, W moves as it lies in DRAM.
; The result has tokens on partitions, as DRAM wants it. K = 128 takes two passes of the 64-row array.
.target edge
.input  x f32 [64,128] @0x0
.input  w f32 [128,96] @0x8000
.input  b f32 [96]     @0x14000
.output y f32 [64,96]  @0x15000

.engine q0
    apset ap0, f32 @0x0 [64,1,1,128] <128,0,0,1>
    dld   spm[0:0x0].f32, ap0                       ; x: token on partitions
    sems  sem0, n=1
    semw  sem3, n=1
    apset ap1, f32 @0x15000 [64,1,1,96] <96,0,0,1>
    dst   ap1, spm[0:0xa00].f32
    halt
.engine q1
    apset ap0, f32 @0x8000 [64,1,2,96] <96,0,6144,1>
    dld   spm[0:0x400].f32<0,96,1>, ap0             ; W: k on partitions, two chunks of 64
    sems  sem1, n=1
    apset ap1, f32 @0x14000 [64,1,1,96] <0,0,0,1>
    dld   spm[0:0x800].f32, ap1                     ; b on every partition, read once
    sems  sem2, n=1
    halt
.engine mxu
    semw  sem0, n=1
    semw  sem1, n=1
    ldwt  spm[0:0x0].f32, k=64, m=64
    mma   acc[0:0x0].f32, spm[0:0x400].f32, k=64, m=64, n2=96
    ldwt  spm[0:0x100].f32, k=64, m=64
    mma   acc[0:0x0].f32, spm[0:0x580].f32, k=64, m=64, n2=96, cont=1
    sems  sem4, n=1
    halt
.engine vec
    semw  sem2, n=1
    semw  sem4, n=1
    vtt   add, spm[0:0xa00].f32, acc[0:0x0].f32, spm[0:0x800].f32, 64:1x1x96
    sems  sem3, n=1
    halt
