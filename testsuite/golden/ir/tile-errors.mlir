// What the verifiers of tile say.
// RUN: kiln opt %s -split-input-file -verify-diagnostics

tile.program @p { tile.dram input @x : tensor<8x15xf32>  tile.group @g {
  %b = tile.alloc depth 1 : !tile.buf<8x16xf32, spm, part 0>
  // expected-error @+1 {{'tile.load' op reaches elements 0 to 120 of the 120 of @x}}
  tile.load @x offset 0 strides [15, 1] -> %b : <8x16xf32, spm, part 0>
} }
// -----
tile.program @p { tile.dram input @x : tensor<8x16xf32>  tile.group @g {
  %b = tile.alloc depth 1 : !tile.buf<8x16xf32, spm, part 0>
  // expected-error @+1 {{'tile.store' op cannot write to @x, an input}}
  tile.store %b -> @x offset 0 strides [16, 1] : <8x16xf32, spm, part 0>
} }
// -----
// expected-error @+1 {{acc holds f32 and i32, not 'bf16'}}
func.func private @f(!tile.buf<8xbf16, acc, part 0>)
// -----
// expected-error @+1 {{part 2 is no axis of a buffer of rank 2}}
func.func private @f(!tile.buf<8x8xf32, spm, part 2>)
// -----
tile.program @p { tile.group @g {
  %c = tile.alloc depth 1 : !tile.buf<8x4xf32, acc, part 1>
  %s = tile.alloc depth 1 : !tile.buf<8x1xf32, spm, part 0>
  %x = tile.alloc depth 1 : !tile.buf<1x4xf32, spm, part 0>
  // expected-error @+1 {{'tile.matmul' op acc's partition axis must be an axis of s alone}}
  tile.matmul %c, %s, %x : <8x4xf32, acc, part 1>, <8x1xf32, spm, part 0>, <1x4xf32, spm, part 0>
} }
// -----
tile.program @p { tile.group @g {
  %d = tile.alloc depth 1 : !tile.buf<1x4xf32, spm, part 0>
  %s = tile.alloc depth 1 : !tile.buf<8x4xf32, spm, part 0>
  // expected-error @+1 {{'tile.reduce' op cannot reduce the partition axis}}
  tile.reduce sum %d, %s : <1x4xf32, spm, part 0>, <8x4xf32, spm, part 0>
} }
