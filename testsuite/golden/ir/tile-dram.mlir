// Access to DRAM: loads, stores, gathers, scatters.
// RUN: kiln opt %s | kiln opt | FileCheck %s

tile.program @main {
  tile.dram input @x : tensor<100x8xf32>
  tile.dram input @i : tensor<16xi32>
  tile.dram output @y : tensor<16x8xf16>
  tile.group @g {
    tile.for %i = 2 {
      %idx = tile.alloc depth 2 : !tile.buf<8x1xi32, spm, part 0>
      // CHECK: tile.load @i offset 0 strides [1, 0] at(%{{.*}}) by [8] -> %{{.*}} : <8x1xi32, spm, part 0>
      tile.load @i offset 0 strides [1, 0] at (%i) by [8] -> %idx : <8x1xi32, spm, part 0>
      %b = tile.alloc depth 2 : !tile.buf<8x8xf32, spm, part 0>
      // CHECK: tile.gather @x offset 0 strides [0, 1] rows 100 stride 8, %{{.*}} -> %{{.*}} : <8x1xi32, spm, part 0>, <8x8xf32, spm, part 0>
      tile.gather @x offset 0 strides [0, 1] rows 100 stride 8, %idx -> %b : <8x1xi32, spm, part 0>, <8x8xf32, spm, part 0>
      // CHECK: tile.store %{{.*}} -> @y offset 0 strides [8, 1] at(%{{.*}}) by [64] : <8x8xf32, spm, part 0>
      tile.store %b -> @y offset 0 strides [8, 1] at (%i) by [64] : <8x8xf32, spm, part 0>
      // CHECK: tile.scatter %{{.*}}, %{{.*}} -> @y offset 0 strides [0, 1] rows 16 stride 8 : <8x8xf32, spm, part 0>, <8x1xi32, spm, part 0>
      tile.scatter %b, %idx -> @y offset 0 strides [0, 1] rows 16 stride 8 : <8x8xf32, spm, part 0>, <8x1xi32, spm, part 0>
    }
  }
}
