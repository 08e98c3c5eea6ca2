; The last two elements were never written; an instruction does not make its own operand written.
; RUN: not kiln sim %s --sanitize 2>&1 | expect %s
.target edge
.engine vec
    viota spm[0:0x0].f32, 4:1x1x8
    vts add, spm[0:0x0].f32, spm[0:0x0].f32, 1.0f, 4:1x1x10
    halt
; EXPECT
; fault: a read of bytes that nothing wrote: spm partitions 0..4, bytes 0x20..0x28
;   vec word 2: vts add, spm[0:0x0].f32<0,0,1>, spm[0:0x0].f32<0,0,1>, 1.0f, 4:1x1x10  [no origin]
;   [kiln::sanitize::unwritten] an address or an extent is wrong, or a write is missing
; Sanitizer: 1 fault, 0 pieces of advice
; kiln::sim::trap
;
;   × trap in vec at word 2 (cycle 22): uninitialised read: spm partition 0,
;   │ byte 0x20
;   │   vts add, spm[0:0x0].f32<0,0,1>, spm[0:0x0].f32<0,0,1>, 1.0f, 4:1x1x10
;   │   from no origin
;   help: an instruction reads before its operand was written: a wait is missing
;         or an address is wrong
