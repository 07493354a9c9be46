//! What a value of a decoder stands for.

use std::rc::Rc;

use campana_codebook::{LevelTables, Packing, QuantizedTensor, Storage};

use super::groups::{Groups, broadcasts_to};

/// A value that a decoder computes.
#[derive(Clone)]
pub(super) enum Form {
    /// Whole numbers below 256: packed bytes, digits, bits or codes.
    Bytes(Bytes),
    /// Whole numbers that are not all below 256: factors, offsets.
    Ints(Ints),
    /// Floats from storage: levels, shifts, scales.
    Floats(Floats),
    /// Codes, each with the offset of its group's table.
    Positions(Bytes, Ints),
    /// Looked up levels, perhaps with shift and scale.
    Weights(Weights),
}

impl Form {
    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) | Self::Positions(bytes, _) => bytes.values.len(),
            Self::Ints(ints) => ints.values.len(),
            Self::Floats(floats) => floats.values.len(),
            Self::Weights(weights) => weights.codes.len(),
        }
    }
}

/// Whole numbers below 256.
#[derive(Clone)]
pub(super) struct Bytes {
    pub(super) dims: Vec<usize>,
    pub(super) values: Rc<Vec<u8>>,
    /// Elements there may be: stored bytes hold at most eight codes each, so
    /// that no file can ask for more memory than its own size explains.
    pub(super) max_len: usize,
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
}

/// Weights as codes, tables and what is done to levels after the lookup.
#[derive(Clone)]
pub(super) struct Weights {
    pub(super) codes: Rc<Vec<u8>>,
    /// The extents in which codes meet the parameters of their groups.
    pub(super) view: Vec<usize>,
    /// The extents of the result, once they differ from the view for good.
    pub(super) shape: Option<Vec<usize>>,
    pub(super) levels: Rc<Floats>,
    pub(super) offsets: Option<Ints>,
    pub(super) shift: Option<Floats>,
    pub(super) scale: Option<Floats>,
}

impl Weights {
    /// Whether codes may still be cut and reshaped: no parameter has been
    /// broadcast to them.
    pub(super) fn is_plain(&self) -> bool {
        self.offsets.is_none() && self.shift.is_none() && self.scale.is_none()
    }

    /// The same with a term for each group.
    pub(super) fn shifted(&self, shift: &Floats) -> Option<Self> {
        let fits = self.shift.is_none() && self.scale.is_none() && shift.unit.is_none();
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
        (self.scale.is_none() && !negative && self.takes(&scale.dims)).then(|| Self {
            scale: Some(scale.clone()),
            ..self.clone()
        })
    }

    fn takes(&self, dims: &[usize]) -> bool {
        self.shape.is_none() && broadcasts_to(dims, &self.view)
    }

    /// The tensor as it is stored; `None` where the parts make none, such as
    /// groups that no [`Partition`](campana_tensor::Partition) describes.
    pub(super) fn to_quantized(&self) -> Option<QuantizedTensor> {
        let floats = [&self.shift, &self.scale].into_iter().flatten();
        let parameters = floats
            .map(|floats| floats.dims.as_slice())
            .chain(self.offsets.iter().map(|offsets| offsets.dims.as_slice()));
        let groups = Groups::of(&self.view, parameters)?;
        let (levels, table_of_group) = self.tables(&groups)?;
        let packing = Packing::densest(levels);
        if self.codes.iter().any(|&code| usize::from(code) >= levels) {
            return None;
        }
        let mut packed = vec![0; packing.len_bytes(self.codes.len())];
        packing.pack(&self.codes, &mut packed);
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
        tensor.check().is_ok().then_some(tensor)
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

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
