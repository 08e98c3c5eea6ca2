; Two engines write one byte in no order.
; RUN: not kiln sim %s --sanitize | expect %s
.target edge
.engine vec
    viota spm[0:0x0].f32, 4:1x1x8
    halt
.engine q0
    dfill spm[3:0x1c].f32, 2:1x1x1, 0.0f
    halt
; EXPECT
; On edge: 33 cycles, 0.03 µs, 0 B of DRAM traffic
;   vec        2 instructions, busy        22 ticks, waiting         0
;   q0        2 instructions, busy        32 ticks, waiting         0
; fault: two writes race: spm partitions 3..4, bytes 0x1c..0x20
;   q0 word 0: dfill spm[3:0x1c].f32<0,0,1>, 2:1x1x1, 0  [no origin]
;   vec word 0: viota spm[0:0x0].f32<0,0,1>, 4:1x1x8  [no origin]
;   [kiln::sanitize::write_after_write] one of the two must wait for a signal of the other
; Sanitizer: 1 fault, 0 pieces of advice
