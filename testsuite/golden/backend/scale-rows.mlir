// A loop over row tiles with rings: loads, a per-partition scalar, stores, and the semaphores between them.
tile.program @main {
  tile.dram input @x : tensor<256x32xf32> {nn.name = "x"}
  tile.dram input @s : tensor<256xf32> {nn.name = "s"}
  tile.dram output @y : tensor<256x32xf32> {nn.name = "y"}
  tile.group @rows {
    tile.for %i = 4 {
      %x = tile.alloc depth 2 : !tile.buf<64x32xf32, spm, part 0>
      %s = tile.alloc depth 2 : !tile.buf<64x1xf32, spm, part 0>
      %y = tile.alloc depth 2 : !tile.buf<64x32xf32, spm, part 0>
      tile.load @x offset 0 strides [32, 1] at (%i) by [2048] -> %x : <64x32xf32, spm, part 0>
      tile.load @s offset 0 strides [1, 0] at (%i) by [64] -> %s : <64x1xf32, spm, part 0>
      tile.map mul %y, (%x, %s) : !tile.buf<64x32xf32, spm, part 0>, !tile.buf<64x32xf32, spm, part 0>, !tile.buf<64x1xf32, spm, part 0>
      tile.store %y -> @y offset 0 strides [32, 1] at (%i) by [2048] : <64x32xf32, spm, part 0>
    }
  }
}

// EXPECT
// vec:
//   0: sems sem3, n=2
//   1: sems sem4, n=2
//   2: loop count=4, @12
//   3: semw sem1, n=1
//   4: semw sem2, n=1
//   5: semw sem5, n=1
//   6: vtt mul, spm[0:0xa0+r1].f32<0,0,1>, spm[0:0x0+r1].f32<0,0,1>, spm[0:0x80+r1].f32<0,0,0>, 64:1x1x32
//   8: sems sem0, n=1
//   9: sems sem3, n=1
//   10: sems sem4, n=1
//   11: alu sub, r1, r0, r1, imm=-288
//   12: endl
//   13: semw sem5, n=2
//   14: halt
// q0:
//   0: apset ap0, f32 @0x0 [64,1,1,32] <32,0,0,1>
//   2: loop count=4, @7, step=r2:8192
//   3: semw sem3, n=1
//   4: dld spm[0:0x0+r1].f32<0,0,1>, ap0, reg=r2
//   5: sems sem1, n=1
//   6: alu sub, r1, r0, r1, imm=-288
//   7: endl
//   8: semw sem3, n=2
//   9: halt
// q1:
//   0: apset ap0, f32 @0x8000 [64,1,1,1] <1,0,0,0>
//   2: loop count=4, @7, step=r2:256
//   3: semw sem4, n=1
//   4: dtr spm[0:0x80+r1].f32<0,0,0>, ap0, reg=r2
//   5: sems sem2, n=1
//   6: alu sub, r1, r0, r1, imm=-288
//   7: endl
//   8: semw sem4, n=2
//   9: halt
// q4:
//   0: sems sem5, n=2
//   1: apset ap0, f32 @0x8400 [64,1,1,32] <32,0,0,1>
//   3: loop count=4, @8, step=r2:8192
//   4: semw sem0, n=1
//   5: dst ap0, reg=r2, spm[0:0xa0+r1].f32<0,0,1>
//   6: sems sem5, n=1
//   7: alu sub, r1, r0, r1, imm=-288
//   8: endl
//   9: halt
