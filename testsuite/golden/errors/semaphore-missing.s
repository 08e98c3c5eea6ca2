; A machine has as many semaphores as its target says.
; RUN: not kiln sim %s --set semaphores=64 2>&1 | expect %s
.target edge
.engine ctl
    sems sem64, n=1
    halt
; EXPECT
