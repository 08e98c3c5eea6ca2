//! onnxruntime's operators. What must come out was computed by onnxruntime, or by
//! ONNX's reference where it has none.

use kiln_machine::tensor::DType;

use crate::build::{b, f, i, tensor};
use crate::case::{Case, microsoft};

/// Inputs, attributes and results.
pub fn cases() -> Vec<Case> {
    vec![
        microsoft("Attention")
            .input(f(&[1, 2, 4], &[-1.5, 0.75, 1.25, -1.5, -1.5, -0.5, -1.75, -0.25]))
            .known(f(
                &[4, 12],
                &[
                    0., 0.75, 0.25, -0.25, -1.25, 0.25, -0.25, 1.5, 0.75, 1., 0.25, -0.5, -1., -0.25, 0.25,
                    -0.5, -1.5, -1.75, -2., -1.25, -0.5, -1., -1.25, -0.75, 1., -0.75, 1.75, 0.25, -1.5, 2.,
                    1.5, 1.25, -1.5, 1.25, 0.75, 1., 1., 0.5, -0.75, 1.75, 2., 0.75, -0.5, 0., 0.25, -1.75,
                    -1.75, 0.,
                ],
            ))
            .known(f(&[12], &[0.25, -1.25, -1., -1.5, 1.75, 0., -1., 1.25, 2., -0.75, 1.75, 1.25]))
            .input(tensor(DType::I32, &[1], &[2.]))
            .int("num_heads", 2)
            .int("unidirectional", 1)
            .gives(f(
                &[1, 2, 4],
                &[-1.75, 1.1875, 4., 2.6875, -1.73158431, 1.17162442, 1.1250571, 0.625040948],
            )),
        microsoft("MultiHeadAttention")
            .input(f(&[1, 2, 4], &[1.25, 0., 1.75, -1.5, -1.75, 2., 0., -0.5]))
            .input(f(&[1, 3, 4], &[1., -0.75, 0.5, 1.5, 1.25, -1.5, 2., 1., 0.75, -1.25, 1.75, -0.5]))
            .input(f(&[1, 3, 4], &[2., -1.25, -1.75, 1.5, 0.25, -0.5, 2., 2., -2., 0.5, 1.25, 0.75]))
            .known(f(&[12], &[0.5, 0., 0.25, -0.75, -1.5, -0.5, 0.75, 1.75, 2., -1.25, -2., 2.]))
            .input(tensor(DType::I32, &[1, 3], &[1., 1., 0.]))
            .int("num_heads", 2)
            .gives(f(
                &[1, 2, 4],
                &[
                    2.99072456,
                    -2.06745338,
                    -0.192482084,
                    3.97433567,
                    3.61977291,
                    -2.33704543,
                    -1.23839414,
                    3.83488083,
                ],
            )),
        microsoft("QAttention")
            .input(tensor(DType::U8, &[1, 2, 4], &[13., 15., 16., 7., 17., 12., 12., 7.]))
            .known(tensor(
                DType::I8,
                &[4, 12],
                &[
                    -3., -2., 4., 0., -9., -9., -6., 0., 2., 9., 5., -4., 0., 5., 7., -1., 4., -6., -1., 8.,
                    -2., -9., 5., -4., -1., 9., -2., -5., -5., 7., -5., 2., -5., 6., 4., 2., -1., -3., 9.,
                    5., -2., -9., -7., -1., -1., -2., 9., 0.,
                ],
            ))
            .known(f(&[12], &[1.25, -1.5, -0.5, -1.25, -1.5, 0.25, -1.5, -0.5, 0.75, 1.25, 0.25, 0.5]))
            .known(f(&[], &[0.125]))
            .known(f(&[], &[0.25]))
            .skip()
            .known(tensor(DType::U8, &[], &[9.]))
            .known(tensor(DType::I8, &[], &[0.]))
            .int("num_heads", 2)
            .gives(f(
                &[1, 2, 4],
                &[
                    -0.256896466,
                    2.29631734,
                    1.82208443,
                    -0.642953396,
                    0.182732791,
                    2.80059791,
                    1.8442862,
                    -0.618733108,
                ],
            )),
        microsoft("RotaryEmbedding")
            .input(f(&[1, 2, 4], &[-0.75, 1.5, -1.25, 1., -1.75, 0.5, -1., -1.]))
            .input(i(&[1, 2], &[1., 3.]))
            .known(f(
                &[8, 2],
                &[-0.75, 1.25, 1.25, -1., 0.25, -1.75, 1.75, 2., -0.5, 0.25, 0.25, 1.25, -1.75, 0., 1.5, 0.5],
            ))
            .known(f(
                &[8, 2],
                &[0.25, -2., 1.75, -1.25, -0.75, 0.75, -0.25, 0.25, 0.5, -1.5, -2., 2., 1.25, -1.5, 0.75, 0.],
            ))
            .gives(f(&[1, 2, 4], &[1.25, -0.25, -2.875, -2.875, -3.3125, 1.25, -1.3125, -1.875])),
        microsoft("EmbedLayerNormalization")
            .input(tensor(DType::I32, &[1, 2], &[1., 2.]))
            .input(tensor(DType::I32, &[1, 2], &[0., 1.]))
            .known(f(
                &[5, 4],
                &[
                    1., -1.5, 0.75, 1., 2., -1., -0.25, -1.5, -2., -2., -0.25, -1.5, 1., -1.25, 0.5, 0.25,
                    -0.75, -0.25, 2., 2.,
                ],
            ))
            .known(f(&[3, 4], &[-1., 2., -1.25, 1.25, -0.75, 0.75, 0.75, 1.5, -0.5, 1.75, 1.5, -2.]))
            .known(f(&[2, 4], &[-1.75, -1.5, 0.5, -0.5, -1.5, -1.75, 1.75, 0.5]))
            .known(f(&[4], &[-2., -1., 0.75, -1.]))
            .known(f(&[4], &[1., -1., 0.5, -1.75]))
            .input(tensor(DType::I32, &[1, 2], &[1., 0.]))
            .gives(f(
                &[1, 2, 4],
                &[1., -2.41421366, -0.560660124, -1.75, 3.39182448, -0.282452703, 1.46868896, -2.37187433],
            ))
            .gives(tensor(DType::I32, &[1], &[1.])),
        microsoft("DynamicQuantizeMatMul")
            .input(f(&[1, 4], &[0., 85., 170., 255.]))
            .known(tensor(DType::I8, &[4, 2], &[6., 5., 1., 3., -8., 2., -1., -9.]))
            .known(f(&[2], &[0.5, 2.]))
            .gives(f(&[1, 2], &[-765., -3400.])),
        microsoft("MatMulIntegerToFloat")
            .input(tensor(DType::U8, &[2, 3], &[0., 8., 14., 13., 3., 3.]))
            .known(tensor(DType::I8, &[3, 2], &[-5., -2., -7., -9., -3., -8.]))
            .known(f(&[], &[0.5]))
            .known(f(&[], &[0.25]))
            .known(tensor(DType::U8, &[], &[3.]))
            .known(tensor(DType::I8, &[], &[2.]))
            .gives(f(&[2, 2], &[-9.875, -19.125, -8.75, -5.])),
        microsoft("QGemm")
            .input(tensor(DType::U8, &[2, 3], &[3., 4., 7., 8., 1., 9.]))
            .known(f(&[], &[0.5]))
            .known(tensor(DType::U8, &[], &[3.]))
            .known(tensor(DType::I8, &[2, 3], &[8., 7., -7., -3., 3., -9.]))
            .known(f(&[], &[0.25]))
            .known(tensor(DType::I8, &[], &[0.]))
            .known(tensor(DType::I32, &[2], &[5., -5.]))
            .known(f(&[], &[1.]))
            .known(tensor(DType::U8, &[], &[60.]))
            .int("transB", 1)
            .gives(tensor(DType::U8, &[2, 2], &[58., 55., 59., 50.])),
        microsoft("MatMulBnb4")
            .input(f(&[1, 4], &[0.25, 1.5, 1.25, -1.75]))
            .known(tensor(DType::U8, &[4], &[65., 13., 130., 247.]))
            .known(f(&[1], &[0.5]))
            .int("K", 4)
            .int("N", 2)
            .int("block_size", 16)
            .int("quant_type", 1)
            .gives(f(&[1, 2], &[-1.6749897, 0.24114275])),
        microsoft("GatherBlockQuantized")
            .known(tensor(
                DType::U8,
                &[3, 8],
                &[
                    195., 195., 195., 78., 247., 26., 26., 91., 117., 78., 117., 221., 117., 104., 156., 13.,
                    221., 234., 0., 156., 247., 26., 39., 26.,
                ],
            ))
            .input(i(&[2], &[2., 0.]))
            .known(f(&[3, 1], &[0.5, 1., 2.]))
            .int("block_size", 16)
            .int("bits", 4)
            .int("quantize_axis", 1)
            .gives(f(
                &[2, 16],
                &[
                    10., 10., 4., 12., -16., -16., 8., 2., -2., 14., 4., -14., -2., -12., 4., -14., -2.5, 2.,
                    -2.5, 2., -2.5, 2., 3., -2., -0.5, 3.5, 1., -3.5, 1., -3.5, 1.5, -1.5,
                ],
            )),
        microsoft("FusedConv")
            .input(f(&[1, 1, 3], &[1.75, -0.25, 2.]))
            .known(f(&[1, 1, 2], &[-1.75, 0.75]))
            .known(f(&[1], &[0.5]))
            .text("activation", "Relu")
            .gives(f(&[1, 1, 2], &[0., 2.4375])),
        microsoft("FusedGemm")
            .input(f(&[2, 3], &[0.25, 0.5, -1.5, -2., 0.5, 1.25]))
            .known(f(&[3, 2], &[1.75, 1.25, -0.25, 1.75, -2., 0.75]))
            .known(f(&[2], &[0., 0.75]))
            .text("activation", "Relu")
            .gives(f(&[2, 2], &[3.3125, 0.8125, 0., 0.0625])),
        microsoft("ExpandDims")
            .input(f(&[2, 3], &[1.5, -1.5, 1.25, -2., -0.25, -1.75]))
            .known(tensor(DType::I32, &[], &[1.]))
            .gives(f(&[2, 1, 3], &[1.5, -1.5, 1.25, -2., -0.25, -1.75])),
        microsoft("Pad")
            .input(f(&[2], &[-1., 2.]))
            .known(i(&[2], &[1., 2.]))
            .gives(f(&[5], &[0., -1., 2., 0., 0.])),
        microsoft("Trilu")
            .input(f(&[2, 2], &[-0.5, 0.5, 2., 2.]))
            .int("upper", 0)
            .gives(f(&[2, 2], &[-0.5, 0., 2., 2.])),
        microsoft("QLinearLeakyRelu")
            .input(tensor(DType::U8, &[4], &[1., 6., 19., 15.]))
            .known(f(&[], &[0.5]))
            .known(tensor(DType::U8, &[], &[3.]))
            .known(f(&[], &[0.25]))
            .known(tensor(DType::U8, &[], &[7.]))
            .float("alpha", 0.5)
            .gives(tensor(DType::U8, &[4], &[5., 13., 39., 31.])),
        microsoft("QLinearAveragePool")
            .input(tensor(DType::U8, &[1, 1, 2, 4], &[8., 1., 12., 3., 18., 5., 8., 11.]))
            .known(f(&[], &[0.5]))
            .known(tensor(DType::U8, &[], &[3.]))
            .known(f(&[], &[0.25]))
            .known(tensor(DType::U8, &[], &[7.]))
            .ints("kernel_shape", &[1, 2])
            .ints("strides", &[1, 2])
            .gives(tensor(DType::U8, &[1, 1, 2, 2], &[10., 16., 24., 20.])),
        microsoft("QLinearGlobalAveragePool")
            .input(tensor(DType::U8, &[1, 2, 2, 2], &[9., 11., 16., 9., 6., 8., 15., 11.]))
            .known(f(&[], &[0.5]))
            .known(tensor(DType::U8, &[], &[3.]))
            .known(f(&[], &[0.25]))
            .known(tensor(DType::U8, &[], &[7.]))
            .gives(tensor(DType::U8, &[1, 2, 1, 1], &[23., 21.])),
        microsoft("QLinearWhere")
            .input(b(&[3], &[1., 0., 1.]))
            .input(tensor(DType::U8, &[3], &[9., 19., 5.]))
            .known(f(&[], &[0.5]))
            .known(tensor(DType::U8, &[], &[3.]))
            .input(tensor(DType::U8, &[3], &[9., 19., 16.]))
            .known(f(&[], &[0.25]))
            .known(tensor(DType::U8, &[], &[7.]))
            .known(f(&[], &[0.5]))
            .known(tensor(DType::U8, &[], &[3.]))
            .gives(tensor(DType::U8, &[3], &[9., 9., 5.])),
        microsoft("QuantizeLinear")
            .input(f(&[4], &[0.25, -2., 0.25, -0.5]))
            .known(f(&[], &[0.5]))
            .known(tensor(DType::U8, &[], &[3.]))
            .gives(tensor(DType::U8, &[4], &[3., 0., 3., 2.])),
        microsoft("DequantizeLinear")
            .input(tensor(DType::U8, &[4], &[19., 11., 11., 12.]))
            .known(f(&[], &[0.5]))
            .known(tensor(DType::U8, &[], &[3.]))
            .gives(f(&[4], &[8., 4., 4., 4.5])),
        // Codes 3 + 2·x of 0.5 and 1.5 have the mean 1.
        microsoft("QLinearReduceMean")
            .input(tensor(DType::U8, &[1, 2], &[4., 6.]))
            .known(f(&[], &[0.5]))
            .known(tensor(DType::U8, &[], &[3.]))
            .known(f(&[], &[0.25]))
            .known(tensor(DType::U8, &[], &[7.]))
            .ints("axes", &[1])
            .gives(tensor(DType::U8, &[1, 1], &[11.])),
    ]
}
