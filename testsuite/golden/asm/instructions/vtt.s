; `vtt` on pairs, one row of the output for each operation in the order written: floats in f32, integers in i32.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim floats.s --values > out
; RUN: kiln sim integers.s --values >> out
; RUN: not kiln sim bits.s >> out 2>&1
; RUN: expect %s < out
;--- floats.s
.target edge
.output y f32 [15,4] @0x1000
.data @0x0 f32 -7.5, 2, nan, 1
.data @0x100 f32 2, 0, 1, 1
.engine q0
    apset ap0, f32 @0x0 [1,1,1,4] <4,0,0,1>
    dld spm[0:0x0].f32, ap0
    apset ap0, f32 @0x100 [1,1,1,4] <4,0,0,1>
    dld spm[0:0x10].f32, ap0
    sems sem0, n=1
    semw sem1, n=1
    apset ap0, f32 @0x1000 [1,1,15,4] <0,0,4,1>
    dst ap0, spm[0:0x40].f32<0,4,1>
    halt
.engine vec
    semw sem0, n=1
    vtt add, spm[0:0x40].f32, spm[0:0x0].f32, spm[0:0x10].f32, 1:1x1x4
    vtt sub, spm[0:0x50].f32, spm[0:0x0].f32, spm[0:0x10].f32, 1:1x1x4
    vtt mul, spm[0:0x60].f32, spm[0:0x0].f32, spm[0:0x10].f32, 1:1x1x4
    vtt div, spm[0:0x70].f32, spm[0:0x0].f32, spm[0:0x10].f32, 1:1x1x4
    vtt max, spm[0:0x80].f32, spm[0:0x0].f32, spm[0:0x10].f32, 1:1x1x4
    vtt min, spm[0:0x90].f32, spm[0:0x0].f32, spm[0:0x10].f32, 1:1x1x4
    vtt pow, spm[0:0xa0].f32, spm[0:0x0].f32, spm[0:0x10].f32, 1:1x1x4
    vtt mod, spm[0:0xb0].f32, spm[0:0x0].f32, spm[0:0x10].f32, 1:1x1x4
    vtt fmod, spm[0:0xc0].f32, spm[0:0x0].f32, spm[0:0x10].f32, 1:1x1x4
    vtt eq, spm[0:0xd0].f32, spm[0:0x0].f32, spm[0:0x10].f32, 1:1x1x4
    vtt ne, spm[0:0xe0].f32, spm[0:0x0].f32, spm[0:0x10].f32, 1:1x1x4
    vtt lt, spm[0:0xf0].f32, spm[0:0x0].f32, spm[0:0x10].f32, 1:1x1x4
    vtt le, spm[0:0x100].f32, spm[0:0x0].f32, spm[0:0x10].f32, 1:1x1x4
    vtt gt, spm[0:0x110].f32, spm[0:0x0].f32, spm[0:0x10].f32, 1:1x1x4
    vtt ge, spm[0:0x120].f32, spm[0:0x0].f32, spm[0:0x10].f32, 1:1x1x4
    sems sem1, n=1
    halt
;--- integers.s
.target edge
.output y i32 [12,4] @0x1000
.data @0x0 i32 -7, 5, 2147483647, 1
.data @0x100 i32 2, 0, 2, 33
.engine q0
    apset ap0, i32 @0x0 [1,1,1,4] <4,0,0,1>
    dld spm[0:0x0].i32, ap0
    apset ap0, i32 @0x100 [1,1,1,4] <4,0,0,1>
    dld spm[0:0x10].i32, ap0
    sems sem0, n=1
    semw sem1, n=1
    apset ap0, i32 @0x1000 [1,1,12,4] <0,0,4,1>
    dst ap0, spm[0:0x40].i32<0,4,1>
    halt
.engine vec
    semw sem0, n=1
    vtt add, spm[0:0x40].i32, spm[0:0x0].i32, spm[0:0x10].i32, 1:1x1x4
    vtt sub, spm[0:0x50].i32, spm[0:0x0].i32, spm[0:0x10].i32, 1:1x1x4
    vtt mul, spm[0:0x60].i32, spm[0:0x0].i32, spm[0:0x10].i32, 1:1x1x4
    vtt div, spm[0:0x70].i32, spm[0:0x0].i32, spm[0:0x10].i32, 1:1x1x4
    vtt mod, spm[0:0x80].i32, spm[0:0x0].i32, spm[0:0x10].i32, 1:1x1x4
    vtt fmod, spm[0:0x90].i32, spm[0:0x0].i32, spm[0:0x10].i32, 1:1x1x4
    vtt and, spm[0:0xa0].i32, spm[0:0x0].i32, spm[0:0x10].i32, 1:1x1x4
    vtt or, spm[0:0xb0].i32, spm[0:0x0].i32, spm[0:0x10].i32, 1:1x1x4
    vtt xor, spm[0:0xc0].i32, spm[0:0x0].i32, spm[0:0x10].i32, 1:1x1x4
    vtt shl, spm[0:0xd0].i32, spm[0:0x0].i32, spm[0:0x10].i32, 1:1x1x4
    vtt shr, spm[0:0xe0].i32, spm[0:0x0].i32, spm[0:0x10].i32, 1:1x1x4
    vtt max, spm[0:0xf0].i32, spm[0:0x0].i32, spm[0:0x10].i32, 1:1x1x4
    sems sem1, n=1
    halt
;--- bits.s
.target edge
.data @0x0 f32 1, 2
.engine q0
    apset ap0, f32 @0x0 [1,1,1,2] <2,0,0,1>
    dld spm[0:0x0].f32, ap0
    sems sem0, n=1
    halt
.engine vec
    semw sem0, n=1
    vtt and, spm[0:0x20].f32, spm[0:0x0].f32, spm[0:0x0].f32, 1:1x1x2
    halt
; EXPECT
; On edge: 868 cycles, 0.87 µs, 384 B of DRAM traffic
;   vec       18 instructions, busy       339 ticks, waiting       274
;   q0        9 instructions, busy        96 ticks, waiting       551
; y: f32 [15, 4]
;   -5.5 2 NaN 2
;   -9.5 2 NaN 0
;   -15 0 NaN 1
;   -3.75 inf NaN 1
;   2 2 NaN 1
;   -7.5 0 NaN 1
;   56.25 1 NaN 1
;   0.5 NaN NaN 0
;   -1.5 NaN NaN 0
;   0 0 0 1
;   1 1 1 0
;   1 0 0 0
;   1 0 0 1
;   0 1 0 0
;   0 1 0 1
; On edge: 786 cycles, 0.79 µs, 320 B of DRAM traffic
;   vec       15 instructions, busy       261 ticks, waiting       274
;   q0        9 instructions, busy        96 ticks, waiting       473
; y: i32 [12, 4]
;   -5 5 -2147483647 34
;   -9 5 2147483645 -32
;   -14 0 -2 33
;   -3 0 1073741823 0
;   1 0 1 1
;   -1 0 1 1
;   0 0 2 1
;   -5 5 2147483647 33
;   -5 5 2147483645 32
;   -28 5 -4 0
;   -2 5 536870911 0
;   2 5 2147483647 33
; kiln::sim::trap
;
;   × trap in vec at word 1 (cycle 242): f32 cannot be used here
;   │   vtt and, spm[0:0x20].f32<0,0,1>, spm[0:0x0].f32<0,0,1>,
;   │ spm[0:0x0].f32<0,0,1>, 1:1x1x2
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
