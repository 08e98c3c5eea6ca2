; Softmax along the free axis of 64 rows of 256: the maximum goes in as ACT's bias, the sum comes out of the same
; instruction.
.target edge
.input  x f32 [64,256] @0x0
.output y f32 [64,256] @0x10000

.engine q0
    apset ap0, f32 @0x0 [64,1,1,256] <256,0,0,1>
    dld   spm[0:0x0].f32, ap0
    sems  sem0, n=1
    semw  sem1, n=1
    apset ap1, f32 @0x10000 [64,1,1,256] <256,0,0,1>
    dst   ap1, spm[0:0x0].f32
    halt
.engine vec
    semw  sem0, n=1
    vred  max, spm[0:0x400].f32<0,0,0>, spm[0:0x0].f32, 64:1x1x256, dims=n2
    vts   sub, spm[0:0x400].f32<0,0,0>, spm[0:0x400].f32<0,0,0>, 0, rev=1, 64:1x1x1
    sems  sem2, n=1
    halt
.engine act
    semw  sem2, n=1
    act   exp, spm[0:0x0].f32, spm[0:0x0].f32, bias=spm[0:0x400].f32<0,0,0>, sum=spm[0:0x404].f32<0,0,0>, over=n2, 64:1x1x256
    act   reciprocal, spm[0:0x404].f32<0,0,0>, spm[0:0x404].f32<0,0,0>, 64:1x1x1
    actr  identity, spm[0:0x0].f32, spm[0:0x0].f32, spm[0:0x404].f32<0,0,0>, 64:1x1x256
    sems  sem1, n=1
    halt
