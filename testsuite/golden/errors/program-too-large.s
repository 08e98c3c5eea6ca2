; A program that wants more DRAM than the machine has.
; RUN: not kiln sim %s 2>&1 | expect %s
.target edge
.dram 0x300000000
.engine q0
    halt
; EXPECT
; kiln::program::dram
;
;   × the program needs 12884901888 bytes of DRAM; the target has 8589934592
;   help: a larger dram_bytes, a smaller model, or a narrower dtype
