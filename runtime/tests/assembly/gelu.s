; y = gelu(x·W + b) in one go: W [K, N] is stationary as it lies in DRAM, outputs are on partitions, where the bias is
; a scalar of the partition; ACT and VEC finish the tile from the accumulators.
.target edge
.input  x f32 [64,64] @0x0
.input  w f32 [64,64] @0x4000
.input  b f32 [64]    @0x8000
.output y f32 [64,64] @0x9000

.engine q0
    apset ap0, f32 @0x0 [64,1,1,64] <1,0,0,64>
    dtr   spm[0:0x0].f32, ap0                       ; x turned: k on partitions
    sems  sem0, n=1
    semw  sem4, n=1
    apset ap1, f32 @0x9000 [64,1,1,64] <1,0,0,64>
    dst   ap1, spm[0:0x300].f32                     ; y: outputs on partitions, written by element
    halt
.engine q1
    apset ap0, f32 @0x4000 [64,1,1,64] <64,0,0,1>
    dld   spm[0:0x100].f32, ap0
    apset ap1, f32 @0x8000 [64,1,1,1] <1,0,0,0>
    dld   spm[0:0x500].f32<0,0,0>, ap1
    sems  sem1, n=1
    sems  sem5, n=1
    halt
.engine mxu
    semw  sem0, n=1
    semw  sem1, n=1
    ldw   spm[0:0x100].f32, k=64, m=64
    mma   acc[0:0x0].f32, spm[0:0x0].f32, k=64, m=64, n2=64
    sems  sem2, n=1
    halt
.engine act
    semw  sem5, n=1
    semw  sem2, n=1
    act   identity, spm[0:0x200].f32, acc[0:0x0].f32, bias=spm[0:0x500].f32<0,0,0>, 64:1x1x64
    act   erf, spm[0:0x300].f32, spm[0:0x200].f32, scale=0.70710677, 64:1x1x64
    sems  sem3, n=1
    halt
.engine vec
    semw  sem3, n=1
    vts   add, spm[0:0x300].f32, spm[0:0x300].f32, 1.0f, 64:1x1x64
    vts   mul, spm[0:0x300].f32, spm[0:0x300].f32, 0.5f, 64:1x1x64
    vtt   mul, spm[0:0x300].f32, spm[0:0x300].f32, spm[0:0x200].f32, 64:1x1x64
    sems  sem4, n=1
    halt
