; `dtr` has the values of `dld`; its bursts run along the partitions, so a matrix comes in transposed at its dense
; traffic.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim dtr.s --values > out
; RUN: not kiln sim outside.s >> out 2>&1
; RUN: expect %s < out
;--- dtr.s
.target edge
.output y f32 [4,3] @0x1000
.data @0x0 f32 0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23
.engine q0
    apset ap0, f32 @0x0 [4,1,1,3] <1,0,0,4>
    dtr spm[0:0x0].f32, ap0
    apset ap0, f32 @0x1000 [4,1,1,3] <3,0,0,1>
    dst ap0, spm[0:0x0].f32
    halt
;--- outside.s
.target edge
.dram 64
.engine q0
    apset ap0, f32 @0x0 [65,1,1,1] <0,0,0,0>
    dtr spm[0:0x0].f32, ap0
    halt
; EXPECT
; On edge: 270 cycles, 0.27 µs, 128 B of DRAM traffic
;   q0        5 instructions, busy        64 ticks, waiting         0
; y: f32 [4, 3]
;   0 10 20
;   1 11 21
;   2 12 22
;   3 13 23
; kiln::sim::trap
;
;   × trap in q0 at word 2 (cycle 1): out of bounds: partitions 0..65 of 64 in
;   │ spm
;   │   dtr spm[0:0x0].f32<0,0,1>, ap0
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
