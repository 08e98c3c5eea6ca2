// Index tuples become row numbers, a scatter becomes a selection between the data and rows looked up.
// RUN: kiln opt %s --pass-pipeline='builtin.module(decompose-indexing)' | FileCheck %s

// CHECK-LABEL: func.func @main
func.func @main(%x: tensor<4x5x3xf32> {nn.name = "x"}, %i: tensor<2x2xi32> {nn.name = "i"},
                %u: tensor<2x3xf32> {nn.name = "u"})
    -> (tensor<2x3xf32> {nn.name = "taken"}, tensor<4x5x3xf32> {nn.name = "put"}) {
  // CHECK-NOT: nn.gather_nd
  // CHECK: nn.gather {{.*}} axis 0 : (tensor<20x3xf32>, tensor<2xi32>) -> tensor<2x3xf32>
  %taken = nn.gather_nd %x, %i batch_dims 0 : (tensor<4x5x3xf32>, tensor<2x2xi32>) -> tensor<2x3xf32>
  // CHECK-NOT: nn.scatter_nd
  // CHECK: nn.reduce max {{.*}} axes [1] : tensor<1x2x20x3xi32> -> tensor<1x20x3xi32>
  // CHECK: nn.gather_elements
  // CHECK: nn.map select
  %put = nn.scatter_nd none %x, %i, %u
      : (tensor<4x5x3xf32>, tensor<2x2xi32>, tensor<2x3xf32>) -> tensor<4x5x3xf32>
  return %taken, %put : tensor<2x3xf32>, tensor<4x5x3xf32>
}
