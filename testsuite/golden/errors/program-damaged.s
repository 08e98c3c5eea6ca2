; A program file of another version, one that was cut off, one of which a bit of the directory has changed, one of the code.
; RUN: mkdir -p %t.files && cd %t.files && kiln asm %s -o whole && cp whole other && cp whole bit && cp whole code && rm -f out
; RUN: cd %t.files && printf '\002' | dd of=other bs=1 seek=8 conv=notrunc status=none && not kiln sim other >> out 2>&1
; RUN: cd %t.files && head -c 150 whole > short && not kiln sim short >> out 2>&1
; RUN: cd %t.files && printf 'x' | dd of=bit bs=1 seek=70 conv=notrunc status=none && not kiln sim bit >> out 2>&1
; RUN: cd %t.files && printf 'x' | dd of=code bs=1 seek=200 conv=notrunc status=none && not kiln sim code >> out 2>&1
; RUN: expect %s < %t.files/out
.target edge
.engine q0
    nop
    halt
; EXPECT
; kiln::program::version
;
;   × other: this program file has format version 2; this kiln reads version 3
;   help: compile the model again
;
; kiln::program::truncated
;
;   × short: the program file is truncated: it has 150 of 256 bytes
;   help: copy it again or compile the model again
;
; kiln::program::corrupt
;
;   × bit: the program file is corrupt: checksum of the directory differs
;   help: copy it again or compile the model again
;
; kiln::program::corrupt
;
;   × code: the program file is corrupt: checksum of the stream q0 differs
;   help: copy it again or compile the model again
