// Programs, DRAM tensors, groups, loops, views.
// RUN: kiln opt %s | kiln opt | FileCheck %s

// CHECK: tile.program @main
tile.program @main {
  // CHECK-NEXT: tile.dram input @x : tensor<8x16xf32> {nn.name = "x"}
  tile.dram input @x : tensor<8x16xf32> {nn.name = "x"}
  // CHECK-NEXT: tile.dram weight @w : tensor<4x4xf32> parts [file 0 at 64 rows 4 x 8 pitch 8 to 0 pitch 16, file 1
  tile.dram weight @w : tensor<4x4xf32>
      parts [file 0 at 64 rows 4 x 8 pitch 8 to 0 pitch 16, file 1 at 0 rows 4 x 8 pitch 8 to 8 pitch 16]
  // CHECK-NEXT: tile.dram fold @c : tensor<4xf32> from @fold0
  tile.dram fold @c : tensor<4xf32> from @fold0
  // CHECK-NEXT: tile.dram temp @t : tensor<8xf16>
  tile.dram temp @t : tensor<8xf16>
  // CHECK: tile.group @g
  tile.group @g {
    // CHECK-NEXT: %[[B:.*]] = tile.alloc depth 1 : !tile.buf<8x16xf32, spm, part 0>
    %b = tile.alloc depth 1 : !tile.buf<8x16xf32, spm, part 0>
    // CHECK-NEXT: tile.load @x offset 0 strides [16, 1] -> %[[B]] : <8x16xf32, spm, part 0>
    tile.load @x offset 0 strides [16, 1] -> %b : !tile.buf<8x16xf32, spm, part 0>
    // CHECK-NEXT: tile.for %[[I:.*]] = 2
    tile.for %i = 2 {
      // CHECK-NEXT: tile.sub %[[B]] [0, 4] at(%[[I]]) by [0, 8] : <8x16xf32, spm, part 0> -> <8x4xf32, spm, part 0>
      %v = tile.sub %b [0, 4] at (%i) by [0, 8] : <8x16xf32, spm, part 0> -> <8x4xf32, spm, part 0>
      // CHECK-NEXT: tile.fill %{{.*}} value 0xFFF0000000000000 : <8x4xf32, spm, part 0>
      tile.fill %v value 0xFFF0000000000000 : <8x4xf32, spm, part 0>
    }
  }
}
