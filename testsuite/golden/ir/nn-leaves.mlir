// Constants, weights, iota; port attributes of a function.
// RUN: kiln opt %s | kiln opt | FileCheck %s

// CHECK: module attributes {nn.files = ["model.onnx", ""]}
module attributes {nn.files = ["model.onnx", ""]} {
  // CHECK: func.func @main(%{{.*}}: tensor<2xi32> {nn.host_type = i64, nn.name = "ids", nn.range = array<i64: 0, 99>})
  func.func @main(%ids: tensor<2xi32> {nn.name = "ids", nn.host_type = i64, nn.range = array<i64: 0, 99>})
      -> (tensor<2x3xf32> {nn.name = "y"}) {
    // CHECK: nn.weight file 0 offset 64 length 1200 : tensor<100x3xf32>
    %w = nn.weight file 0 offset 64 length 1200 : tensor<100x3xf32>
    %y = nn.gather %w, %ids axis 0 : (tensor<100x3xf32>, tensor<2xi32>) -> tensor<2x3xf32>
    return %y : tensor<2x3xf32>
  }

  func.func @leaves() -> (tensor<2xf32>, tensor<2xi1>, tensor<0x4xui8>, tensor<f8E4M3FN>, tensor<2x3xi32>) {
    // CHECK: nn.constant dense<[1.500000e+00, 0xFF800000]> : tensor<2xf32>
    %a = nn.constant dense<[1.5, 0xFF800000]> : tensor<2xf32>
    // CHECK: nn.constant dense<[true, false]> : tensor<2xi1>
    %b = nn.constant dense<[true, false]> : tensor<2xi1>
    // CHECK: nn.constant dense<> : tensor<0x4xui8>
    %c = nn.constant dense<> : tensor<0x4xui8>
    // CHECK: nn.constant dense<2.000000e+00> : tensor<f8E4M3FN>
    %d = nn.constant dense<2.0> : tensor<f8E4M3FN>
    // CHECK: nn.iota axis 1 : tensor<2x3xi32>
    %e = nn.iota axis 1 : tensor<2x3xi32>
    return %a, %b, %c, %d, %e : tensor<2xf32>, tensor<2xi1>, tensor<0x4xui8>, tensor<f8E4M3FN>, tensor<2x3xi32>
  }
}
