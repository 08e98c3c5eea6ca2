; An output that the program did not store.
; RUN: not kiln sim %s 2>&1 | expect %s
.target edge
.output y f32 [8] @0x0
.engine q0
    halt
; EXPECT
