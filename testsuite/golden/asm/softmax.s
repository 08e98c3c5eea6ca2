; Softmax over the free axis: x[48,100], rows on partitions.
; The row maximum leaves VEC negated, so that ACT subtracts it as a per-partition bias; ACT sums the exponentials
; while it makes them.
.target edge
.input  x f32 [48,100] @0x0
.output y f32 [48,100] @0x8000
.origin "softmax|Softmax"

.engine q0
.from 0:1
    apset ap0, f32 @0x0 [48,1,1,100] <100,0,0,1>
    dld spm[0:0x0].f32, ap0
    sems sem0, n=1
    semw sem3, n=1
    apset ap1, f32 @0x8000 [48,1,1,100] <100,0,0,1>
    dst ap1, spm[0:0x0].f32
    halt

.engine vec
.from 0:1
    semw sem0, n=1
    vred max, spm[0:0x200].f32, spm[0:0x0].f32, 48:1x1x100, dims=n2
    vts mul, spm[0:0x200].f32, spm[0:0x200].f32, -1.0f, 48:1x1x1
    sems sem1, n=1
    semw sem2, n=1
    vtt div, spm[0:0x0].f32, spm[0:0x0].f32, spm[0:0x204].f32<0,0,0>, 48:1x1x100
    sems sem3, n=1
    halt

.engine act
.from 0:1
    semw sem1, n=1
    act exp, spm[0:0x0].f32, spm[0:0x0].f32, bias=spm[0:0x200].f32<0,0,0>, sum=spm[0:0x204].f32, over=n2, 48:1x1x100
    sems sem2, n=1
    halt
