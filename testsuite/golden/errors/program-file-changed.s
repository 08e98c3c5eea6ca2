; A weight file that is not the one the program was made for.
; RUN: mkdir -p %t && echo "other" > %t/w.bin && not kiln sim %s --model-dir %t 2>&1 | expect %s
.target edge
.file w.bin size=6 digest=1111111111111111111111111111111111111111111111111111111111111111
.engine q0
    halt
; EXPECT
; kiln::program::file
;
;   × w.bin is not the file that was compiled: its fingerprint differs
;   help: restore the file, or compile the model again
