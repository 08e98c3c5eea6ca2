; A program that loops for ever, and where its engines stand then.
; RUN: not kiln sim %s --cycle-limit 1000 2>&1 | expect %s
.target edge
.engine ctl
again:
    nop
    br al, r0, r0, again
.engine vec
    semw sem0, n=1
    halt
; EXPECT
; kiln::sim::cycle_limit
;
;   × the program is still running after 1000 cycles:
;   │   ctl at word 1: br al, r0, r0, @0  [no origin]
;   │   vec at word 0: semw sem0, n=1  [no origin]
;   help: raise the limit if the program is right; it may loop for ever
