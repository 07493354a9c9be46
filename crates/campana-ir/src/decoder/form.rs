//! What a value of a decoder stands for.

use std::borrow::Cow;
use std::rc::Rc;

use campana_codebook::{LevelTables, Packing, QuantizedTensor, Storage};

use super::groups::{Groups, broadcasts_to};

/// A value that a decoder computes.
#[derive(Clone)]
pub(super) enum Form<'g> {
    /// Whole numbers below 256: packed bytes, digits, bits or codes.
    Bytes(Bytes<'g>),
    /// Whole numbers that are not all below 256: factors, offsets.
    Ints(Ints),
    /// Floats from storage: levels, shifts, scales.
    Floats(Floats),
    /// Codes, each with the offset of its group's table.
    Positions(Bytes<'g>, Ints),
    /// Looked up levels, perhaps with shift and scale.
    Weights(Weights<'g>),
}

impl Form<'_> {
    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) | Self::Positions(bytes, _) => bytes.len(),
            Self::Ints(ints) => ints.values.len(),
            Self::Floats(floats) => floats.values.len(),
            Self::Weights(weights) => weights.view.iter().product(),
        }
    }
}

/// Numbers below 256, several in a byte where they lie so in the file: what
/// bytes hold is looked up only where something else is done with it than
/// looking up levels.
#[derive(Clone)]
pub(super) struct Codes<'g> {
    /// The bytes, or more.
    content: Content<'g>,
    packing: Packing,
}

#[derive(Clone)]
enum Content<'g> {
    /// A constant of this name.
    Stored(&'g str, &'g [u8]),
    Made(Rc<Vec<u8>>),
}

impl<'g> Codes<'g> {
    /// A number in each of these bytes.
    pub(super) fn made(bytes: Vec<u8>) -> Self {
        Self {
            content: Content::Made(Rc::new(bytes)),
            packing: Packing::PLAIN,
        }
    }

    /// A number in each byte of a constant.
    pub(super) fn stored(name: &'g str, bytes: &'g [u8]) -> Self {
        Self {
            content: Content::Stored(name, bytes),
            packing: Packing::PLAIN,
        }
    }

    /// What these bytes hold, where there is a number in each so far.
    pub(super) fn unpacked_as(&self, packing: Packing) -> Option<Self> {
        (self.packing == Packing::PLAIN).then(|| Self {
            content: self.content.clone(),
            packing,
        })
    }

    /// The first `count` numbers.
    pub(super) fn values(&self, count: usize) -> Cow<'_, [u8]> {
        match &self.packing {
            &Packing::PLAIN => Cow::Borrowed(self.packed(count)),
            packing => Cow::Owned(packing.unpack(self.packed(count), count)),
        }
    }

    /// The bytes of the first `count` numbers.
    fn packed(&self, count: usize) -> &[u8] {
        let bytes = match &self.content {
            Content::Stored(_, bytes) => bytes,
            Content::Made(bytes) => bytes.as_slice(),
        };
        &bytes[..self.packing.len_bytes(count)]
    }

    /// Whether the first `count` numbers are all below this.
    pub(super) fn are_below(&self, count: usize, bound: usize) -> bool {
        self.packing.are_below(self.packed(count), count, bound)
    }
}

/// Whole numbers below 256.
#[derive(Clone)]
pub(super) struct Bytes<'g> {
    pub(super) dims: Vec<usize>,
    pub(super) codes: Codes<'g>,
    /// Elements there may be: stored bytes hold at most eight codes each, so
    /// that no file can ask for more memory than its own size explains.
    pub(super) max_len: usize,
}

impl Bytes<'_> {
    pub(super) fn len(&self) -> usize {
        self.dims.iter().product()
    }

    pub(super) fn values(&self) -> Cow<'_, [u8]> {
        self.codes.values(self.len())
    }

    pub(super) fn are_below(&self, bound: usize) -> bool {
        self.codes.are_below(self.len(), bound)
    }
}

/// Whole numbers of any size.
#[derive(Clone)]
pub(super) struct Ints {
    pub(super) dims: Vec<usize>,
    pub(super) values: Vec<i64>,
}

/// Floats and how they are stored.
#[derive(Clone)]
pub(super) struct Floats {
    pub(super) dims: Vec<usize>,
    pub(super) values: Vec<f32>,
    pub(super) storage: Storage,
    /// A factor of all of them.
    pub(super) unit: Option<f32>,
    /// Whether the graph has them as integers: levels before DequantizeLinear.
    pub(super) integer: bool,
}

/// Weights as codes, tables and what is done to levels after the lookup.
#[derive(Clone)]
pub(super) struct Weights<'g> {
    pub(super) codes: Codes<'g>,
    /// The extents in which codes meet the parameters of their groups.
    pub(super) view: Vec<usize>,
    /// The extents of the result, once they differ from the view for good.
    pub(super) shape: Option<Vec<usize>>,
    pub(super) levels: Rc<Floats>,
    pub(super) offsets: Option<Ints>,
    pub(super) shift: Option<Floats>,
    pub(super) scale: Option<Floats>,
    /// Whether these are integer levels, which only a scale makes weights.
    pub(super) integer: bool,
}

impl Weights<'_> {
    /// Whether codes may still be cut and reshaped: no parameter has been
    /// broadcast to them.
    pub(super) fn is_plain(&self) -> bool {
        self.offsets.is_none() && self.shift.is_none() && self.scale.is_none()
    }

    /// The same with a term for each group.
    pub(super) fn shifted(&self, shift: &Floats) -> Option<Self> {
        let fits = self.shift.is_none()
            && self.scale.is_none()
            && shift.unit.is_none()
            && shift.integer == self.integer;
        (fits && self.takes(&shift.dims)).then(|| Self {
            shift: Some(shift.clone()),
            ..self.clone()
        })
    }

    /// The same with a factor for each group.
    pub(super) fn scaled(&self, scale: &Floats) -> Option<Self> {
        let negative = scale
            .values
            .iter()
            .any(|&value| value.is_nan() || value < 0.0);
        let fits = self.scale.is_none() && !negative && !scale.integer;
        (fits && self.takes(&scale.dims)).then(|| Self {
            scale: Some(scale.clone()),
            integer: false,
            ..self.clone()
        })
    }

    /// Integer levels times a scale for all of them or for each index along an
    /// axis, as DequantizeLinear has it.
    pub(super) fn dequantized(&self, scale: Floats, axis: usize) -> Option<Self> {
        let dims = match scale.dims.as_slice() {
            [] => Vec::new(),
            [count] if self.view.get(axis) == Some(count) => {
                let mut dims = vec![1; self.view.len() - axis];
                dims[0] = *count;
                dims
            }
            _ => return None,
        };
        self.integer
            .then(|| self.scaled(&Floats { dims, ..scale }))?
    }

    fn takes(&self, dims: &[usize]) -> bool {
        self.shape.is_none() && broadcasts_to(dims, &self.view)
    }

    /// The tensor as it is stored; `None` where the parts make none, such as
    /// groups that no [`Partition`](campana_tensor::Partition) describes.
    pub(super) fn to_quantized(&self) -> Option<Found> {
        let floats = [&self.shift, &self.scale].into_iter().flatten();
        let parameters = floats
            .map(|floats| floats.dims.as_slice())
            .chain(self.offsets.iter().map(|offsets| offsets.dims.as_slice()));
        let groups = Groups::of(&self.view, parameters)?;
        let (levels, table_of_group) = self.tables(&groups)?;
        let count = self.view.iter().product();
        if !self.codes.are_below(count, levels) {
            return None;
        }
        let packing = match &self.codes.packing {
            // A scalar code would take the bits of several.
            vectors @ Packing::Vectors(_) => vectors.clone(),
            _ => Packing::densest(levels),
        };
        let bytes_of = match self.codes.content {
            Content::Stored(name, _) if self.codes.packing == packing => Some(name.to_owned()),
            _ => None,
        };
        let mut packed = Vec::new();
        if bytes_of.is_none() {
            packed.resize(packing.len_bytes(count), 0);
            packing.pack(&self.codes.values(count), &mut packed);
        }
        let per_group = |floats: &Floats| {
            let values = groups.expand(&floats.dims, &floats.values);
            (values, floats.storage)
        };
        let tensor = QuantizedTensor {
            shape: self.shape.as_ref().unwrap_or(&self.view).clone(),
            partition: groups.partition(),
            packing,
            packed,
            tables: LevelTables::new(self.levels.values.clone(), levels, self.levels.storage),
            table_of_group,
            scale: self.scale.as_ref().map(per_group),
            scale_unit: self.scale.as_ref().and_then(|scale| scale.unit),
            shift: self.shift.as_ref().map(per_group),
        };
        tensor.check_groups().ok()?;
        Some(Found { tensor, bytes_of })
    }

    /// Levels of a table, and the table of each group.
    fn tables(&self, groups: &Groups) -> Option<(usize, Option<Vec<u16>>)> {
        let total = self.levels.values.len();
        let Some(offsets) = &self.offsets else {
            return (1..=256).contains(&total).then_some((total, None));
        };
        // The longest tables that all groups' offsets can be the starts of.
        let levels = offsets
            .values
            .iter()
            .try_fold(total, |divisor, &offset| {
                Some(gcd(divisor, usize::try_from(offset).ok()?))
            })
            .filter(|levels| (1..=256).contains(levels))?;
        let table_of_group = groups
            .expand(&offsets.dims, &offsets.values)
            .into_iter()
            .map(|offset| u16::try_from(offset / levels as i64).ok())
            .collect::<Option<Vec<u16>>>()?;
        Some((levels, Some(table_of_group)))
    }
}

/// A quantized tensor that a graph computes.
pub(super) struct Found {
    pub(super) tensor: QuantizedTensor,
    /// The constant whose first bytes are the tensor's, which has none yet.
    pub(super) bytes_of: Option<String>,
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
