; An operand that leaves its memory.
; RUN: not kiln sim %s --sanitize 2>&1 | expect %s
.target edge
.engine vec
    viota spm[0:0x7ffc].f32, 1:1x1x2
    halt
; EXPECT
; fault: an operand out of bounds: spm partitions 0..1 of 64, bytes 32764..32772 of 32768
;   vec word 0: viota spm[0:0x7ffc].f32<0,0,1>, 1:1x1x2  [no origin]
;   [kiln::sanitize::out_of_bounds] an address or an extent is wrong
; Sanitizer: 1 fault, 0 pieces of advice
; kiln::sim::trap
;
;   × trap in vec at word 0 (cycle 0): out of bounds: bytes 32764..32772 of a
;   │ spm partition of 32768 bytes
;   │   viota spm[0:0x7ffc].f32<0,0,1>, 1:1x1x2
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
