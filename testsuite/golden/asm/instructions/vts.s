; `vts` with an immediate, swapped by `rev`; the immediate is an i32 where the source is an integer.
; RUN: rm -rf %t && split-file %s %t && cd %t
; RUN: kiln sim vts.s --values > out
; RUN: not kiln sim unwritten.s >> out 2>&1
; RUN: expect %s < out
;--- vts.s
.target edge
.output f f32 [2,4] @0x1000
.output i i32 [2,4] @0x1400
.data @0x0 f32 1, 2, 3, 4
.data @0x100 i32 1, -7, 0, 30
.engine q0
    apset ap0, f32 @0x0 [2,1,1,2] <2,0,0,1>
    dld spm[0:0x0].f32, ap0
    apset ap0, i32 @0x100 [2,1,1,2] <2,0,0,1>
    dld spm[0:0x10].i32, ap0
    sems sem0, n=1
    semw sem1, n=1
    apset ap0, f32 @0x1000 [2,1,1,4] <4,0,0,1>
    dst ap0, spm[0:0x40].f32
    apset ap0, i32 @0x1400 [2,1,1,4] <4,0,0,1>
    dst ap0, spm[0:0x50].i32
    halt
.engine vec
    semw sem0, n=1
    vts sub, spm[0:0x40].f32, spm[0:0x0].f32, 1.5f, 2:1x1x2
    vts sub, spm[0:0x48].f32, spm[0:0x0].f32, 1.5f, rev=1, 2:1x1x2
    vts shl, spm[0:0x50].i32, spm[0:0x10].i32, 3, 2:1x1x2
    vts div, spm[0:0x58].i32, spm[0:0x10].i32, 100, rev=1, 2:1x1x2
    sems sem1, n=1
    halt
;--- unwritten.s
.target edge
.engine vec
    vts add, spm[0:0x40].f32, spm[0:0x0].f32, 1.0f, 1:1x1x2
    halt
; EXPECT
; On edge: 635 cycles, 0.64 µs, 256 B of DRAM traffic
;   vec        7 instructions, busy        85 ticks, waiting       274
;   q0       11 instructions, busy       128 ticks, waiting       297
; f: f32 [2, 4]
;   -0.5 0.5 0.5 -0.5
;   1.5 2.5 -1.5 -2.5
; i: i32 [2, 4]
;   8 -56 100 -14
;   0 240 0 3
; kiln::sim::trap
;
;   × trap in vec at word 0 (cycle 0): uninitialised read: spm partition 0, byte
;   │ 0x0
;   │   vts add, spm[0:0x40].f32<0,0,1>, spm[0:0x0].f32<0,0,1>, 1.0f, 1:1x1x2
;   │   from no origin
;   help: an instruction reads before its operand was written: a wait is missing
;         or an address is wrong
