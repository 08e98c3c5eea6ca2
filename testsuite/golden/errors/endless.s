; A program that loops for ever ends all the same, without a limit too.
; RUN: not kiln sim %s --cycle-limit none 2>&1 | expect %s
; RUN: not kiln sim %s --timing-only 2>&1 | expect %s
.target edge
.origin "/mask/Loop|Loop"
.engine ctl
.from 0:1
again:
    nop
    br al, r0, r0, again
.engine vec
    semw sem0, n=1
    halt
; EXPECT
; kiln::sim::endless
;
;   × the program loops for ever: all is as it was when this was last taken
;   │   ctl at word 1: br al, r0, r0, @0  [/mask/Loop|Loop]
;   help: no count and no register that the branch depends on has changed in
;         between
