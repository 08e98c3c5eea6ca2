// A convolution becomes views and one contraction.
// RUN: kiln opt %s --pass-pipeline='builtin.module(conv-to-contract)' | FileCheck %s

// CHECK-LABEL: func.func @main
func.func @main(%x: tensor<1x3x8x8xf32> {nn.name = "x"}, %w: tensor<5x3x4x4xf32> {nn.name = "w"})
    -> (tensor<1x5x2x2xf32> {nn.name = "y"}) {
  // CHECK-NOT: nn.conv
  // CHECK: nn.contract
  // CHECK-NOT: nn.conv
  // CHECK: return %{{.*}} : tensor<1x5x2x2xf32>
  %y = nn.conv %x, %w strides [4, 4] pads [0, 0] x [0, 0] dilations [1, 1] groups 1
      : (tensor<1x3x8x8xf32>, tensor<5x3x4x4xf32>) -> tensor<1x5x2x2xf32>
  return %y : tensor<1x5x2x2xf32>
}
