; `dsc` scatters rows to DRAM by indices on chip; of equal indices the last in order (p, n0) stays.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim dsc.s --values > out
; RUN: not kiln sim index.s >> out 2>&1
; RUN: expect %s < out
;--- dsc.s
.target edge
.output y f32 [4,2] @0x1000
.data @0x0 i32 2, 0, 2
.data @0x100 f32 1, 2, 3, 4, 5, 6
.data @0x200 f32 -1, -1, -1, -1, -1, -1, -1, -1
.engine q0
    apset ap0, f32 @0x200 [4,1,1,2] <2,0,0,1>
    dld spm[0:0x40].f32, ap0
    apset ap0, f32 @0x1000 [4,1,1,2] <2,0,0,1>
    dst ap0, spm[0:0x40].f32
    apset ap0, i32 @0x0 [3,1,1,1] <1,0,0,0>
    dld spm[0:0x0].i32, ap0
    apset ap0, f32 @0x100 [3,1,1,2] <2,0,0,1>
    dld spm[0:0x20].f32, ap0
    fence
    apset ap1, f32 @0x1000 [4,1,2,1] <2,0,1,0>
    dsc spm[0:0x20].f32, ap1, spm[0:0x0].i32, parts=3
    halt
;--- index.s
.target edge
.dram 0x1000
.data @0x0 i32 -1
.engine q0
    apset ap0, i32 @0x0 [1,1,1,1] <0,0,0,1>
    dld spm[0:0x0].i32, ap0
    fence
    apset ap1, i32 @0x200 [4,1,1,1] <1,0,0,1>
    dsc spm[0:0x0].i32, ap1, spm[0:0x0].i32, parts=1
    halt
; EXPECT
; On edge: 582 cycles, 0.58 µs, 448 B of DRAM traffic
;   q0       12 instructions, busy       160 ticks, waiting         0
; y: f32 [4, 2]
;   3 4
;   -1 -1
;   5 6
;   -1 -1
; kiln::sim::trap
;
;   × trap in q0 at word 6 (cycle 239): index -1 is outside 0..4
;   │   dsc spm[0:0x0].i32<0,0,1>, ap1, spm[0:0x0].i32<0,0,1>, parts=1
;   │   from no origin
;   help: an index of the input is out of range for the tensor it selects from
