; Rotary embedding of 64 tokens, 4 heads of 16: halves of a head are two views of one buffer, the tables repeat over
; heads by a stride of 0.
.target edge
.input  x f32 [64,4,16] @0x0
.input  cos f32 [64,8]  @0x4000
.input  sin f32 [64,8]  @0x4800
.output y f32 [64,4,16] @0x8000

.engine q0
    apset ap0, f32 @0x0 [64,1,1,64] <64,0,0,1>
    dld   spm[0:0x0].f32, ap0
    sems  sem0, n=1
    semw  sem2, n=1
    apset ap1, f32 @0x8000 [64,1,1,64] <64,0,0,1>
    dst   ap1, spm[0:0x100].f32
    halt
.engine q1
    apset ap0, f32 @0x4000 [64,1,1,8] <8,0,0,1>
    dld   spm[0:0x200].f32, ap0
    apset ap1, f32 @0x4800 [64,1,1,8] <8,0,0,1>
    dld   spm[0:0x220].f32, ap1
    sems  sem1, n=1
    halt
.engine vec
    semw  sem0, n=1
    semw  sem1, n=1
    vtt   mul, spm[0:0x100].f32<0,16,1>, spm[0:0x0].f32<0,16,1>, spm[0:0x200].f32<0,0,1>, 64:1x4x8      ; x1·cos
    vtt   mul, spm[0:0x300].f32<0,8,1>, spm[0:0x20].f32<0,16,1>, spm[0:0x220].f32<0,0,1>, 64:1x4x8      ; x2·sin
    vtt   sub, spm[0:0x100].f32<0,16,1>, spm[0:0x100].f32<0,16,1>, spm[0:0x300].f32<0,8,1>, 64:1x4x8
    vtt   mul, spm[0:0x120].f32<0,16,1>, spm[0:0x20].f32<0,16,1>, spm[0:0x200].f32<0,0,1>, 64:1x4x8     ; x2·cos
    vtt   mul, spm[0:0x300].f32<0,8,1>, spm[0:0x0].f32<0,16,1>, spm[0:0x220].f32<0,0,1>, 64:1x4x8       ; x1·sin
    vtt   add, spm[0:0x120].f32<0,16,1>, spm[0:0x120].f32<0,16,1>, spm[0:0x300].f32<0,8,1>, 64:1x4x8
    sems  sem2, n=1
    halt
