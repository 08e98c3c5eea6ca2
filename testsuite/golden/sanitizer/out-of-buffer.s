; An operand that leaves its buffer for a neighbour's bytes, on chip and in DRAM.
; RUN: not kiln sim %s --sanitize | expect %s
.target edge
.input x f32 [4,8] @0x0
.input w f32 [4,8] @0x80
.origin "scale|Mul"
.buffer x dram @0x0 bytes=128
.buffer x.chip spm parts=0..4 @0x0 bytes=32 slots=2 pitch=64 origin=0
.engine q0
.from 0:1
    dfill spm[0:0x0].f32, 8:1x1x64, 0.0f in=[-]
    apset ap0, f32 @0x20 [4,1,1,8] <8,0,0,1>
    dld spm[0:0x40].f32, ap0 in=[1,0]
    dmv spm[0:0x10].f32, spm[0:0x40].f32, 4:1x1x8 in=[1,1]
    dmv spm[1:0x0].f32, spm[0:0x40].f32, 4:1x1x8 in=[1,1]
    halt
; EXPECT
; On edge: 337 cycles, 0.34 µs, 128 B of DRAM traffic
;   q0        6 instructions, busy       128 ticks, waiting         0
; fault: an operand outside its buffer: DRAM bytes 0x20..0xa0: it belongs to x: DRAM bytes 0x0..0x80
;   q0 word 3: dld spm[0:0x40].f32<0,0,1>, ap0  [scale|Mul]
;   [kiln::sanitize::out_of_buffer] an address or an extent is wrong
; fault: an operand outside its buffer: spm partitions 0..4, bytes 0x10..0x30: it belongs to x.chip [scale|Mul]: spm partitions 0..4, bytes 0x0..0x60, 2 slots of 32 bytes
;   q0 word 4: dmv spm[0:0x10].f32<0,0,1>, spm[0:0x40].f32<0,0,1>, 4:1x1x8  [scale|Mul]
;   [kiln::sanitize::out_of_buffer] an address or an extent is wrong
; fault: an operand outside its buffer: spm partitions 1..5, bytes 0x0..0x20: it belongs to x.chip [scale|Mul]: spm partitions 0..4, bytes 0x0..0x60, 2 slots of 32 bytes
;   q0 word 6: dmv spm[1:0x0].f32<0,0,1>, spm[0:0x40].f32<0,0,1>, 4:1x1x8  [scale|Mul]
;   [kiln::sanitize::out_of_buffer] an address or an extent is wrong
; fault: bytes of a buffer that nothing reads: spm partitions 0..1, bytes 0x10..0x30
;   q0 word 4: dmv spm[0:0x10].f32<0,0,1>, spm[0:0x40].f32<0,0,1>, 4:1x1x8  [scale|Mul]
;   [kiln::sanitize::unread] an address or an extent is wrong, there or where they should have been read
; fault: bytes of a buffer that nothing reads: spm partitions 1..4, bytes 0x0..0x20
;   q0 word 6: dmv spm[1:0x0].f32<0,0,1>, spm[0:0x40].f32<0,0,1>, 4:1x1x8  [scale|Mul]
;   [kiln::sanitize::unread] an address or an extent is wrong, there or where they should have been read
; Sanitizer: 5 faults, 0 pieces of advice
