; `dga` gathers rows of DRAM by indices on chip; the first extent of the pattern bounds them, the next two are those
; of a row.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim dga.s --values > out
; RUN: not kiln sim index.s >> out 2>&1
; RUN: expect %s < out
;--- dga.s
.target edge
.output y f32 [2,6] @0x1000
.data @0x0 i32 3, 0, 1, 3
.data @0x200 f16 0, 1, 2, 10, 11, 12, 20, 21, 22, 30, 31, 32
.engine q0
    apset ap0, i32 @0x0 [2,1,1,2] <2,0,0,1>
    dld spm[0:0x0].i32, ap0
    fence
    apset ap1, f16 @0x200 [4,1,3,1] <3,0,1,0>
    dga spm[0:0x20].f32<3,0,1>, ap1, spm[0:0x0].i32, parts=2, n0=2
    apset ap0, f32 @0x1000 [2,1,1,6] <6,0,0,1>
    dst ap0, spm[0:0x20].f32
    halt
;--- index.s
.target edge
.data @0x0 i32 4
.data @0x200 f32 1, 2, 3, 4
.engine q0
    apset ap0, i32 @0x0 [1,1,1,1] <0,0,0,1>
    dld spm[0:0x0].i32, ap0
    fence
    apset ap1, f32 @0x200 [4,1,1,1] <1,0,0,1>
    dga spm[0:0x20].f32<3,0,1>, ap1, spm[0:0x0].i32, parts=1
    halt
; EXPECT
; On edge: 519 cycles, 0.52 µs, 384 B of DRAM traffic
;   q0        8 instructions, busy        96 ticks, waiting         0
; y: f32 [2, 6]
;   30 31 32 30 31 32
;   10 11 12 10 11 12
; kiln::sim::trap
;
;   × trap in q0 at word 6 (cycle 239): index 4 is outside 0..4
;   │   dga spm[0:0x20].f32<3,0,1>, ap1, spm[0:0x0].i32<0,0,1>, parts=1
;   │   from no origin
;   help: an index of the input is out of range for the tensor it selects from
