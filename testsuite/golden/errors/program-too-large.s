; A program that wants more DRAM than the machine has.
; RUN: not kiln sim %s 2>&1 | expect %s
.target edge
.dram 0x300000000
.engine q0
    halt
; EXPECT
