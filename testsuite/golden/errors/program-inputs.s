; Inputs of a program that are of another type, shape or range, or that it does not have.
; RUN: cd %faulty && not kiln sim %s --input x=x_wrong_dtype.npy > %t 2>&1
; RUN: not kiln sim %s --input x=x_wrong_shape.npy >> %t 2>&1
; RUN: not kiln sim %s --input z=x_right.npy >> %t 2>&1
; RUN: expect %s < %t
.target edge
.input x f32 [2,4] @0x0
.engine q0
    halt
; EXPECT
