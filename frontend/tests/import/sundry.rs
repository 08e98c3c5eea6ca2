//! Operators on bits, activations, selections and recurrences. What must come out was computed by onnxruntime, or by
//! ONNX's reference where it has none.

use kiln_machine::tensor::DType;

use crate::build::{b, f, i, tensor};
use crate::case::{Case, case};

/// Inputs, attributes and results.
pub fn cases() -> Vec<Case> {
    vec![
        case("BitwiseAnd")
            .input(tensor(DType::I32, &[4], &[-16., 33., 8., 0.]))
            .input(tensor(DType::I32, &[4], &[17., 1., 48., 25.]))
            .gives(tensor(DType::I32, &[4], &[16., 1., 0., 0.])),
        case("BitwiseOr")
            .input(tensor(DType::I32, &[4], &[-16., 33., 8., 0.]))
            .input(tensor(DType::I32, &[4], &[17., 1., 48., 25.]))
            .gives(tensor(DType::I32, &[4], &[-15., 33., 56., 25.])),
        case("BitwiseXor")
            .input(tensor(DType::I32, &[4], &[-16., 33., 8., 0.]))
            .input(tensor(DType::I32, &[4], &[17., 1., 48., 25.]))
            .gives(tensor(DType::I32, &[4], &[-31., 32., 56., 25.])),
        case("BitwiseNot").input(tensor(DType::U8, &[4], &[1., 2., 10., 16.])).gives(tensor(
            DType::U8,
            &[4],
            &[254., 253., 245., 239.],
        )),
        case("BitShift")
            .input(tensor(DType::U8, &[4], &[1., 13., 15., 15.]))
            .input(tensor(DType::U8, &[4], &[0., 1., 2., 9.]))
            .text("direction", "LEFT")
            .gives(tensor(DType::U8, &[4], &[1., 26., 60., 0.])),
        case("BitShift")
            .input(tensor(DType::U8, &[4], &[17., 3., 11., 16.]))
            .input(tensor(DType::U8, &[4], &[0., 1., 2., 9.]))
            .text("direction", "RIGHT")
            .gives(tensor(DType::U8, &[4], &[17., 1., 2., 0.])),
        case("Celu")
            .input(f(&[5], &[-0.5, -1.25, 0., -1.75, -1.25]))
            .float("alpha", 2.0)
            .gives(f(&[5], &[-0.442398429, -0.929477155, 0., -1.16627598, -0.929477155])),
        case("Selu")
            .input(f(&[5], &[1.5, 0.75, 1.5, 1.5, 1.5]))
            .gives(f(&[5], &[1.57605147, 0.788025737, 1.57605147, 1.57605147, 1.57605147])),
        case("Shrink")
            .input(f(&[6], &[-0.75, 0., 0.5, -1., 1.75, -2.]))
            .float("lambd", 0.5)
            .float("bias", 0.25)
            .gives(f(&[6], &[-0.5, 0., 0., -0.75, 1.5, -1.75])),
        case("ThresholdedRelu")
            .input(f(&[6], &[1.5, 0.5, -1., 1., -0.25, 1.5]))
            .float("alpha", 0.5)
            .gives(f(&[6], &[1.5, 0., 0., 1., 0., 1.5])),
        case("SwiGLU")
            .input(f(&[4], &[2., -1., -0.25, -1.25]))
            .input(f(&[4], &[0.75, 0.5, 1.5, 1.25]))
            .gives(f(&[4], &[1.3211956, -0.134470701, -0.164183795, -0.347968966])),
        case("Hardmax")
            .input(f(&[2, 3], &[1., 3., 3., 2., 0., 1.]))
            .gives(f(&[2, 3], &[0., 1., 0., 1., 0., 0.])),
        case("LpNormalization")
            .input(f(&[2, 3], &[2., 2., 1.75, -1.5, -2., 0.]))
            .int("p", 1)
            .gives(f(&[2, 3], &[0.347826093, 0.347826093, 0.304347813, -0.428571433, -0.571428597, 0.])),
        case("LpNormalization")
            .input(f(&[2, 3], &[-0.75, 1.75, 1.25, -0.25, 0.25, 0.5]))
            .int("axis", 0)
            .gives(f(
                &[2, 3],
                &[-0.948683262, 0.989949465, 0.928476691, -0.316227764, 0.141421363, 0.371390671],
            )),
        case("MeanVarianceNormalization")
            .input(f(&[1, 2, 2, 2], &[1.75, -2., 0., 0.75, -0.25, 1.75, 2., 1.5]))
            .gives(f(
                &[1, 2, 2, 2],
                &[
                    1.18181813,
                    -1.5454545,
                    -0.0909090936,
                    0.454545468,
                    -1.69705629,
                    0.565685451,
                    0.848528147,
                    0.282842726,
                ],
            )),
        case("CumProd")
            .input(f(&[2, 3], &[-0.25, 1.75, -1.75, 0.75, -1., -1.]))
            .known(i(&[], &[1.]))
            .int("reverse", 1)
            .gives(f(&[2, 3], &[0.765625, -3.0625, -1.75, 0.75, 1., -1.])),
        case("Compress")
            .input(f(&[2, 3], &[0.75, 1.25, 1.75, -1.25, 1.5, 1.5]))
            .known(b(&[3], &[1., 0., 1.]))
            .int("axis", 1)
            .gives(f(&[2, 2], &[0.75, 1.75, -1.25, 1.5])),
        case("EyeLike")
            .input(f(&[2, 3], &[-0.75, -1.75, 1.25, 1.5, -0.25, -1.5]))
            .int("k", 1)
            .gives(f(&[2, 3], &[0., 1., 0., 0., 0., 1.])),
        case("NonZero").known(i(&[4], &[0., 5., 0., 7.])).gives(i(&[1, 2], &[1., 3.])),
        case("ReverseSequence")
            .input(f(&[4, 2], &[-1.5, -0.5, 1., -0.75, -2., 0.75, 1., -1.25]))
            .input(i(&[2], &[3., 1.]))
            .gives(f(&[4, 2], &[-2., -0.5, 1., -0.75, -1.5, 0.75, 1., -1.25])),
        case("Scatter")
            .input(f(&[2, 3], &[0.25, -0.5, 0., -2., 0.5, -1.]))
            .input(i(&[2, 1], &[1., 0.]))
            .input(f(&[2, 1], &[0.25, -0.25]))
            .int("axis", 1)
            .gives(f(&[2, 3], &[0.25, 0.25, 0., -0.25, 0.5, -1.])),
        case("TensorScatter")
            .input(f(&[2, 4, 1], &[0.5, -1.75, -0.5, 0.5, 1.25, -0.5, -2., 1.]))
            .input(f(&[2, 2, 1], &[0., 0.75, -1.5, -0.25]))
            .input(i(&[2], &[0., 2.]))
            .int("axis", 1)
            .gives(f(&[2, 4, 1], &[0., 0.75, -0.5, 0.5, 1.25, -0.5, -1.5, -0.25])),
        case("LinearAttention")
            .input(f(&[1, 2, 2], &[1.75, 1.5, -0.75, 0.5]))
            .input(f(&[1, 2, 2], &[-1.75, 1.25, -1., -0.75]))
            .input(f(&[1, 2, 3], &[2., 0.25, 1.5, -1.25, 1., 2.]))
            .input(f(&[1, 1, 2, 3], &[-1.75, -1., -1.5, -1., -0.75, -1.75]))
            .input(f(&[1, 2, 1], &[1.75, -1.]))
            .input(f(&[1, 2, 1], &[1.75, 1.]))
            .int("q_num_heads", 1)
            .int("kv_num_heads", 1)
            .gives(f(
                &[1, 2, 3],
                &[-6.17751694, -5.1954689, -19.8674965, -6.78476477, -3.34016132, -1.43065357],
            ))
            .gives(f(
                &[1, 1, 2, 3],
                &[7.92582512, 2.86190176, 1.39275885, -7.30147457, -5.15455103, -1.95736122],
            )),
    ]
}
