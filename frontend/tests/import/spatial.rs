//! Operators with windows over spatial dims, and those that change their extents. What must come out was computed by
//! onnxruntime, or by ONNX's reference where it has none.

use kiln_machine::tensor::DType;

use crate::build::{f, i, tensor};
use crate::case::{Case, case};

/// Inputs, attributes and results.
pub fn cases() -> Vec<Case> {
    vec![
        case("AveragePool")
            .input(f(&[1, 1, 5], &[0., 0., 1., 2., -2.]))
            .ints("kernel_shape", &[3])
            .ints("strides", &[2])
            .ints("pads", &[1, 1])
            .gives(f(&[1, 1, 3], &[0., 1., 0.])),
        case("MaxPool")
            .input(f(&[1, 1, 3, 3], &[-1.5, 1.25, 2., -1., -0.75, 1.5, -0.25, -1., 1.5]))
            .ints("kernel_shape", &[2, 2])
            .gives(f(&[1, 1, 2, 2], &[1.25, 2., -0.25, 1.5]))
            .gives(i(&[1, 1, 2, 2], &[1., 2., 6., 5.])),
        case("LpPool")
            .input(f(&[1, 1, 4], &[-1., -0.5, 0.5, 0.25]))
            .ints("kernel_shape", &[2])
            .int("p", 2)
            .gives(f(&[1, 1, 3], &[1.11803401, 0.707106769, 0.559017003])),
        case("GlobalLpPool")
            .input(f(&[1, 2, 3], &[-1.75, -2., 1.5, 1., 1.5, 0.25]))
            .int("p", 1)
            .gives(f(&[1, 2, 1], &[5.25, 2.75])),
        case("ConvTranspose")
            .input(f(&[1, 2, 3], &[1.25, -0.75, -0.25, 1.25, -1.5, -0.75]))
            .known(f(&[2, 2, 2], &[-1.5, -0.25, 2., -1.5, -0.5, -0.5, 1.75, -1.25]))
            .known(f(&[2], &[0., -1.]))
            .ints("strides", &[2])
            .ints("pads", &[1, 0])
            .ints("output_padding", &[1])
            .gives(f(
                &[1, 2, 6],
                &[-0.9375, 1.875, 0.9375, 0.75, 0.4375, 0., -4.4375, -5.125, 2., -2.8125, 0.3125, -1.],
            )),
        case("ConvInteger")
            .input(tensor(DType::U8, &[1, 2, 4], &[0., 15., 1., 5., 9., 9., 2., 19.]))
            .known(tensor(DType::U8, &[2, 1, 2], &[14., 19., 1., 14.]))
            .known(tensor(DType::U8, &[], &[3.]))
            .known(tensor(DType::U8, &[], &[5.]))
            .int("group", 2)
            .ints("pads", &[1, 0])
            .gives(tensor(DType::I32, &[1, 2, 4], &[-42., 141., 80., 10., 54., 30., -33., 148.])),
        case("QLinearConv")
            .input(tensor(DType::U8, &[1, 1, 4], &[5., 10., 18., 5.]))
            .known(f(&[], &[0.5]))
            .known(tensor(DType::U8, &[], &[3.]))
            .known(tensor(DType::I8, &[2, 1, 2], &[4., -6., -3., 9.]))
            .known(f(&[2], &[0.5, 0.25]))
            .known(tensor(DType::I8, &[2], &[0., 0.]))
            .known(f(&[], &[2.]))
            .known(tensor(DType::U8, &[], &[30.]))
            .known(tensor(DType::I32, &[2], &[4., -7.]))
            .gives(tensor(DType::U8, &[1, 2, 3], &[26., 23., 36., 33., 37., 28.])),
        case("CausalConvWithState")
            .input(f(&[1, 2, 3], &[-0.25, 0., -1., -1.75, -0.25, 0.5]))
            .input(f(&[2, 1, 2], &[-0.25, 1.25, -0.5, 0.5]))
            .input(f(&[2], &[1.25, 1.75]))
            .input(f(&[1, 2, 1], &[-0.25, -2.]))
            .gives(f(&[1, 2, 3], &[1., 1.3125, 0., 1.875, 2.5, 2.125]))
            .gives(f(&[1, 2, 1], &[-1., 0.5])),
        case("Resize")
            .input(f(&[1, 1, 3], &[1., 0., 1.5]))
            .skip()
            .skip()
            .known(i(&[3], &[1., 1., 5.]))
            .text("mode", "linear")
            .gives(f(&[1, 1, 5], &[1., 0.599999964, 0., 0.900000215, 1.5])),
        case("Resize")
            .input(f(&[1, 1, 3], &[-0.25, -0.5, -1.75]))
            .skip()
            .skip()
            .known(i(&[3], &[1., 1., 5.]))
            .text("mode", "nearest")
            .text("coordinate_transformation_mode", "asymmetric")
            .text("nearest_mode", "floor")
            .gives(f(&[1, 1, 5], &[-0.25, -0.25, -0.5, -0.5, -1.75])),
        case("Resize")
            .input(f(&[1, 1, 3, 2], &[-0.25, 0.5, 1.25, 1.5, -1.25, 0.5]))
            .skip()
            .skip()
            .known(i(&[4], &[1., 1., 4., 3.]))
            .text("mode", "cubic")
            .gives(f(
                &[1, 1, 4, 3],
                &[
                    -0.425885677,
                    0.0352783203,
                    0.496442378,
                    0.961094737,
                    1.11682129,
                    1.27254891,
                    0.450062424,
                    0.881713867,
                    1.31336617,
                    -1.59069979,
                    -0.500610352,
                    0.589478612,
                ],
            )),
        case("Upsample")
            .input(f(&[1, 1, 2], &[1.25, -1.]))
            .known(f(&[3], &[1., 1., 2.]))
            .gives(f(&[1, 1, 4], &[1.25, 1.25, -1., -1.])),
    ]
}
