// A product, its bias and its activation are one group: what lies between them never leaves the chip.
// RUN: kiln opt %s --pass-pipeline='builtin.module(group-and-tile{target=core})' | FileCheck %s

// CHECK: tile.program @main
// CHECK: tile.group @g0
// CHECK-NOT: tile.store
// CHECK: tile.matmul
// CHECK-NOT: tile.store
// CHECK: tile.map add
// CHECK-NOT: tile.store
// CHECK: tile.map relu
// CHECK: tile.store
// CHECK-NOT: tile.group
func.func @main(%x: tensor<16x32xf32> {nn.name = "x"}, %w: tensor<32x8xf32> {nn.name = "w"},
                %b: tensor<8xf32> {nn.name = "b"}) -> (tensor<16x8xf32> {nn.name = "y"}) {
  %h = nn.contract %x, %w batch [] x [] contract [1] x [0] acc f32
      : (tensor<16x32xf32>, tensor<32x8xf32>) -> tensor<16x8xf32>
  %c = nn.broadcast %b dims [1] : tensor<8xf32> -> tensor<16x8xf32>
  %s = nn.map add %h, %c : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %y = nn.map relu %s : (tensor<16x8xf32>) -> tensor<16x8xf32>
  return %y : tensor<16x8xf32>
}
