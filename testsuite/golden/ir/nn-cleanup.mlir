// Equal ops merge, dead ops go, trivial views fold.
// RUN: kiln opt %s -canonicalize -cse | FileCheck %s

// CHECK-LABEL: func.func @main
// CHECK-SAME: %[[X:.*]]: tensor<2x6xf32>
func.func @main(%x: tensor<2x6xf32>) -> (tensor<12xf32>, tensor<2x6xf32>) {
  // CHECK-NEXT: %[[E:.*]] = nn.map exp %[[X]]
  // CHECK-NEXT: %[[S:.*]] = nn.map add %[[E]], %[[E]]
  // CHECK-NEXT: %[[R:.*]] = nn.reshape %[[S]] : tensor<2x6xf32> -> tensor<12xf32>
  // CHECK-NEXT: return %[[R]], %[[X]]
  %a = nn.map exp %x : (tensor<2x6xf32>) -> tensor<2x6xf32>
  %b = nn.map exp %x : (tensor<2x6xf32>) -> tensor<2x6xf32>
  %dead = nn.reduce sum %x axes [0] : tensor<2x6xf32> -> tensor<6xf32>
  %s = nn.map add %a, %b : (tensor<2x6xf32>, tensor<2x6xf32>) -> tensor<2x6xf32>
  %r = nn.reshape %s : tensor<2x6xf32> -> tensor<3x4xf32>
  %q = nn.reshape %r : tensor<3x4xf32> -> tensor<12xf32>
  %t = nn.transpose %x perm [0, 1] : tensor<2x6xf32> -> tensor<2x6xf32>
  %u = nn.slice %t offsets [0, 0] sizes [2, 6] strides [1, 1] : tensor<2x6xf32> -> tensor<2x6xf32>
  %v = nn.concat %u axis 1 : (tensor<2x6xf32>) -> tensor<2x6xf32>
  %w = nn.broadcast %v dims [0, 1] : tensor<2x6xf32> -> tensor<2x6xf32>
  return %q, %w : tensor<12xf32>, tensor<2x6xf32>
}
