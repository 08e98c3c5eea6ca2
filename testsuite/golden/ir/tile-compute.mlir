// Compute on buffers; axes m, n, k.
// RUN: kiln opt %s | kiln opt | FileCheck %s

tile.program @main { tile.group @g {
  %s = tile.alloc depth 1 : !tile.buf<8x1x16xf32, spm, part 2>
  %x = tile.alloc depth 1 : !tile.buf<1x4x16xf32, spm, part 2>
  %c = tile.alloc depth 1 : !tile.buf<8x4x1xf32, acc, part 0>
  %d = tile.alloc depth 1 : !tile.buf<8x4x1xf32, spm, part 0>
  %r = tile.alloc depth 1 : !tile.buf<8x1x1xf32, spm, part 0>
  %h = tile.alloc depth 1 : !tile.buf<8x4x1xbf16, spm, part 0>
  %i = tile.alloc depth 1 : !tile.buf<8x4x1xi32, spm, part 0>
  %t = tile.alloc depth 1 : !tile.buf<8x4x1xf32, acc, part 1>
  // CHECK: tile.matmul %[[C:.*]], %[[S:.*]], %[[X:.*]] : <8x4x1xf32, acc, part 0>, <8x1x16xf32, spm, part 2>, <1x4x16xf32, spm, part 2>
  tile.matmul %c, %s, %x : <8x4x1xf32, acc, part 0>, <8x1x16xf32, spm, part 2>, <1x4x16xf32, spm, part 2>
  // CHECK: tile.matmul %[[C]], %[[S]], %[[X]] accumulate
  tile.matmul %c, %s, %x accumulate : <8x4x1xf32, acc, part 0>, <8x1x16xf32, spm, part 2>, <1x4x16xf32, spm, part 2>
  // CHECK: tile.reduce max %[[R:.*]], %[[C]] accumulate : <8x1x1xf32, spm, part 0>, <8x4x1xf32, acc, part 0>
  tile.reduce max %r, %c accumulate : <8x1x1xf32, spm, part 0>, <8x4x1xf32, acc, part 0>
  // CHECK: tile.map sub %[[D:.*]], (%[[C]], %[[R]])
  tile.map sub %d, (%c, %r) : !tile.buf<8x4x1xf32, spm, part 0>, !tile.buf<8x4x1xf32, acc, part 0>, !tile.buf<8x1x1xf32, spm, part 0>
  // CHECK: tile.map div %[[D]], (1.000000e+00, %[[D]]) : !tile.buf<8x4x1xf32, spm, part 0>
  tile.map div %d, (1.0, %d) : !tile.buf<8x4x1xf32, spm, part 0>, !tile.buf<8x4x1xf32, spm, part 0>
  // CHECK: tile.mask %[[D]], %[[D]] base 0 axes [1, -1, 0] else 0xFFF0000000000000
  tile.mask %d, %d base 0 axes [1, -1, 0] else 0xFFF0000000000000 : <8x4x1xf32, spm, part 0>, <8x4x1xf32, spm, part 0>
  // CHECK: tile.cast %{{.*}}, %[[D]] : <8x4x1xbf16, spm, part 0>, <8x4x1xf32, spm, part 0>
  tile.cast %h, %d : <8x4x1xbf16, spm, part 0>, <8x4x1xf32, spm, part 0>
  // CHECK: tile.iota %[[I:.*]] base 3 axes [4, 1, 0] : <8x4x1xi32, spm, part 0>
  tile.iota %i base 3 axes [4, 1, 0] : <8x4x1xi32, spm, part 0>
  // CHECK: tile.transpose %{{.*}}, %[[D]] : <8x4x1xf32, acc, part 1>, <8x4x1xf32, spm, part 0>
  tile.transpose %t, %d : <8x4x1xf32, acc, part 1>, <8x4x1xf32, spm, part 0>
  // CHECK: tile.scan sum %[[D]], %[[D]] axis 1 reverse
  tile.scan sum %d, %d axis 1 reverse : <8x4x1xf32, spm, part 0>, <8x4x1xf32, spm, part 0>
  // CHECK: tile.topk %[[D]], %[[I]], %[[D]] axis 1 largest
  tile.topk %d, %i, %d axis 1 largest : <8x4x1xf32, spm, part 0>, <8x4x1xi32, spm, part 0>, <8x4x1xf32, spm, part 0>
  // CHECK: tile.shuffle %[[D]], %[[D]], %[[I]] axis 1
  tile.shuffle %d, %d, %i axis 1 : <8x4x1xf32, spm, part 0>, <8x4x1xf32, spm, part 0>, <8x4x1xi32, spm, part 0>
} }
