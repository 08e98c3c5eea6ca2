; A program file of another version, one that was cut off, one of which a bit of the directory has changed, one of the code.
; RUN: kiln asm %s -o %t.kiln && cp %t.kiln %t.other && cp %t.kiln %t.bit && cp %t.kiln %t.code
; RUN: printf '\002' | dd of=%t.other bs=1 seek=8 conv=notrunc status=none && not kiln sim %t.other > %t 2>&1
; RUN: head -c 150 %t.kiln > %t.short && not kiln sim %t.short >> %t 2>&1
; RUN: printf 'x' | dd of=%t.bit bs=1 seek=70 conv=notrunc status=none && not kiln sim %t.bit >> %t 2>&1
; RUN: printf 'x' | dd of=%t.code bs=1 seek=200 conv=notrunc status=none && not kiln sim %t.code >> %t 2>&1
; RUN: expect %s < %t
.target edge
.engine q0
    nop
    halt
; EXPECT
; kiln::program::version
;
;   × this program file has format version 2; this kiln reads version 3
;   help: compile the model again
;
; kiln::program::truncated
;
;   × the program file is truncated: it has 150 of 256 bytes
;   help: copy it again or compile the model again
;
; kiln::program::corrupt
;
;   × the program file is corrupt: checksum of the directory differs
;   help: copy it again or compile the model again
;
; kiln::program::corrupt
;
;   × the program file is corrupt: checksum of the stream q0 differs
;   help: copy it again or compile the model again
