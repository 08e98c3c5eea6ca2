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
; kiln::sim::input_dtype
;
;   × input `x` is i64, the program takes f32
;   help: convert the tensor first
;
; kiln::sim::input_shape
;
;   × input `x` has shape [2, 5], the program takes [2, 4]
;   help: compile for this shape, or give a tensor of the program's shape
;
; kiln::sim::unknown_input
;
;   × the program has no input `z`
;   help: the program's inputs are: x
