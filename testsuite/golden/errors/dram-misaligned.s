; DRAM elements lie at multiples of their size.
; RUN: not kiln sim %s 2>&1 | expect %s
.target edge
.input x f32 [8] @0x0
.engine q0
    apset ap0, f32 @0x2 [1,1,1,4] <0,0,0,1>
    dld spm[0:0x0].f32, ap0
    halt
; EXPECT
; kiln::sim::trap
;
;   × trap in q0 at word 2 (cycle 1): misaligned: f32 at DRAM byte 0x2
;   │   dld spm[0:0x0].f32<0,0,1>, ap0
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
