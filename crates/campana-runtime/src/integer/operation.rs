//! What steps on codes do.

use campana_kernels::int8::{ChannelParams, QuantParams};

/// What a step makes of the values that it reads.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Operation {
    /// A convolution or a dense layer. Reads the input and, where the product
    /// has a factor for it, a residual of the output's shape.
    Product(Box<Product>),
    /// The sum of two values of one shape.
    Sum(Sum),
    /// A function of each code: the code at its place.
    Map(Box<[u8; 256]>),
    /// The float at each code's place.
    Decode(Box<[f32; 256]>),
    /// The greatest code under each window inside the image; 0 where none is.
    MaxPool(Extents),
    /// The mean under each window.
    Average(Averages),
    /// Blocks of elements, one of each value that is read, into an output that
    /// holds the fill where none of them lands.
    Copy {
        /// The code of elements that no block writes.
        fill: u8,
        /// What is copied of each value.
        blocks: Vec<Block>,
    },
    /// A function of two values that are broadcast over the output.
    Combine(Box<Combination>),
}

/// How windows lie over an image with its channels last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extents {
    /// Images.
    pub batch: usize,
    /// Channels of the input.
    pub channels: usize,
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Height and width of the output.
    pub output: [usize; 2],
    /// Height and width of the window.
    pub window: [usize; 2],
    /// Step of the window.
    pub strides: [usize; 2],
    /// Distance of the window's taps.
    pub dilations: [usize; 2],
    /// Pixels outside the image before each axis.
    pub pads_begin: [usize; 2],
}

impl Extents {
    /// The shape of an output of this many channels, as ONNX has it.
    pub(super) fn output_shape(&self, channels: usize) -> Vec<usize> {
        vec![self.batch, channels, self.output[0], self.output[1]]
    }
}

/// What becomes of sums: each is a float, is multiplied and moved, and is then
/// held to bounds and, where it becomes a code, rounded to a whole number (ties
/// to even).
#[derive(Clone, Debug, PartialEq)]
pub struct Rounding {
    /// What is done with the sums of each output channel.
    pub channels: Vec<ChannelParams>,
    /// Least and greatest result: whole numbers of 0 to 255 for codes.
    pub bounds: [f32; 2],
}

/// A convolution or a dense layer: sums of codes times whole numbers, where
/// taps outside the image meet the code of zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Product {
    /// Where the windows lie.
    pub extents: Extents,
    /// Channels of the output.
    pub filters: usize,
    /// Groups of channels: as many as channels where it is depthwise.
    pub groups: usize,
    /// `[filters, channels / groups, height, width]`.
    pub weights: Vec<i8>,
    /// What the input's codes stand for.
    pub input: QuantParams,
    /// What becomes of the sums.
    pub rounding: Rounding,
    /// What a residual's code is multiplied with; the product is added to the
    /// result before the bounds, both rounded together.
    pub residual: Option<f32>,
    /// What makes codes of results that are floats first; their bounds are
    /// codes all the same.
    pub encoding: Option<Encoding>,
}

/// How floats become codes: `inverse_scale x + zero point`, each operation
/// rounded by itself, then rounded to a whole number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Encoding {
    /// What the float is multiplied with.
    pub inverse_scale: f32,
    /// The code of zero.
    pub zero_point: u8,
}

impl From<QuantParams> for Encoding {
    fn from(to: QuantParams) -> Self {
        Self {
            inverse_scale: 1.0 / to.scale,
            zero_point: to.zero_point,
        }
    }
}

impl Product {
    /// Multiplications of weights with codes.
    pub fn multiply_accumulates(&self) -> u64 {
        let [height, width] = self.extents.output;
        (self.extents.batch * height * width * self.weights.len()) as u64
    }
}

/// A sum of two values of codes: `factors[0] a + factors[1] b + offset`, every
/// operation rounded by itself, then held to bounds and rounded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sum {
    /// What the codes of each operand are multiplied with.
    pub factors: [f32; 2],
    /// Added to the sum.
    pub offset: f32,
    /// Least and greatest code.
    pub bounds: [u8; 2],
}

/// Means of codes: `factor (sum - zeros) + offset`, every operation rounded by
/// itself, where `zeros` is the input's code of zero for each pixel that was
/// summed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Averages {
    /// Where the windows lie.
    pub extents: Extents,
    /// Whether pixels outside the image count as zeros.
    pub counts_padding: bool,
    /// What the input's codes stand for.
    pub from: QuantParams,
    /// What the results are rounded to; `None` where they are floats.
    pub to: Option<QuantParams>,
}

impl Averages {
    /// What the sum over this many pixels is multiplied with.
    pub fn factor(&self, pixels: usize) -> f32 {
        let window = self.extents.window;
        let count = match self.counts_padding {
            true => window[0] * window[1],
            false => pixels.max(1),
        };
        self.from.scale / (count as f32 * self.to.map_or(1.0, |to| to.scale))
    }

    /// What is added after that.
    pub fn offset(&self) -> f32 {
        self.to.map_or(0.0, |to| f32::from(to.zero_point))
    }
}

/// A block of elements: `dims` of them, from and to places that lie strides
/// apart.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "said above")]
pub struct Block {
    pub dims: Vec<usize>,
    pub from: usize,
    pub from_strides: Vec<isize>,
    pub to: usize,
    pub to_strides: Vec<usize>,
}

/// A function of two floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is named after what it computes")]
pub enum Pair {
    Add,
    Sub,
    Mul,
}

/// A function of the floats that two codes stand for, encoded and held to
/// bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Combination {
    /// The function.
    pub function: Pair,
    /// The float of each code of each operand.
    pub tables: [Box<[f32; 256]>; 2],
    /// Extents over which the output lies without gaps.
    pub dims: Vec<usize>,
    /// Elements of each operand from one index to the next; 0 where it is
    /// broadcast.
    pub strides: [Vec<usize>; 2],
    /// What makes codes of the results.
    pub encoding: Encoding,
    /// Least and greatest code.
    pub bounds: [u8; 2],
}
