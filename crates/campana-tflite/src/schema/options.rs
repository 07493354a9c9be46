//! Options of operators.

use super::TensorType;
use crate::flatbuffer::{Field, Table};

/// Padding of windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Padding {
    /// So that there are `ceil(input / stride)` windows, an odd element at the end.
    Same = 0,
    Valid = 1,
}

/// A clamp that an operator has of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    None = 0,
    Relu = 1,
    ReluN1To1 = 2,
    Relu6 = 3,
}

/// Where elements of a resized image lie on the original.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resize {
    pub(crate) align_corners: bool,
    pub(crate) half_pixel_centers: bool,
}

/// Options of an operator; extents are `[height, width]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Options {
    None,
    Conv {
        padding: Padding,
        strides: [usize; 2],
        dilations: [usize; 2],
        activation: Activation,
    },
    Depthwise {
        padding: Padding,
        strides: [usize; 2],
        dilations: [usize; 2],
        multiplier: usize,
        activation: Activation,
    },
    TransposeConv {
        strides: [usize; 2],
    },
    Pool {
        padding: Padding,
        strides: [usize; 2],
        window: [usize; 2],
    },
    FullyConnected {
        keeps_axes: bool,
        activation: Activation,
    },
    Softmax,
    LocalResponseNormalization {
        radius: usize,
        bias: f32,
        alpha: f32,
        beta: f32,
    },
    Concatenation {
        axis: usize,
    },
    Add(Activation),
    Sub(Activation),
    Mul(Activation),
    Div(Activation),
    Reshape(Vec<usize>),
    Bilinear(Resize),
    Nearest(Resize),
    Reducer {
        keeps_axes: bool,
    },
    StridedSlice,
    Split {
        count: usize,
    },
    Gather {
        axis: usize,
    },
    Cast([TensorType; 2]),
    LeakyRelu {
        alpha: f32,
    },
    Mirror,
    DepthToSpace {
        size: usize,
    },
    SpaceToDepth {
        size: usize,
    },
    BatchMatmul,
    Gelu {
        approximate: bool,
    },
}

fn int(value: usize) -> Field {
    Field::I32(value as i32)
}

impl Options {
    /// The number of the options' kind in the schema's union, and their table.
    pub(super) fn table(&self) -> Option<(i8, Table)> {
        if let Some(found) = self.windowed() {
            return Some(found);
        }
        let one = |kind, field| (kind, Table(vec![(0, field)]));
        Some(match self {
            Self::FullyConnected {
                keeps_axes,
                activation,
            } => {
                let fields = vec![
                    (0, Field::I8(*activation as i8)),
                    (2, Field::Bool(*keeps_axes)),
                ];
                (8, Table(fields))
            }
            Self::LocalResponseNormalization {
                radius,
                bias,
                alpha,
                beta,
            } => {
                let numbers = [(1, *bias), (2, *alpha), (3, *beta)];
                let numbers = numbers.map(|(slot, number)| (slot, Field::F32(number)));
                let fields = [(0, int(*radius))].into_iter().chain(numbers);
                (13, Table(fields.collect()))
            }
            Self::Softmax => one(9, Field::F32(1.0)),
            Self::Concatenation { axis } => one(10, int(*axis)),
            Self::Add(activation) => one(11, Field::I8(*activation as i8)),
            Self::Mul(activation) => one(21, Field::I8(*activation as i8)),
            Self::Sub(activation) => one(28, Field::I8(*activation as i8)),
            Self::Div(activation) => one(29, Field::I8(*activation as i8)),
            Self::Reshape(shape) => {
                let shape = shape.iter().map(|&extent| extent as i32);
                one(17, Field::I32s(shape.collect()))
            }
            Self::Bilinear(resize) => (15, resize.table(2)),
            Self::Nearest(resize) => (74, resize.table(0)),
            Self::Reducer { keeps_axes } => one(27, Field::Bool(*keeps_axes)),
            Self::StridedSlice => (32, Table::default()),
            Self::Split { count } => one(79, int(*count)),
            Self::Gather { axis } => one(23, int(*axis)),
            Self::Cast([from, to]) => {
                let types = [(0, Field::I8(*from as i8)), (1, Field::I8(*to as i8))];
                (37, Table(types.to_vec()))
            }
            Self::LeakyRelu { alpha } => one(75, Field::F32(*alpha)),
            Self::Mirror => (77, Table::default()),
            Self::SpaceToDepth { size } => one(19, int(*size)),
            Self::DepthToSpace { size } => one(94, int(*size)),
            Self::BatchMatmul => (101, Table::default()),
            Self::Gelu { approximate } => one(116, Field::Bool(*approximate)),
            _ => return None,
        })
    }

    /// Of operators that slide a window.
    fn windowed(&self) -> Option<(i8, Table)> {
        let (kind, padding, strides) = match self {
            Self::Conv {
                padding, strides, ..
            } => (1, *padding, strides),
            Self::Depthwise {
                padding, strides, ..
            } => (2, *padding, strides),
            Self::Pool {
                padding, strides, ..
            } => (5, *padding, strides),
            Self::TransposeConv { strides } => (49, Padding::Valid, strides),
            _ => return None,
        };
        let mut fields = vec![
            (0, Field::I8(padding as i8)),
            (1, int(strides[1])),
            (2, int(strides[0])),
        ];
        match self {
            Self::Conv {
                dilations,
                activation,
                ..
            } => {
                fields.push((3, Field::I8(*activation as i8)));
                fields.extend([(4, int(dilations[1])), (5, int(dilations[0]))]);
            }
            Self::Depthwise {
                dilations,
                multiplier,
                activation,
                ..
            } => {
                fields.extend([(3, int(*multiplier)), (4, Field::I8(*activation as i8))]);
                fields.extend([(5, int(dilations[1])), (6, int(dilations[0]))]);
            }
            Self::Pool { window, .. } => {
                fields.extend([(3, int(window[1])), (4, int(window[0]))]);
            }
            _ => {}
        }
        Some((kind, Table(fields)))
    }
}

impl Resize {
    fn table(self, first: usize) -> Table {
        Table(vec![
            (first, Field::Bool(self.align_corners)),
            (first + 1, Field::Bool(self.half_pixel_centers)),
        ])
    }
}
