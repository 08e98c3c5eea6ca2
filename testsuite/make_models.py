#!/usr/bin/env python3
"""Writes the small hand-made models under testsuite/models/ with onnxruntime's outputs beside them.

    python3 testsuite/make_models.py            (needs: pip install onnx onnxruntime numpy)

Each model is a folder in ONNX's test layout: model.onnx, test_data_set_0/input_*.pb, output_*.pb. The
folders are checked in, so the tests need no Python; run this again only after changing a model below.
"""
import pathlib

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nph

HERE = pathlib.Path(__file__).parent / "models"
DTYPE = {np.dtype("float32"): T.FLOAT, np.dtype("float16"): T.FLOAT16, np.dtype("int64"): T.INT64,
         np.dtype("bool"): T.BOOL, np.dtype("int32"): T.INT32}


def model(name, nodes, inputs, weights, outputs, opset=17, shapes=None):
    """inputs, weights: name -> array; shapes: name -> symbolic shape of an input, where it has one."""
    shapes = shapes or {}
    def build(out_shapes):
        graph = h.make_graph(
            nodes, name,
            [h.make_tensor_value_info(k, DTYPE[v.dtype], shapes.get(k, v.shape)) for k, v in inputs.items()],
            [h.make_tensor_value_info(o, dt, s) for (o, dt), s in zip(outputs, out_shapes)],
            [nph.from_array(v, k) for k, v in weights.items()])
        m = h.make_model(graph, opset_imports=[h.make_opsetid("", opset)], producer_name="make_models.py")
        m.ir_version = 8
        return m

    def run(m):
        return ort.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, inputs)

    got = run(build([None] * len(outputs)))
    m = build([[f"out{i}_{d}" for d in range(g.ndim)] if shapes else g.shape for i, g in enumerate(got)])
    onnx.checker.check_model(m)
    folder = HERE / name
    data = folder / "test_data_set_0"
    data.mkdir(parents=True, exist_ok=True)
    onnx.save(m, folder / "model.onnx")
    for i, (k, v) in enumerate(inputs.items()):
        (data / f"input_{i}.pb").write_bytes(nph.from_array(v, k).SerializeToString())
    for i, ((k, _), v) in enumerate(zip(outputs, got)):
        (data / f"output_{i}.pb").write_bytes(nph.from_array(v, k).SerializeToString())


def f32(seed, *shape, scale=1.0):
    return (np.random.Generator(np.random.PCG64(seed)).standard_normal(shape) * scale).astype(np.float32)


n = h.make_node
F = T.FLOAT

# One product, with the weight as [K,N] and as [N,K]; extents that no tile divides.
model("matmul_kn", [n("MatMul", ["x", "w"], ["y"], "mm")], {"x": f32(1, 5, 70)}, {"w": f32(2, 70, 37, scale=0.1)}, [("y", F)])
model("matmul_nk", [n("Transpose", ["w"], ["wt"], "tr", perm=[1, 0]), n("MatMul", ["x", "wt"], ["y"], "mm")],
      {"x": f32(3, 9, 33)}, {"w": f32(4, 130, 33, scale=0.1)}, [("y", F)])
model("matmul_batched", [n("MatMul", ["a", "b"], ["y"], "mm")], {"a": f32(5, 2, 3, 17, 20), "b": f32(6, 3, 20, 11)}, {}, [("y", F)])
model("gemm_bias_gelu", [
    n("Gemm", ["x", "w", "b"], ["h"], "fc", transB=1, alpha=0.5),
    n("Div", ["h", "sqrt2"], ["d"], "div"), n("Erf", ["d"], ["e"], "erf"), n("Add", ["e", "one"], ["e1"], "add"),
    n("Mul", ["h", "e1"], ["g"], "mul"), n("Mul", ["g", "half"], ["y"], "half_mul")],
    {"x": f32(7, 6, 48)}, {"w": f32(8, 96, 48, scale=0.2), "b": f32(9, 96), "sqrt2": np.float32(2.0 ** 0.5).reshape(()),
                           "one": np.float32(1).reshape(()), "half": np.float32(0.5).reshape(())}, [("y", F)])
model("elementwise", [
    n("Add", ["x", "c"], ["a"], "add"), n("Mul", ["a", "x"], ["m"], "mul"), n("Sub", ["m", "c"], ["s"], "sub"),
    n("Tanh", ["s"], ["t"], "tanh"), n("Sigmoid", ["a"], ["g"], "sigmoid"), n("Max", ["t", "g"], ["y"], "max"),
    n("Greater", ["t", "g"], ["p"], "greater")],
    {"x": f32(10, 3, 4, 50)}, {"c": f32(11, 4, 1)}, [("y", F), ("p", T.BOOL)])
model("softmax", [n("Softmax", ["x"], ["y"], "softmax", axis=-1)], {"x": f32(12, 2, 7, 65, scale=3)}, {}, [("y", F)])
model("softmax_axis", [n("Softmax", ["x"], ["y"], "softmax", axis=1)], {"x": f32(13, 3, 40, 5, scale=3)}, {}, [("y", F)])
model("layer_norm", [n("LayerNormalization", ["x", "g", "b"], ["y"], "ln", axis=-1, epsilon=1e-5)],
      {"x": f32(14, 2, 9, 72)}, {"g": f32(15, 72), "b": f32(16, 72)}, [("y", F)])
model("rms_norm", [
    n("Mul", ["x", "x"], ["sq"], "sq"), n("ReduceMean", ["sq"], ["ms"], "mean", axes=[-1]), n("Add", ["ms", "eps"], ["me"], "eps"),
    n("Sqrt", ["me"], ["rt"], "sqrt"), n("Div", ["x", "rt"], ["xn"], "div"), n("Mul", ["xn", "g"], ["y"], "gain")],
    {"x": f32(17, 3, 64)}, {"g": f32(18, 64), "eps": np.float32(1e-6).reshape(())}, [("y", F)])
model("embedding", [n("Gather", ["table", "ids"], ["y"], "lookup", axis=0)],
      {"ids": np.array([[3, 0, 41, 7], [9, 9, 2, 41]], np.int64)}, {"table": f32(19, 42, 24)}, [("y", F)], shapes={"ids": ["batch", "seq"]})
B, Hn, S, D = 1, 2, 19, 16
model("attention", [
    n("Transpose", ["k"], ["kt"], "kt", perm=[0, 1, 3, 2]), n("MatMul", ["q", "kt"], ["s"], "qk"), n("Mul", ["s", "c"], ["sc"], "scale"),
    n("Add", ["sc", "mask"], ["sm"], "mask"), n("Softmax", ["sm"], ["p"], "softmax", axis=-1), n("MatMul", ["p", "v"], ["y"], "pv")],
    {"q": f32(20, B, Hn, S, D), "k": f32(21, B, Hn, S, D), "v": f32(22, B, Hn, S, D)},
    {"c": np.float32(D ** -0.5).reshape(()),
     "mask": np.where(np.tril(np.ones((S, S), bool)), np.float32(0), np.float32(-3.4028235e38)).astype(np.float32)}, [("y", F)])
model("relu2_attention", [
    n("Transpose", ["k"], ["kt"], "kt", perm=[0, 1, 3, 2]), n("MatMul", ["q", "kt"], ["s"], "qk"), n("Relu", ["s"], ["r"], "relu"),
    n("Mul", ["r", "r"], ["p"], "square"), n("MatMul", ["p", "v"], ["y"], "pv")],
    {"q": f32(23, 1, 2, 12, 8), "k": f32(24, 1, 2, 15, 8), "v": f32(25, 1, 2, 15, 8)}, {}, [("y", F)])
model("where_slice_concat", [
    n("Slice", ["x", "s0", "e0", "ax"], ["lo"], "lo"), n("Slice", ["x", "s1", "e1", "ax"], ["hi"], "hi"), n("Neg", ["hi"], ["nh"], "neg"),
    n("Concat", ["nh", "lo"], ["rot"], "rotate_half", axis=-1), n("Less", ["x", "zero"], ["m"], "less"), n("Where", ["m", "rot", "x"], ["y"], "where")],
    {"x": f32(26, 2, 5, 16)}, {"s0": np.array([0]), "e0": np.array([8]), "s1": np.array([8]), "e1": np.array([16]), "ax": np.array([-1]),
                               "zero": np.float32(0).reshape(())}, [("y", F)])
model("int_arithmetic", [
    n("Mul", ["a", "b"], ["m"], "mul"), n("Add", ["m", "a"], ["s"], "add"), n("Mod", ["s", "b"], ["r"], "mod"), n("Div", ["s", "b"], ["d"], "div"),
    n("Equal", ["r", "d"], ["e"], "equal")],
    {"a": np.array([[-7, 8, 3], [100, -1, 0]], np.int32), "b": np.array([[2, -3, 5], [7, 7, -9]], np.int32)}, {},
    [("r", T.INT32), ("d", T.INT32), ("e", T.BOOL)])
model("matmul_f16", [n("MatMul", ["x", "w"], ["y"], "mm")], {"x": f32(27, 8, 40).astype(np.float16)},
      {"w": f32(28, 40, 24, scale=0.2).astype(np.float16)}, [("y", T.FLOAT16)])
