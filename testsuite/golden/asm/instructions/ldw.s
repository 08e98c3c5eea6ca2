; `ldw` loads grid rows part..part+k and columns col..col+m from a view with the contracted dim on partitions.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim ldw.s --values > out
; RUN: not kiln sim columns.s >> out 2>&1
; RUN: not kiln sim type.s >> out 2>&1
; RUN: expect %s < out
;--- ldw.s
.target edge
.output y f32 [3,2] @0x1000
.data @0x0 f32 1, 2, 3, 10, 20, 30
.data @0x100 f32 1, 0.5, 1, -1
.engine q0
    apset ap0, f32 @0x0 [2,1,1,3] <3,0,0,1>
    dld spm[0:0x0].f32, ap0
    apset ap0, f32 @0x100 [2,1,1,2] <2,0,0,1>
    dld spm[0:0x20].f32, ap0
    sems sem0, n=1
    semw sem1, n=1
    apset ap0, f32 @0x1000 [3,1,1,2] <2,0,0,1>
    dst ap0, acc[1:0x0].f32
    halt
.engine mxu
    semw sem0, n=1
    ldw spm[0:0x0].f32, k=2, m=3, col=1
    mma acc[1:0x0].f32, spm[0:0x20].f32, k=2, m=3, n2=2
    sems sem1, n=1
    halt
;--- columns.s
.target edge
.data @0x0 f32 1, 2, 3, 10, 20, 30
.engine q0
    apset ap0, f32 @0x0 [2,1,1,3] <3,0,0,1>
    dld spm[0:0x0].f32, ap0
    sems sem0, n=1
    halt
.engine mxu
    semw sem0, n=1
    ldw spm[0:0x0].f32, k=2, m=3, col=62
    halt
;--- type.s
.target edge
.data @0x0 u32 1, 2
.engine q0
    apset ap0, u32 @0x0 [1,1,1,2] <2,0,0,1>
    dld spm[0:0x0].u32, ap0
    sems sem0, n=1
    halt
.engine mxu
    semw sem0, n=1
    ldw spm[0:0x0].u32, k=1, m=2
    halt
; EXPECT
; On edge: 671 cycles, 0.67 µs, 192 B of DRAM traffic
;   mxu        5 instructions, busy        10 ticks, waiting       274
;   q0        9 instructions, busy        96 ticks, waiting       366
; y: f32 [3, 2]
;   11 -9.5
;   22 -19
;   33 -28.5
; kiln::sim::trap
;
;   × trap in mxu at word 1 (cycle 242): the array has 64 columns, the
;   │ instruction needs 65
;   │   ldw spm[0:0x0].f32<0,0,1>, k=2, m=3, col=62
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
;
; kiln::sim::trap
;
;   × trap in mxu at word 1 (cycle 242): u32 cannot be used here
;   │   ldw spm[0:0x0].u32<0,0,1>, k=1, m=2
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
