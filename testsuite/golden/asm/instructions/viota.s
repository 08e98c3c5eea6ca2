; `viota` writes base + reg + cp·p + Σ c·i, converted.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim viota.s --values > out
; RUN: not kiln sim outside.s >> out 2>&1
; RUN: expect %s < out
;--- viota.s
.target edge
.output i i32 [2,3] @0x1000
.output f f32 [2,4] @0x1400
.output u u8 [2,4] @0x1800
.engine q0
    semw sem1, n=1
    apset ap0, i32 @0x1000 [2,1,1,3] <3,0,0,1>
    dst ap0, spm[0:0x40].i32
    apset ap0, f32 @0x1400 [2,1,1,4] <4,0,0,1>
    dst ap0, spm[0:0x50].f32
    apset ap0, u8 @0x1800 [2,1,1,4] <4,0,0,1>
    dst ap0, spm[0:0x60].u8
    halt
.engine vec
    li r1, imm=1000
    viota spm[0:0x40].i32, 2:1x1x3, base=7, reg=r1, cp=100, c2=-1
    viota spm[0:0x50].f32<0,2,1>, 2:1x2x2, c1=10, c2=1
    viota spm[0:0x60].u8, 2:1x1x4, base=254, c2=1
    sems sem1, n=1
    halt
;--- outside.s
.target edge
.engine vec
    viota spm[60:0x0].i32, 5:1x1x1
    halt
; EXPECT
; On edge: 372 cycles, 0.37 µs, 192 B of DRAM traffic
;   vec        6 instructions, busy        63 ticks, waiting         0
;   q0        8 instructions, busy        96 ticks, waiting        68
; i: i32 [2, 3]
;   1007 1006 1005
;   1107 1106 1105
; f: f32 [2, 4]
;   0 1 10 11
;   0 1 10 11
; u: u8 [2, 4]
;   254 255 0 1
;   254 255 0 1
; kiln::sim::trap
;
;   × trap in vec at word 0 (cycle 0): out of bounds: partitions 60..65 of 64 in
;   │ spm
;   │   viota spm[60:0x0].i32<0,0,1>, 5:1x1x1
;   │   from no origin
;   help: the program is wrong: check the operands of the instruction above
