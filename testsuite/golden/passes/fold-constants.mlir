// What depends on small constants only is evaluated; what is larger than the limit stays.
// RUN: kiln opt %s --pass-pipeline='builtin.module(fold-constants{limit=4},cse)' | FileCheck %s

// CHECK-LABEL: func.func @main
func.func @main(%x: tensor<2x2xf32> {nn.name = "x"}) -> (tensor<2x2xf32> {nn.name = "y"}) {
  %a = nn.constant dense<[1.0, 2.0]> : tensor<2xf32>
  // CHECK: %[[C:.*]] = nn.constant dense<{{.*}}1.000000e+00, 4.000000e+00
  %b = nn.map square %a : (tensor<2xf32>) -> tensor<2xf32>
  // CHECK-NOT: nn.map square
  // CHECK: nn.map add %{{.*}}, %{{.*}}
  %c = nn.broadcast %b dims [1] : tensor<2xf32> -> tensor<2x2xf32>
  %y = nn.map add %x, %c : (tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x2xf32>
  return %y : tensor<2x2xf32>
}
