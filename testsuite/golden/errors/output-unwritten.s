; An output that the program did not store.
; RUN: not kiln sim %s 2>&1 | expect %s
.target edge
.output y f32 [8] @0x0
.engine q0
    halt
; EXPECT
; kiln::sim::unwritten_output
;
;   × output `y` was not written: DRAM byte 0x0
;   help: the program ended before it stored this output
