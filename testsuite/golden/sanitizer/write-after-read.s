; A slot that is filled again before anything says that its reader is done.
; RUN: not kiln sim %s --sanitize | expect %s
.target edge
.engine vec
    loop count=2, end
    viota spm[0:0x0].i32, 4:1x1x16
    sems sem0, n=1
    loop count=50, pause
    nop
pause: endl
end: endl
    halt
.engine act
    loop count=2, end
    semw sem0, n=1
    act identity, spm[0:0x1000].f32, spm[0:0x0].i32, 4:1x1x16
end: endl
    halt
; EXPECT
; On edge: 162 cycles, 0.16 µs, 0 B of DRAM traffic
;   vec      210 instructions, busy        48 ticks, waiting         0
;   act        8 instructions, busy       112 ticks, waiting        47
; fault: a write races with a read before it: spm partitions 0..4, bytes 0x0..0x40
;   vec word 1: viota spm[0:0x0].i32<0,0,1>, 4:1x1x16  [no origin]
;   act word 2: act identity, spm[0:0x1000].f32<0,0,1>, spm[0:0x0].i32<0,0,1>, 4:1x1x16  [no origin]
;   [kiln::sanitize::write_after_read] the writer must wait for a signal that the reader sends afterwards, before it fills the buffer again
; Sanitizer: 1 fault, 0 pieces of advice
