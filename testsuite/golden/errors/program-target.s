; A program file is for the target it was made for, with the same settings.
; RUN: kiln asm %s -o %t.kiln && not kiln sim %t.kiln --target core > %t 2>&1
; RUN: not kiln sim %t.kiln --set spm_bytes=1M >> %t 2>&1
; RUN: expect %s < %t
.target edge
.engine q0
    halt
; EXPECT
; kiln::program::target
;
;   × the program was compiled for target `edge`, not for `core` as it is now
;   help: compile the model again for this target, with the same --set options
;
; kiln::program::target
;
;   × the program was compiled for target `edge`, not for `edge` as it is now
;   help: compile the model again for this target, with the same --set options
