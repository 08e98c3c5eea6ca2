; y = x·Wᵀ + b with W as [N, K]: W is stationary through the transposing load, just as it lies in DRAM; x moves with
; k on partitions (a transposing transfer). The result has outputs on partitions, where the bias is a scalar of the
; partition; the array turns it back. N = 96 is a block of 64 and one of 32.
.target edge
.input  x f32 [64,128] @0x0
.input  w f32 [96,128] @0x8000
.input  b f32 [96]     @0x14000
.output y f32 [64,96]  @0x15000

.engine q0
    apset ap0, f32 @0x0 [64,1,2,64] <1,0,64,128>
    dtr   spm[0:0x0].f32<0,64,1>, ap0               ; x turned: k on partitions, two chunks, tokens free
    sems  sem0, n=1
    semw  sem5, n=1
    apset ap1, f32 @0x15000 [64,1,1,96] <96,0,0,1>
    dst   ap1, acc[0:0x200].f32
    halt
.engine q1
    apset ap0, f32 @0x8000 [64,1,1,128] <128,0,0,1>
    dld   spm[0:0x400].f32, ap0                     ; W rows 0..64
    apset ap1, f32 @0x10000 [32,1,1,128] <128,0,0,1>
    dld   spm[0:0x600].f32, ap1                     ; W rows 64..96
    sems  sem1, n=1
    apset ap2, f32 @0x14000 [64,1,1,1] <1,0,0,0>
    dld   spm[0:0x800].f32<0,0,0>, ap2
    apset ap3, f32 @0x14100 [32,1,1,1] <1,0,0,0>
    dld   spm[0:0x804].f32<0,0,0>, ap3
    sems  sem2, n=1
    halt
.engine mxu
    semw  sem0, n=1
    semw  sem1, n=1
    ldwt  spm[0:0x400].f32, k=64, m=64
    mma   acc[0:0x0].f32, spm[0:0x0].f32, k=64, m=64, n2=64
    ldwt  spm[0:0x500].f32, k=64, m=64
    mma   acc[0:0x0].f32, spm[0:0x100].f32, k=64, m=64, n2=64, cont=1
    sems  sem3, n=1
    ldwt  spm[0:0x600].f32, k=64, m=32
    mma   acc[0:0x100].f32, spm[0:0x0].f32, k=64, m=32, n2=64
    ldwt  spm[0:0x700].f32, k=64, m=32
    mma   acc[0:0x100].f32, spm[0:0x100].f32, k=64, m=32, n2=64, cont=1
    sems  sem3, n=1
    semw  sem4, n=1
    mtrn  acc[0:0x200].f32, spm[0:0xa00].f32, parts=64, n=64
    semw  sem4, n=1
    mtrn  acc[0:0x300].f32, spm[0:0xb00].f32, parts=32, n=64
    sems  sem5, n=1
    halt
.engine act
    semw  sem2, n=1
    semw  sem3, n=1
    act   identity, spm[0:0xa00].f32, acc[0:0x0].f32, bias=spm[0:0x800].f32<0,0,0>, 64:1x1x64
    sems  sem4, n=1
    semw  sem3, n=1
    act   identity, spm[0:0xb00].f32, acc[0:0x100].f32, bias=spm[0:0x804].f32<0,0,0>, 32:1x1x64
    sems  sem4, n=1
    halt
