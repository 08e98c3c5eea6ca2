// Over named axes transposes are nothing: two that cancel leave no op.
// RUN: kiln opt %s --pass-pipeline='builtin.module(algebra,cse)' --mlir-print-debuginfo | FileCheck %s

// CHECK-LABEL: func.func @main
func.func @main(%x: tensor<4x8xf32> {nn.name = "x"}) -> (tensor<4x8xf32> {nn.name = "y"}) {
  // CHECK-NOT: nn.transpose
  // CHECK: nn.map exp %{{.*}} : (tensor<4x8xf32>) -> tensor<4x8xf32> loc(#[[EXP:.*]])
  // CHECK-NOT: nn.transpose
  %t = nn.transpose %x perm [1, 0] : tensor<4x8xf32> -> tensor<8x4xf32> loc("/t|Transpose")
  %e = nn.map exp %t : (tensor<8x4xf32>) -> tensor<8x4xf32> loc("/e|Exp")
  %y = nn.transpose %e perm [1, 0] : tensor<8x4xf32> -> tensor<4x8xf32> loc("/u|Transpose")
  // CHECK: return
  // CHECK: #[[EXP]] = loc({{.*}}"/e|Exp"
  return %y : tensor<4x8xf32>
}
