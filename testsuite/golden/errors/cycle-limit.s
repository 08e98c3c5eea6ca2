; A program that takes longer than it may, and where its engines stand then.
; RUN: not kiln sim %s --cycle-limit 1000 2>&1 | expect %s
.target edge
.engine ctl
    loop count=4000000000, end
    nop
end:
    endl
    halt
.engine vec
    semw sem0, n=1
    halt
; EXPECT
; kiln::sim::cycle_limit
;
;   × the program is still running after 1000 cycles:
;   │   ctl at word 2: endl  [no origin]
;   │   vec at word 0: semw sem0, n=1  [no origin]
;   help: raise the limit if the program is right (`--cycle-limit none` lifts
;         it); it may loop for ever
