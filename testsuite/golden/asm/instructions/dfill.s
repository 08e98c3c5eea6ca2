; `dfill` writes a constant, converted to the type of its view, to a strided place.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim dfill.s --values > out
; RUN: not kiln sim outside.s >> out 2>&1
; RUN: expect %s < out
;--- dfill.s
.target edge
.output f f32 [2,4] @0x1000
.output i i8 [2,4] @0x1400
.engine q0
    dfill spm[0:0x0].f32, 2:1x1x4, -inf
    dfill spm[0:0x4].f32<0,0,2>, 1:1x1x2, 0.1f
    dfill spm[0:0x20].i8, 2:1x1x4, 300
    apset ap0, f32 @0x1000 [2,1,1,4] <4,0,0,1>
    dst ap0, spm[0:0x0].f32
    apset ap0, i8 @0x1400 [2,1,1,4] <4,0,0,1>
    dst ap0, spm[0:0x20].i8
    halt
;--- outside.s
.target edge
.engine q0
    dfill spm[63:0x0].f32, 2:1x1x4, 0.0f
    halt
; EXPECT
; On edge: 366 cycles, 0.37 µs, 128 B of DRAM traffic
;   q0        8 instructions, busy       160 ticks, waiting         0
; f: f32 [2, 4]
;   -inf 0.1 -inf 0.1
;   -inf -inf -inf -inf
; i: i8 [2, 4]
;   44 44 44 44
;   44 44 44 44
; kiln::sim::trap
;
;   × trap in q0 at word 0 (cycle 0): out of bounds: partitions 63..65 of 64 in
;   │ spm
;   │   dfill spm[63:0x0].f32<0,0,1>, 2:1x1x4, 0
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
