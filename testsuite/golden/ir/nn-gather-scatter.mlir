// Gathers and scatters.
// RUN: kiln opt %s | kiln opt | FileCheck %s

func.func @main(%x: tensor<5x4xf32>, %i: tensor<2x3xi32>, %t: tensor<3x2xi32>, %e: tensor<2x4xi32>, %u: tensor<3xf32>) {
  // CHECK: nn.gather %{{.*}}, %{{.*}} axis 1 : (tensor<5x4xf32>, tensor<2x3xi32>) -> tensor<5x2x3xf32>
  %0 = nn.gather %x, %i axis 1 : (tensor<5x4xf32>, tensor<2x3xi32>) -> tensor<5x2x3xf32>
  // CHECK: nn.gather_elements %{{.*}}, %{{.*}} axis 0 : (tensor<5x4xf32>, tensor<2x4xi32>) -> tensor<2x4xf32>
  %1 = nn.gather_elements %x, %e axis 0 : (tensor<5x4xf32>, tensor<2x4xi32>) -> tensor<2x4xf32>
  // CHECK: nn.gather_nd %{{.*}}, %{{.*}} batch_dims 0 : (tensor<5x4xf32>, tensor<3x2xi32>) -> tensor<3xf32>
  %2 = nn.gather_nd %x, %t batch_dims 0 : (tensor<5x4xf32>, tensor<3x2xi32>) -> tensor<3xf32>
  // CHECK: nn.scatter_nd add %{{.*}} : (tensor<5x4xf32>, tensor<3x2xi32>, tensor<3xf32>) -> tensor<5x4xf32>
  %3 = nn.scatter_nd add %x, %t, %u : (tensor<5x4xf32>, tensor<3x2xi32>, tensor<3xf32>) -> tensor<5x4xf32>
  // CHECK: nn.scatter_elements none %{{.*}} axis 0 : (tensor<5x4xf32>, tensor<2x4xi32>, tensor<2x4xf32>) -> tensor<5x4xf32>
  %4 = nn.scatter_elements none %x, %e, %1 axis 0 : (tensor<5x4xf32>, tensor<2x4xi32>, tensor<2x4xf32>) -> tensor<5x4xf32>
  return
}
