; A program file of another version, one that was cut off, one of which a bit of the directory has changed, one of the code.
; RUN: kiln asm %s -o %t.kiln && cp %t.kiln %t.other && cp %t.kiln %t.bit && cp %t.kiln %t.code
; RUN: printf '\002' | dd of=%t.other bs=1 seek=8 conv=notrunc status=none && not kiln sim %t.other > %t 2>&1
; RUN: head -c 150 %t.kiln > %t.short && not kiln sim %t.short >> %t 2>&1
; RUN: printf 'x' | dd of=%t.bit bs=1 seek=70 conv=notrunc status=none && not kiln sim %t.bit >> %t 2>&1
; RUN: printf 'x' | dd of=%t.code bs=1 seek=260 conv=notrunc status=none && not kiln sim %t.code >> %t 2>&1
; RUN: expect %s < %t
.target edge
.engine q0
    nop
    halt
; EXPECT
