; Layer norm of 64 rows of 256, rows on partitions: the sums run along the free axis.
.target edge
.input  x f32 [64,256] @0x0
.input  g f32 [256]    @0x10000
.input  b f32 [256]    @0x10400
.output y f32 [64,256] @0x11000

.engine q0
    apset ap0, f32 @0x0 [64,1,1,256] <256,0,0,1>
    dld   spm[0:0x0].f32, ap0
    sems  sem0, n=1
    semw  sem3, n=1
    apset ap1, f32 @0x11000 [64,1,1,256] <256,0,0,1>
    dst   ap1, spm[0:0x0].f32
    halt
.engine q1
    apset ap0, f32 @0x10000 [64,1,1,256] <0,0,0,1>
    dld   spm[0:0x400].f32, ap0
    apset ap1, f32 @0x10400 [64,1,1,256] <0,0,0,1>
    dld   spm[0:0x800].f32, ap1
    sems  sem1, n=1
    halt
.engine vec
    semw  sem0, n=1
    vred  sum, spm[0:0xc00].f32<0,0,0>, spm[0:0x0].f32, 64:1x1x256, dims=n2
    vts   mul, spm[0:0xc00].f32<0,0,0>, spm[0:0xc00].f32<0,0,0>, 0.00390625f, 64:1x1x1
    vtt   sub, spm[0:0x0].f32, spm[0:0x0].f32, spm[0:0xc00].f32<0,0,0>, 64:1x1x256
    sems  sem2, n=1
    semw  sem4, n=1
    vts   mul, spm[0:0xc04].f32<0,0,0>, spm[0:0xc04].f32<0,0,0>, 0.00390625f, 64:1x1x1
    vts   add, spm[0:0xc04].f32<0,0,0>, spm[0:0xc04].f32<0,0,0>, 0.00001f, 64:1x1x1
    sems  sem2, n=1
    semw  sem4, n=1
    semw  sem1, n=1
    vtt   mul, spm[0:0x0].f32, spm[0:0x0].f32, spm[0:0x400].f32, 64:1x1x256
    vtt   add, spm[0:0x0].f32, spm[0:0x0].f32, spm[0:0x800].f32, 64:1x1x256
    sems  sem3, n=1
    halt
.engine act
    semw  sem2, n=1
    ; the squares are needed only for their sum
    act   square, spm[0:0xc10].f32, spm[0:0x0].f32, sum=spm[0:0xc04].f32<0,0,0>, over=n2, 64:1x1x256
    sems  sem4, n=1
    semw  sem2, n=1
    act   rsqrt, spm[0:0xc08].f32<0,0,0>, spm[0:0xc04].f32<0,0,0>, 64:1x1x1
    actr  identity, spm[0:0x0].f32, spm[0:0x0].f32, spm[0:0xc08].f32<0,0,0>, 64:1x1x256
    sems  sem4, n=1
    halt
