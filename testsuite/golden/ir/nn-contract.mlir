// Contract, reduce, scan, topk, conv.
// RUN: kiln opt %s | kiln opt | FileCheck %s

func.func @main(%q: tensor<2x8x5x64xf32>, %k: tensor<2x5x8x64xf32>, %i: tensor<3x2x9x9xf32>, %w: tensor<4x1x3x3xf32>) {
  // CHECK: nn.contract %{{.*}}, %{{.*}} batch [0, 1] x [0, 2] contract [3] x [3] acc f32
  // CHECK-SAME: (tensor<2x8x5x64xf32>, tensor<2x5x8x64xf32>) -> tensor<2x8x5x5xf32>
  %s = nn.contract %q, %k batch [0, 1] x [0, 2] contract [3] x [3] acc f32
      : (tensor<2x8x5x64xf32>, tensor<2x5x8x64xf32>) -> tensor<2x8x5x5xf32>
  // CHECK: nn.reduce max %{{.*}} axes [2, 3] : tensor<2x8x5x5xf32> -> tensor<2x8xf32>
  %m = nn.reduce max %s axes [2, 3] : tensor<2x8x5x5xf32> -> tensor<2x8xf32>
  // CHECK: nn.reduce argmax %{{.*}} axes [1] : tensor<2x8xf32> -> tensor<2xi32>
  %a = nn.reduce argmax %m axes [1] : tensor<2x8xf32> -> tensor<2xi32>
  // CHECK: nn.scan sum %{{.*}} axis 0 exclusive reverse : tensor<2x8xf32>
  %c = nn.scan sum %m axis 0 exclusive reverse : tensor<2x8xf32>
  // CHECK: nn.topk %{{.*}} k 3 axis 1 largest : (tensor<2x8xf32>) -> (tensor<2x3xf32>, tensor<2x3xi32>)
  %v, %x = nn.topk %c k 3 axis 1 largest : (tensor<2x8xf32>) -> (tensor<2x3xf32>, tensor<2x3xi32>)
  // CHECK: nn.conv %{{.*}}, %{{.*}} strides [2, 2] pads [1, 1] x [0, 0] dilations [1, 2] groups 2
  // CHECK-SAME: -> tensor<3x4x4x3xf32>
  %o = nn.conv %i, %w strides [2, 2] pads [1, 1] x [0, 0] dilations [1, 2] groups 2
      : (tensor<3x2x9x9xf32>, tensor<4x1x3x3xf32>) -> tensor<3x4x4x3xf32>
  return
}
