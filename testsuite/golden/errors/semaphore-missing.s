; A machine has as many semaphores as its target says.
; RUN: not kiln sim %s --set semaphores=64 2>&1 | expect %s
.target edge
.engine ctl
    sems sem64, n=1
    halt
; EXPECT
; kiln::sim::trap
;
;   × trap in ctl at word 0 (cycle 0): there is no semaphore 64: the machine has
;   │ 64
;   │   sems sem64, n=1
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
