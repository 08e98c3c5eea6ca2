; `trap` stops the program with its code.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: not kiln sim trap.s > out 2>&1
; RUN: expect %s < out
;--- trap.s
.target edge
.origin "check|Assert"
.engine ctl
.from 0:1
    nop
    trap code=42
    halt
; EXPECT
; kiln::sim::trap
;
;   × trap in ctl at word 1 (cycle 1): trap instruction, code 42
;   │   trap code=42
;   │   from check|Assert
;   help: the program checks something itself and found it violated
