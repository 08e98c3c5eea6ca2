// What the verifiers of nn say.
// RUN: kiln opt %s -split-input-file -verify-diagnostics

func.func @f(%a: tensor<2xf32>, %b: tensor<3xf32>) {
  // expected-error @+2 {{'nn.map' op add: shapes differ: 'tensor<2xf32>' and 'tensor<3xf32>'}}
  // expected-error @+1 {{'nn.map' op failed to infer returned types}}
  %0 = nn.map add %a, %b : (tensor<2xf32>, tensor<3xf32>) -> tensor<2xf32>
}
// -----
func.func @f(%a: tensor<2xi32>) {
  // expected-error @+2 {{'nn.map' op exp is not defined on 'tensor<2xi32>'}}
  // expected-error @+1 {{'nn.map' op failed to infer returned types}}
  %0 = nn.map exp %a : (tensor<2xi32>) -> tensor<2xi32>
}
// -----
func.func @f(%a: tensor<4x8xf32>, %b: tensor<7x3xf32>) {
  // expected-error @+1 {{'nn.contract' op contracted extents differ: 8 and 7}}
  %0 = nn.contract %a, %b batch [] x [] contract [1] x [0] acc f32 : (tensor<4x8xf32>, tensor<7x3xf32>) -> tensor<4x3xf32>
}
// -----
func.func @f(%a: tensor<4x8xf32>) {
  // expected-error @+2 {{'nn.reduce' op axes must ascend}}
  // expected-error @+1 {{'nn.reduce' op failed to infer returned types}}
  %0 = nn.reduce sum %a axes [1, 0] : tensor<4x8xf32> -> tensor<f32>
}
// -----
func.func @f(%a: tensor<4x8xf32>) {
  // expected-error @+2 {{'nn.slice' op dim 1 of 'tensor<4x8xf32>' is read up to 9}}
  // expected-error @+1 {{'nn.slice' op failed to infer returned types}}
  %0 = nn.slice %a offsets [0, 1] sizes [4, 8] strides [1, 1] : tensor<4x8xf32> -> tensor<4x8xf32>
}
// -----
module attributes {nn.files = ["a"]} { func.func @f() {
  // expected-error @+1 {{'nn.weight' op file 1 is not among the 1 of 'nn.files'}}
  %0 = nn.weight file 1 offset 0 length 8 : tensor<2xf32>
} }
// -----
func.func @f(%a: tensor<4x8xf32>) {
  // expected-error @+1 {{cannot view 'tensor<4x8xf32>' as 'tensor<5x6xf32>': the numbers of elements differ}}
  %0 = nn.reshape %a : tensor<4x8xf32> -> tensor<5x6xf32>
}
