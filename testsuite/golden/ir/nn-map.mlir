// Elementwise ops and casts.
// RUN: kiln opt %s | kiln opt | FileCheck %s

func.func @main(%a: tensor<4xf16>, %b: tensor<4xf16>, %m: tensor<4xi1>) -> tensor<4xf32> {
  // CHECK: nn.map add %{{.*}}, %{{.*}} : (tensor<4xf16>, tensor<4xf16>) -> tensor<4xf16>
  %0 = nn.map add %a, %b : (tensor<4xf16>, tensor<4xf16>) -> tensor<4xf16>
  // CHECK: nn.map exp %{{.*}} : (tensor<4xf16>) -> tensor<4xf16>
  %1 = nn.map exp %0 : (tensor<4xf16>) -> tensor<4xf16>
  // CHECK: nn.map lt %{{.*}} : (tensor<4xf16>, tensor<4xf16>) -> tensor<4xi1>
  %2 = nn.map lt %1, %b : (tensor<4xf16>, tensor<4xf16>) -> tensor<4xi1>
  // CHECK: nn.map and %{{.*}} : (tensor<4xi1>, tensor<4xi1>) -> tensor<4xi1>
  %3 = nn.map and %2, %m : (tensor<4xi1>, tensor<4xi1>) -> tensor<4xi1>
  // CHECK: nn.map select %{{.*}}, %{{.*}}, %{{.*}} : (tensor<4xi1>, tensor<4xf16>, tensor<4xf16>) -> tensor<4xf16>
  %4 = nn.map select %3, %1, %a : (tensor<4xi1>, tensor<4xf16>, tensor<4xf16>) -> tensor<4xf16>
  // CHECK: nn.cast %{{.*}} : tensor<4xf16> -> tensor<4xf32>
  %5 = nn.cast %4 : tensor<4xf16> -> tensor<4xf32>
  return %5 : tensor<4xf32>
}
