//! Operators that move elements: they work on int8 numbers and on floats alike.

use campana_ir::op::{Slices, axis_from_start};

use super::{Converter, NO_FORM};
use crate::error::Converted;
use crate::layout::{self, laid_out, lie_alike, native, place, without};
use crate::schema::{Code, Operator, Options};
use crate::values::{Made, Params};

/// A value, as an operator that moves its elements finds it.
struct Moved<'n> {
    input: &'n str,
    shape: Vec<usize>,
    order: Vec<usize>,
    params: Option<Params>,
}

impl<'n> Converter<'n> {
    fn moved(&self, at: usize) -> Converted<Moved<'n>> {
        let input = self.network.node(at).inputs[0].as_str();
        Ok(Moved {
            input,
            shape: self.values.shape(input)?,
            order: self.values.order(input)?,
            params: self.values.params(input),
        })
    }

    /// An input of a node that is a known list of integers.
    fn list(&self, at: usize, place: usize) -> Converted<Option<Vec<i64>>> {
        let name = self.network.node(at).inputs.get(place);
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        let list = self.parameters.integer_list(name);
        let list = list.ok_or_else(|| format!("is told by '{name}', which only a run knows"))?;
        Ok(Some(list))
    }

    pub(super) fn reshape(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        let Moved {
            input,
            shape,
            order,
            params,
        } = self.moved(at)?;
        let info = self.network.value(&node.outputs[0]);
        let made = info.and_then(campana_ir::infer::ValueInfo::fixed_shape);
        let made = made.ok_or("makes a shape that only a run knows")?;
        let mut extents = made.iter();
        let count = extents.try_fold(1usize, |count, &extent| count.checked_mul(extent));
        if count != Some(shape.iter().product()) {
            return Err(format!("makes {made:?} of {shape:?}"));
        }
        let native_order = native(shape.len());
        let as_it_lies = lie_alike(&shape, &order, &native_order);
        let order = if as_it_lies { order } else { native_order };
        let tensor = self.values.operand(input, params, &order)?;
        let reshaped = self.values.reshaped(tensor, made.clone());
        let order = native(made.len());
        self.values.define(&node.outputs[0], made, order, reshaped);
        Ok(())
    }

    /// Nothing moves: the axes lie in another order.
    pub(super) fn transpose(&mut self, at: usize, permutation: &[usize]) -> Converted {
        let node = self.network.node(at);
        let rank = self.values.shape(&node.inputs[0])?.len();
        let permutation = match permutation {
            [] => (0..rank).rev().collect(),
            given => given.to_vec(),
        };
        let mut sorted = permutation.clone();
        sorted.sort_unstable();
        if sorted != native(rank) {
            return Err(format!("permutes {rank} axes by {permutation:?}"));
        }
        self.values
            .define_permuted(&node.outputs[0], &node.inputs[0], &permutation)
    }

    pub(super) fn concat(&mut self, at: usize, axis: i64) -> Converted {
        let node = self.network.node(at);
        let (output, mut names) = (node.outputs[0].as_str(), Vec::new());
        for name in &node.inputs {
            if self.values.shape(name).is_err() {
                self.define_constant(name)?;
            }
            names.push(name.as_str());
        }
        let mut shape = self.values.shape(names[0])?;
        let order = self.values.order(names[0])?;
        let axis = axis_from_start(axis, shape.len()).ok_or("has no such axis")?;
        let all: Option<Vec<Params>> = names.iter().map(|n| self.values.params(n)).collect();
        let params = all.and_then(|all| {
            let is_one = all.iter().all(|params| *params == all[0]);
            self.rounded(output).or(is_one.then(|| all[0]))
        });
        let mut inputs = Vec::new();
        shape[axis] = 0;
        for name in names {
            let own = self.values.shape(name)?;
            if own.len() != shape.len() {
                return Err("joins tensors of different ranks".to_owned());
            }
            shape[axis] += own[axis];
            inputs.push(self.values.operand(name, params, &order)?);
        }
        let options = Options::Concatenation {
            axis: place(&order, axis),
        };
        let made = Made {
            shape,
            order,
            params,
        };
        self.values
            .make(output, made, (Code::Concatenation, options), inputs);
        Ok(())
    }

    /// A constant that is read as an activation.
    fn define_constant(&mut self, name: &str) -> Converted {
        let reason = || format!("reads '{name}', which is no float32 value");
        let (shape, values) = self.parameters.floats(name).ok_or_else(reason)?;
        let values = values.into_owned();
        let tensor = self.values.floats(name, shape.clone(), &values);
        let order = native(shape.len());
        self.values.define(name, shape, order, tensor);
        Ok(())
    }

    pub(super) fn slice(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        let Moved {
            input,
            shape,
            order,
            params,
        } = self.moved(at)?;
        let starts = self.list(at, 1)?.ok_or("is sliced in an old form")?;
        let ends = self.list(at, 2)?.ok_or("is sliced in an old form")?;
        let lists = [self.list(at, 3)?, self.list(at, 4)?];
        let slices = Slices::forwards(&shape, [&starts, &ends], lists)?;
        let tensor = self.values.operand(input, params, &order)?;
        let part = self.part(
            tensor,
            &laid_out(&slices.begins, &order),
            &laid_out(&slices.shape, &order),
            &laid_out(&slices.strides, &order),
        );
        let shape = slices.shape;
        self.values.define(&node.outputs[0], shape, order, part);
        Ok(())
    }

    /// As many elements of a tensor from `begins` on, in steps of `strides`.
    pub(super) fn part(
        &mut self,
        tensor: usize,
        begins: &[usize],
        extents: &[usize],
        strides: &[usize],
    ) -> usize {
        if self.values.model.tensors[tensor].shape == extents {
            return tensor;
        }
        let ends = (0..extents.len()).map(|i| begins[i] + (extents[i] - 1) * strides[i] + 1);
        let ends: Vec<usize> = ends.collect();
        let mut inputs = vec![tensor];
        for list in [begins, &ends, strides] {
            let list: Vec<i32> = list.iter().map(|&value| value as i32).collect();
            inputs.push(self.values.integers("bounds", &list));
        }
        let part = self.like(tensor, "part", extents.to_vec());
        self.values
            .operator(Code::StridedSlice, inputs, part, Options::StridedSlice);
        part
    }

    /// A tensor of other extents whose elements are as those of one that is there.
    fn like(&mut self, tensor: usize, what: &str, extents: Vec<usize>) -> usize {
        let name = format!("{}/{what}", self.values.model.tensors[tensor].name);
        self.values.like(tensor, name, extents)
    }

    pub(super) fn pad(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        let Moved {
            input,
            mut shape,
            order,
            params,
        } = self.moved(at)?;
        let given = self.list(at, 1)?.ok_or("is padded in an old form")?;
        let axes = self.list(at, 3)?;
        let axes = axes.unwrap_or_else(|| (0..shape.len() as i64).collect());
        if given.len() != 2 * axes.len() {
            return Err("has padding for another number of axes".to_owned());
        }
        let mut pads = vec![[0; 2]; shape.len()];
        for (i, &axis) in axes.iter().enumerate() {
            let axis = axis_from_start(axis, shape.len()).ok_or("has no such axis")?;
            for (end, pad) in [given[i], given[i + axes.len()]].into_iter().enumerate() {
                let pad = u32::try_from(pad).map_err(|_| "has a negative or huge padding")?;
                pads[axis][end] = pad as usize;
            }
            shape[axis] += pads[axis].iter().sum::<usize>();
        }
        let border = match node.inputs.get(2).filter(|name| !name.is_empty()) {
            None => None,
            Some(name) => match self.parameters.floats(name).map(|(_, values)| values) {
                Some(values) if values.len() == 1 => Some(values[0]).filter(|&v| v != 0.0),
                _ => return Err("has a border that is no constant".to_owned()),
            },
        };
        let tensor = self.values.operand(input, params, &order)?;
        let laid: Vec<[usize; 2]> = order.iter().map(|&axis| pads[axis]).collect();
        let padded = match node.text("mode", "constant") {
            "constant" => self.padded(tensor, &laid, border),
            "reflect" => self.mirrored(tensor, &laid),
            mode => return Err(format!("pads by {mode:?}, which TFLite does not")),
        };
        self.values.define(&node.outputs[0], shape, order, padded);
        Ok(())
    }

    /// A tensor with a border of zeros, or of another value.
    pub(super) fn padded(
        &mut self,
        tensor: usize,
        pads: &[[usize; 2]],
        border: Option<f32>,
    ) -> usize {
        let params = self.values.params_of(tensor);
        match border {
            None => self.bordered(tensor, pads, (Code::Pad, Options::None), &[]),
            Some(border) => {
                let border = self.values.list_of_one(border, params);
                self.bordered(tensor, pads, (Code::PadV2, Options::None), &[border])
            }
        }
    }

    fn mirrored(&mut self, tensor: usize, pads: &[[usize; 2]]) -> usize {
        self.bordered(tensor, pads, (Code::MirrorPad, Options::Mirror), &[])
    }

    fn bordered(
        &mut self,
        tensor: usize,
        pads: &[[usize; 2]],
        (code, options): (Code, Options),
        more: &[usize],
    ) -> usize {
        let shape = self.values.model.tensors[tensor].shape.clone();
        let extents = shape
            .iter()
            .zip(pads)
            .map(|(extent, [a, b])| extent + a + b);
        let extents: Vec<usize> = extents.collect();
        if extents == shape {
            return tensor;
        }
        let pads = self.values.pairs("padding", pads);
        let inputs = [vec![tensor, pads], more.to_vec()].concat();
        let made = self.like(tensor, "padded", extents);
        self.values.operator(code, inputs, made, options);
        made
    }

    pub(super) fn split(&mut self, at: usize, axis: i64) -> Converted {
        let node = self.network.node(at);
        let Moved {
            input,
            shape,
            order,
            params,
        } = self.moved(at)?;
        let axis = axis_from_start(axis, shape.len()).ok_or("has no such axis")?;
        let count = node.outputs.len();
        let lengths = match self.list(at, 1)? {
            Some(lengths) => lengths.iter().map(|&len| len.max(0) as usize).collect(),
            None => {
                let len = shape[axis].div_ceil(count);
                let ends = (0..count).map(|i| shape[axis].min((i + 1) * len) - i * len);
                ends.collect::<Vec<usize>>()
            }
        };
        if lengths.len() != count || lengths.iter().sum::<usize>() != shape[axis] {
            return Err("has lengths that are not those of its outputs".to_owned());
        }
        let tensor = self.values.operand(input, params, &order)?;
        let sizes: Vec<i32> = lengths.iter().map(|&len| len as i32).collect();
        let sizes = self.values.integers("lengths", &sizes);
        let along = self.values.integer(place(&order, axis) as i32);
        let mut outputs = Vec::new();
        for (name, len) in node.outputs.iter().zip(lengths) {
            let mut own = shape.clone();
            own[axis] = len;
            let extents = laid_out(&own, &order);
            let part = self.values.activation(name, extents, params);
            outputs.push(part);
            self.values.define(name, own, order.clone(), part);
        }
        self.values.model.operators.push(Operator {
            code: Code::SplitV,
            inputs: vec![tensor, sizes, along],
            outputs,
            options: Options::Split { count },
        });
        Ok(())
    }

    pub(super) fn gather(&mut self, at: usize, axis: i64) -> Converted {
        let node = self.network.node(at);
        let Moved {
            input,
            mut shape,
            order,
            params,
        } = self.moved(at)?;
        let axis = axis_from_start(axis, shape.len()).ok_or("has no such axis")?;
        let indices = self.list(at, 1)?.ok_or(NO_FORM)?;
        let info = self.network.value(&node.inputs[1]);
        let rank = info.and_then(|info| Some(info.shape.as_ref()?.len()));
        let extent = shape[axis] as i64;
        let indices: Vec<i32> = indices
            .iter()
            .map(|&i| if i < 0 { i + extent } else { i } as i32)
            .collect();
        if indices.iter().any(|&i| i < 0 || i64::from(i) >= extent) {
            return Err("reads elements that are not there".to_owned());
        }
        let tensor = self.values.operand(input, params, &order)?;
        let along = place(&order, axis);
        let (places, order) = match (rank, indices.as_slice()) {
            (Some(0), &[index]) => {
                shape.remove(axis);
                (self.values.integer(index), without(&order, &[axis]))
            }
            (Some(1), indices) => {
                shape[axis] = indices.len();
                (self.values.integers("indices", indices), order)
            }
            _ => return Err(NO_FORM.to_owned()),
        };
        let options = Options::Gather { axis: along };
        let made = Made {
            shape,
            order,
            params,
        };
        let inputs = vec![tensor, places];
        self.values
            .make(&node.outputs[0], made, (Code::Gather, options), inputs);
        Ok(())
    }

    /// Between channels and blocks of places, channels of a block together.
    pub(super) fn space_and_depth(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        let Moved {
            input,
            shape,
            params,
            ..
        } = self.moved(at)?;
        let size = usize::try_from(node.int("blocksize", 0)).unwrap_or(0);
        let &[batch, channels, height, width] = shape.as_slice() else {
            return Err(NO_FORM.to_owned());
        };
        let is_to_space = node.op_type == "DepthToSpace";
        if is_to_space && node.text("mode", "DCR") != "DCR" {
            return Err("has its channels in the order CRD, TFLite's in DCR".to_owned());
        }
        let divides = |extent: usize| size > 0 && extent.is_multiple_of(size);
        let made = match is_to_space {
            true if divides(channels) && divides(channels / size) => {
                vec![batch, channels / size / size, height * size, width * size]
            }
            false if divides(height) && divides(width) => {
                vec![batch, channels * size * size, height / size, width / size]
            }
            _ => return Err(format!("has blocks of {size}, which do not fit {shape:?}")),
        };
        let order = layout::channels_last(4);
        let tensor = self.values.operand(input, params, &order)?;
        let operator = match is_to_space {
            true => (Code::DepthToSpace, Options::DepthToSpace { size }),
            false => (Code::SpaceToDepth, Options::SpaceToDepth { size }),
        };
        let made = Made {
            shape: made,
            order,
            params,
        };
        self.values
            .make(&node.outputs[0], made, operator, vec![tensor]);
        Ok(())
    }
}
