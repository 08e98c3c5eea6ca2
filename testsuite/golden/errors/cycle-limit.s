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
