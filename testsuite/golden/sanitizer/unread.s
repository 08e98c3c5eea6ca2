; A value that lies beside where it is read: what was there before is taken for it. Only bytes of a buffer are meant to be
; read; what is left over outside is nobody's.
; RUN: not kiln sim %s --sanitize | expect %s
.target edge
.origin "neg|Neg"
.buffer b spm parts=0..4 @0x0 bytes=64
.engine vec
    viota spm[0:0x0].f32, 4:1x1x16 in=[0]
.from 0:1
    vts mul, spm[0:0x20].f32, spm[0:0x0].f32, -1.0f, 4:1x1x8 in=[0,0]
.from
    vts mul, spm[0:0x100].f32, spm[0:0x0].f32, 2.0f, 4:1x1x8 in=[-,0]
    halt
; EXPECT
; On edge: 68 cycles, 0.07 µs, 0 B of DRAM traffic
;   vec        4 instructions, busy        68 ticks, waiting         0
; fault: bytes of a buffer that nothing reads: spm partitions 0..4, bytes 0x20..0x40
;   vec word 0: viota spm[0:0x0].f32<0,0,1>, 4:1x1x16  [no origin]
;   vec word 2: vts mul, spm[0:0x20].f32<0,0,1>, spm[0:0x0].f32<0,0,1>, -1.0f, 4:1x1x8  [neg|Neg]
;   [kiln::sanitize::unread] an address or an extent is wrong, there or where they should have been read
; fault: bytes of a buffer that nothing reads: spm partitions 0..4, bytes 0x20..0x40
;   vec word 2: vts mul, spm[0:0x20].f32<0,0,1>, spm[0:0x0].f32<0,0,1>, -1.0f, 4:1x1x8  [neg|Neg]
;   [kiln::sanitize::unread] an address or an extent is wrong, there or where they should have been read
; Sanitizer: 2 faults, 0 pieces of advice
