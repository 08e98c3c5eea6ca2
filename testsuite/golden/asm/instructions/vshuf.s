; `vshuf` gathers along the last dim inside each partition; `bound` bounds the indices.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim vshuf.s --values > out
; RUN: not kiln sim index.s >> out 2>&1
; RUN: expect %s < out
;--- vshuf.s
.target edge
.output y f32 [2,4] @0x1000
.data @0x0 f32 10, 11, 12, 20, 21, 22
.data @0x100 i32 2, 0, 0, 1, 1, 1, 2, 0
.engine q0
    apset ap0, f32 @0x0 [2,1,1,3] <3,0,0,1>
    dld spm[0:0x0].f32, ap0
    apset ap0, i32 @0x100 [2,1,1,4] <4,0,0,1>
    dld spm[0:0x10].i32, ap0
    sems sem0, n=1
    semw sem1, n=1
    apset ap0, f32 @0x1000 [2,1,1,4] <4,0,0,1>
    dst ap0, spm[0:0x40].f32
    halt
.engine vec
    semw sem0, n=1
    vshuf spm[0:0x40].f32, spm[0:0x0].f32, spm[0:0x10].i32, 2:1x1x4, bound=3
    sems sem1, n=1
    halt
;--- index.s
.target edge
.data @0x0 f32 10, 11
.data @0x100 i32 2
.engine q0
    apset ap0, f32 @0x0 [1,1,1,2] <2,0,0,1>
    dld spm[0:0x0].f32, ap0
    apset ap0, i32 @0x100 [1,1,1,1] <1,0,0,1>
    dld spm[0:0x10].i32, ap0
    sems sem0, n=1
    halt
.engine vec
    semw sem0, n=1
    vshuf spm[0:0x40].f32, spm[0:0x0].f32, spm[0:0x10].i32, 1:1x1x1, bound=2
    halt
; EXPECT
; On edge: 541 cycles, 0.54 µs, 192 B of DRAM traffic
;   vec        4 instructions, busy        24 ticks, waiting       274
;   q0        9 instructions, busy        96 ticks, waiting       236
; y: f32 [2, 4]
;   12 10 10 11
;   21 21 22 20
; kiln::sim::trap
;
;   × trap in vec at word 1 (cycle 275): index 2 is outside 0..2
;   │   vshuf spm[0:0x40].f32<0,0,1>, spm[0:0x0].f32<0,0,1>,
;   │ spm[0:0x10].i32<0,0,1>, 1:1x1x1, bound=2
;   │   from no origin
;   help: an index of the input is out of range for the tensor it selects from
