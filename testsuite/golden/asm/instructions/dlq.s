; `dlq` loads (x − zero)·scale: here two rows of four 4-bit elements, each row in two groups with their own scale and
; zero point; strides of 0 hold these for a group. Then without zero points.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim dlq.s --values > out
; RUN: not kiln sim extents.s >> out 2>&1
; RUN: expect %s < out
;--- dlq.s
.target edge
.output y f32 [2,4] @0x1000
.output plain bf16 [2,4] @0x1400
.blob 21f3785c
.image @0x0 row=4 blob=0
.data @0x100 f32 0.5, 2, -1, 0.25
.data @0x200 u8 1, 0, 8, 4
.engine q0
    apset ap0, u4 @0x0 [2,1,2,2] <4,0,2,1>
    apset ap1, f32 @0x100 [2,1,2,2] <2,0,1,0>
    apset ap2, u8 @0x200 [2,1,2,2] <2,0,1,0>
    dlq spm[0:0x0].f32<0,2,1>, ap0, ap1, zap=ap2
    dlq spm[0:0x20].bf16<0,2,1>, ap0, ap1
    apset ap0, f32 @0x1000 [2,1,1,4] <4,0,0,1>
    dst ap0, spm[0:0x0].f32
    apset ap0, bf16 @0x1400 [2,1,1,4] <4,0,0,1>
    dst ap0, spm[0:0x20].bf16
    halt
;--- extents.s
.target edge
.data @0x0 u8 1, 2, 3, 4
.engine q0
    apset ap0, u8 @0x0 [1,1,1,4] <0,0,0,1>
    apset ap1, u8 @0x0 [1,1,1,1] <0,0,0,1>
    dlq spm[0:0x0].f32, ap0, ap1
    halt
; EXPECT
; On edge: 343 cycles, 0.34 µs, 448 B of DRAM traffic
;   q0       10 instructions, busy       128 ticks, waiting         0
; y: f32 [2, 4]
;   0 0.5 6 30
;   -0 1 2 0.25
; plain: bf16 [2, 4]
;   0.5 1 6 30
;   -8 -7 3 1.25
; kiln::sim::trap
;
;   × trap in q0 at word 4 (cycle 2): the operands' extents differ: elements [1,
;   │ 1, 1, 4] and their scales or zero points [1, 1, 1, 1]
;   │   dlq spm[0:0x0].f32<0,0,1>, ap0, ap1
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
