; Rows of a table by ids, plus positions: one gather, an id on each partition. The ids are i64 to the host.
.target edge
.input  ids i32 [64] @0x0 host=i64 range=0..999
.input  table f32 [1000,48] @0x1000
.input  positions f32 [64,48] @0x30000
.output y f32 [64,48] @0x40000

.engine q0
    apset ap0, i32 @0x0 [64,1,1,1] <1,0,0,0>
    dld   spm[0:0x0].i32<0,0,0>, ap0
    apset ap1, f32 @0x1000 [1000,1,48,1] <48,0,1,0>
    dga   spm[0:0x100].f32, ap1, spm[0:0x0].i32<0,0,0>, parts=64
    sems  sem0, n=1
    semw  sem2, n=1
    apset ap2, f32 @0x40000 [64,1,1,48] <48,0,0,1>
    dst   ap2, spm[0:0x100].f32
    halt
.engine q1
    apset ap0, f32 @0x30000 [64,1,1,48] <48,0,0,1>
    dld   spm[0:0x200].f32, ap0
    sems  sem1, n=1
    halt
.engine vec
    semw  sem0, n=1
    semw  sem1, n=1
    vtt   add, spm[0:0x100].f32, spm[0:0x100].f32, spm[0:0x200].f32, 64:1x1x48
    sems  sem2, n=1
    halt
