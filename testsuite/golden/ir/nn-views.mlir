// Ops that move elements about.
// RUN: kiln opt %s | kiln opt | FileCheck %s

func.func @main(%x: tensor<2x6xf32>) -> tensor<2x13xf32> {
  // CHECK: nn.reshape %{{.*}} : tensor<2x6xf32> -> tensor<2x3x2xf32>
  %0 = nn.reshape %x : tensor<2x6xf32> -> tensor<2x3x2xf32>
  // CHECK: nn.transpose %{{.*}} perm [0, 2, 1] : tensor<2x3x2xf32> -> tensor<2x2x3xf32>
  %1 = nn.transpose %0 perm [0, 2, 1] : tensor<2x3x2xf32> -> tensor<2x2x3xf32>
  // CHECK: nn.slice %{{.*}} offsets [0, 1, 0] sizes [2, 1, 2] strides [1, 1, 2] : tensor<2x2x3xf32> -> tensor<2x1x2xf32>
  %2 = nn.slice %1 offsets [0, 1, 0] sizes [2, 1, 2] strides [1, 1, 2] : tensor<2x2x3xf32> -> tensor<2x1x2xf32>
  // CHECK: nn.broadcast %{{.*}} dims [0, 1, 3] : tensor<2x1x2xf32> -> tensor<2x5x1x2xf32>
  %3 = nn.broadcast %2 dims [0, 1, 3] : tensor<2x1x2xf32> -> tensor<2x5x1x2xf32>
  %4 = nn.reshape %3 : tensor<2x5x1x2xf32> -> tensor<2x10xf32>
  // CHECK: nn.pad %{{.*}} value 1.000000e+00 : f64 low [0, 0] high [0, 1] : tensor<2x10xf32> -> tensor<2x11xf32>
  %5 = nn.pad %4 value 1.0 low [0, 0] high [0, 1] : tensor<2x10xf32> -> tensor<2x11xf32>
  // CHECK: nn.reverse %{{.*}} axes [1] : tensor<2x11xf32>
  %6 = nn.reverse %5 axes [1] : tensor<2x11xf32>
  %7 = nn.reshape %2 : tensor<2x1x2xf32> -> tensor<2x2xf32>
  // CHECK: nn.concat %{{.*}}, %{{.*}} axis 1 : (tensor<2x11xf32>, tensor<2x2xf32>) -> tensor<2x13xf32>
  %8 = nn.concat %6, %7 axis 1 : (tensor<2x11xf32>, tensor<2x2xf32>) -> tensor<2x13xf32>
  return %8 : tensor<2x13xf32>
}
