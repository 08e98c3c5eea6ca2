; Whatever else stops an instruction.
; RUN: not kiln sim %s --sanitize 2>&1 | expect %s
.target edge
.engine ctl
    trap code=7
    halt
; EXPECT
; fault: a trap: trap instruction, code 7
;   ctl word 0: trap code=7  [no origin]
;   [kiln::sanitize::trap] see the instruction above
; Sanitizer: 1 fault, 0 pieces of advice
; kiln::sim::trap
;
;   × trap in ctl at word 0 (cycle 0): trap instruction, code 7
;   │   trap code=7
;   │   from no origin
;   help: the program checks something itself and found it violated
