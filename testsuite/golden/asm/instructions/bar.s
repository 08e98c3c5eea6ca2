; `bar` waits for every core of the group: of one core, for none, after the latency of the link.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim bar.s --values > out
; RUN: not kiln sim group.s >> out 2>&1
; RUN: expect %s < out
;--- bar.s
.target edge
.engine col
    bar
    csr r1, cycle
    halt
;--- group.s
.target edge
.engine col
    bar group=3
    halt
; EXPECT
