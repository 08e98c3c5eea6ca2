; A read that only this run's timing put behind the write of its bytes.
; RUN: not kiln sim %s --sanitize | expect %s
.target edge
.origin "sum|Add"
.engine vec
.from 0:1
    viota spm[0:0x0].f32, 4:1x1x8
.from
    halt
.engine act
    loop count=200, end
    nop
    nop
end: endl
    act identity, spm[0:0x100].f32, spm[2:0x0].f32, 2:1x1x8
    halt
; EXPECT
; On edge: 449 cycles, 0.45 µs, 0 B of DRAM traffic
;   vec        2 instructions, busy        22 ticks, waiting         0
;   act      603 instructions, busy        48 ticks, waiting         0
; fault: a read races with a write: spm partitions 2..4, bytes 0x0..0x20
;   act word 4: act identity, spm[0:0x100].f32<0,0,1>, spm[2:0x0].f32<0,0,1>, 2:1x1x8  [no origin]
;   vec word 0: viota spm[0:0x0].f32<0,0,1>, 4:1x1x8  [sum|Add]
;   [kiln::sanitize::read_after_write] the reader must wait for a signal that the writer sends afterwards
; Sanitizer: 1 fault, 0 pieces of advice
