// A softmax's numerator: the difference, its exponential and their sum are one instruction of ACT.
tile.program @main {
  tile.dram input @x : tensor<64x32xf32> {nn.name = "x"}
  tile.dram output @y : tensor<64x32xf32> {nn.name = "y"}
  tile.dram output @s : tensor<64xf32> {nn.name = "s"}
  tile.group @rows {
    %x = tile.alloc depth 1 : !tile.buf<64x32xf32, spm, part 0>
    %m = tile.alloc depth 1 : !tile.buf<64x1xf32, spm, part 0>
    %d = tile.alloc depth 1 : !tile.buf<64x32xf32, spm, part 0>
    %y = tile.alloc depth 1 : !tile.buf<64x32xf32, spm, part 0>
    %s = tile.alloc depth 1 : !tile.buf<64x1xf32, spm, part 0>
    tile.load @x offset 0 strides [32, 1] at () by [] -> %x : <64x32xf32, spm, part 0>
    tile.reduce max %m, %x : !tile.buf<64x1xf32, spm, part 0>, !tile.buf<64x32xf32, spm, part 0>
    tile.map sub %d, (%x, %m) : !tile.buf<64x32xf32, spm, part 0>, !tile.buf<64x32xf32, spm, part 0>, !tile.buf<64x1xf32, spm, part 0>
    tile.map exp %y, (%d) : !tile.buf<64x32xf32, spm, part 0>, !tile.buf<64x32xf32, spm, part 0>
    tile.reduce sum %s, %y : !tile.buf<64x1xf32, spm, part 0>, !tile.buf<64x32xf32, spm, part 0>
    tile.store %y -> @y offset 0 strides [32, 1] at () by [] : <64x32xf32, spm, part 0>
    tile.store %s -> @s offset 0 strides [1, 0] at () by [] : <64x1xf32, spm, part 0>
  }
}

// EXPECT
// vec:
//   0: semw sem3, n=1
//   1: vred max, spm[0:0x100].f32<0,0,0>, spm[0:0x0].f32<0,0,1>, 64:1x1x32, dims=n2
//   3: sems sem0, n=1
//   4: halt
// act:
//   0: semw sem0, n=1
//   1: act exp, spm[0:0x80].f32<0,0,1>, spm[0:0x100].f32<0,0,0>, bias=spm[0:0x0].f32<0,0,1>, sum=spm[0:0x120].f32<0,0,0>, over=n2, scale=-1.0, 64:1x1x32
//   3: sems sem1, n=1
//   4: sems sem2, n=1
//   5: halt
// q0:
//   0: apset ap0, f32 @0x0 [64,1,1,32] <32,0,0,1>
//   2: dld spm[0:0x0].f32<0,0,1>, ap0
//   3: sems sem3, n=1
//   4: halt
// q4:
//   0: semw sem1, n=1
//   1: apset ap0, f32 @0x2000 [64,1,1,32] <32,0,0,1>
//   3: dst ap0, spm[0:0x80].f32<0,0,1>
//   4: halt
// q5:
//   0: semw sem2, n=1
//   1: apset ap0, f32 @0x4000 [64,1,1,1] <1,0,0,0>
//   3: dst ap0, spm[0:0x120].f32<0,0,0>
//   4: halt
