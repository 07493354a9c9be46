//! Operators that move elements.

use campana_ir::op::{Slices, axis_from_start};

use super::{Converter, NO_FORM};
use crate::error::Converted;
use crate::program::{Given, Var};

impl Converter<'_> {
    pub(super) fn reshape(&mut self, at: usize) -> Converted {
        let x = self.activation(&self.network.node(at).inputs[0])?;
        let shape = self.output_shape(at, 0)?;
        if shape.iter().product::<usize>() != x.shape.iter().product::<usize>() {
            return Err(format!("makes {shape:?} of {:?}", x.shape));
        }
        if shape.is_empty() {
            return Err(
                "makes a single number without axes, which no program is written with".to_owned(),
            );
        }
        let var = self.reshaped(&x, &shape)?;
        self.define(at, var);
        Ok(())
    }

    /// The elements of a value in another shape.
    fn reshaped(&mut self, x: &Var, shape: &[usize]) -> Converted<Var> {
        if x.shape == shape {
            return Ok(x.clone());
        }
        let extents = self.program.ints(shape);
        self.program.operation(
            "reshape",
            vec![("x", x.into()), ("shape", extents.into())],
            shape,
        )
    }

    pub(super) fn transpose(&mut self, at: usize, permutation: &[usize]) -> Converted {
        let x = self.activation(&self.network.node(at).inputs[0])?;
        let rank = x.shape.len();
        let permutation = match permutation {
            [] => (0..rank).rev().collect(),
            given => given.to_vec(),
        };
        let mut sorted = permutation.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..rank) {
            return Err(format!("permutes {rank} axes by {permutation:?}"));
        }
        let shape: Vec<usize> = permutation.iter().map(|&axis| x.shape[axis]).collect();
        let perm = self.program.ints(&permutation);
        self.make(
            at,
            "transpose",
            vec![("x", x.into()), ("perm", perm.into())],
            &shape,
        )
    }

    pub(super) fn concat(&mut self, at: usize, axis: i64) -> Converted {
        let node = self.network.node(at);
        let parts = node.inputs.iter().map(|name| self.operand(name));
        let parts: Vec<Var> = parts.collect::<Converted<_>>()?;
        let mut shape = parts[0].shape.clone();
        let axis = axis_from_start(axis, shape.len()).ok_or("has no such axis")?;
        if parts.iter().any(|part| part.shape.len() != shape.len()) {
            return Err("joins tensors of different ranks".to_owned());
        }
        shape[axis] = parts.iter().map(|part| part.shape[axis]).sum();
        let along = self.program.int(axis as i32);
        let interleave = self.program.flag(false);
        let inputs = vec![
            ("values", parts.as_slice().into()),
            ("axis", along.into()),
            ("interleave", interleave.into()),
        ];
        self.make(at, "concat", inputs, &shape)
    }

    pub(super) fn slice(&mut self, at: usize) -> Converted {
        let x = self.activation(&self.network.node(at).inputs[0])?;
        let starts = self.list(at, 1)?.ok_or("is sliced in an old form")?;
        let ends = self.list(at, 2)?.ok_or("is sliced in an old form")?;
        let lists = [self.list(at, 3)?, self.list(at, 4)?];
        let slices = Slices::forwards(&x.shape, [&starts, &ends], lists)?;
        let bounds: [&[usize]; 3] = [&slices.begins, &slices.ends, &slices.strides];
        let var = self.part(&x, bounds, &slices.shape)?;
        self.define(at, var);
        Ok(())
    }

    /// Elements from begins to ends, in steps.
    fn part(&mut self, x: &Var, bounds: [&[usize]; 3], shape: &[usize]) -> Converted<Var> {
        if x.shape == shape {
            return Ok(x.clone());
        }
        let [begin, end, stride] = bounds.map(|bounds| self.program.ints(bounds));
        let inputs = vec![
            ("x", x.into()),
            ("begin", begin.into()),
            ("end", end.into()),
            ("stride", stride.into()),
        ];
        self.program.operation("slice_by_index", inputs, shape)
    }

    pub(super) fn pad(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        let x = self.activation(&node.inputs[0])?;
        let mut shape = x.shape.clone();
        let rank = shape.len();
        let given = self.list(at, 1)?.ok_or("is padded in an old form")?;
        let axes = self.list(at, 3)?;
        let axes = axes.unwrap_or_else(|| (0..rank as i64).collect());
        if given.len() != 2 * axes.len() {
            return Err("has padding for another number of axes".to_owned());
        }
        let mut pads = vec![[0; 2]; rank];
        for (i, &axis) in axes.iter().enumerate() {
            let axis = axis_from_start(axis, rank).ok_or("has no such axis")?;
            for (end, pad) in [given[i], given[i + axes.len()]].into_iter().enumerate() {
                let pad = u32::try_from(pad).map_err(|_| "has a negative or huge padding")?;
                pads[axis][end] = pad as usize;
            }
            shape[axis] += pads[axis].iter().sum::<usize>();
        }
        let Some(first) = pads.iter().position(|pads| *pads != [0, 0]) else {
            return self.identity(at);
        };
        let mode = match node.text("mode", "constant") {
            "constant" => "constant",
            // Only the last two axes have these.
            "reflect" if first + 2 >= rank => "reflect",
            "edge" if first + 2 >= rank => "replicate",
            mode => return Err(format!("pads by {mode:?}, which Core ML does not there")),
        };
        let border = match self.constant(at, 2)? {
            Some((_, values)) => values.first().copied().unwrap_or(0.0),
            None => 0.0,
        };
        let pads = match mode {
            "constant" => self.program.ints(&pads.concat()),
            _ => self.program.ints(&pads[rank.saturating_sub(2)..].concat()),
        };
        let mut inputs: Vec<(&str, Given)> = vec![
            ("x", x.into()),
            ("pad", pads.into()),
            ("mode", self.program.text(mode).into()),
        ];
        inputs.push(("constant_val", self.program.float(border)?.into()));
        self.make(at, "pad", inputs, &shape)
    }

    pub(super) fn split(&mut self, at: usize, axis: i64) -> Converted {
        let node = self.network.node(at);
        let x = self.activation(&node.inputs[0])?;
        let axis = axis_from_start(axis, x.shape.len()).ok_or("has no such axis")?;
        let count = node.outputs.len();
        let whole = x.shape[axis];
        let lengths: Vec<usize> = match self.list(at, 1)? {
            Some(lengths) => lengths.iter().map(|&len| len.max(0) as usize).collect(),
            None => {
                let len = whole.div_ceil(count);
                (0..count)
                    .map(|i| whole.min((i + 1) * len).saturating_sub(i * len))
                    .collect()
            }
        };
        if lengths.len() != count || lengths.iter().sum::<usize>() != whole || lengths.contains(&0)
        {
            return Err("has lengths that are not those of its outputs".to_owned());
        }
        let shapes: Vec<Vec<usize>> = lengths
            .iter()
            .map(|&len| {
                let mut shape = x.shape.clone();
                shape[axis] = len;
                shape
            })
            .collect();
        let results: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
        let sizes = self.program.ints(&lengths);
        let along = self.program.int(axis as i32);
        let data_type = self.program.precision.data_type();
        let inputs = vec![
            ("x", x.into()),
            ("split_sizes", sizes.into()),
            ("axis", along.into()),
        ];
        let vars = self
            .program
            .operations("split", inputs, &results, data_type)?;
        self.values.extend(node.outputs.iter().cloned().zip(vars));
        Ok(())
    }

    /// Of constant places: one after another, or a single one without its axis.
    pub(super) fn gather(&mut self, at: usize, axis: i64) -> Converted {
        let node = self.network.node(at);
        let x = self.activation(&node.inputs[0])?;
        let axis = axis_from_start(axis, x.shape.len()).ok_or("has no such axis")?;
        let places = self.list(at, 1)?.ok_or("lacks an input")?;
        let shape = self.output_shape(at, 0)?;
        let extent = x.shape[axis] as i64;
        let within = |place: &i64| {
            let from_start = if *place < 0 { place + extent } else { *place };
            usize::try_from(from_start)
                .ok()
                .filter(|&place| (place as i64) < extent)
        };
        let places: Option<Vec<usize>> = places.iter().map(within).collect();
        let places = places.ok_or("takes elements that are not there")?;
        let gathered = self.gathered(&x, axis, &places)?;
        let var = self.reshaped(&gathered, &shape)?;
        if shape.is_empty() {
            return Err(
                "makes a single number without axes, which no program is written with".to_owned(),
            );
        }
        self.define(at, var);
        Ok(())
    }

    /// Elements of these places along an axis.
    pub(super) fn gathered(&mut self, x: &Var, axis: usize, places: &[usize]) -> Converted<Var> {
        let mut shape = x.shape.clone();
        shape[axis] = places.len();
        let indices = self.program.ints(places);
        let along = self.program.int(axis as i32);
        let validates = self.program.flag(false);
        let inputs = vec![
            ("x", x.into()),
            ("indices", indices.into()),
            ("axis", along.into()),
            ("validate_indices", validates.into()),
        ];
        self.program.operation("gather", inputs, &shape)
    }

    pub(super) fn expand(&mut self, at: usize) -> Converted {
        let x = self.activation(&self.network.node(at).inputs[0])?;
        let asked = self.list(at, 1)?.ok_or("lacks an input")?;
        let asked: Vec<usize> = asked.iter().map(|&extent| extent.max(0) as usize).collect();
        let shape = super::broadcast(&x.shape, &asked)?;
        if shape.contains(&0) {
            return Err("leaves nothing".to_owned());
        }
        let more = shape.len() - x.shape.len();
        let aligned = [&vec![1; more][..], &x.shape].concat();
        let x = self.reshaped(&x, &aligned)?;
        let repeats: Vec<usize> = shape
            .iter()
            .zip(&aligned)
            .map(|(to, from)| to / from)
            .collect();
        self.tiled(at, &x, &repeats)
    }

    pub(super) fn tile(&mut self, at: usize) -> Converted {
        let x = self.activation(&self.network.node(at).inputs[0])?;
        let repeats = self.list(at, 1)?.ok_or("lacks an input")?;
        let repeats: Vec<usize> = repeats.iter().map(|&count| count.max(0) as usize).collect();
        if repeats.len() != x.shape.len() || repeats.contains(&0) {
            return Err("repeats other axes than it has".to_owned());
        }
        self.tiled(at, &x, &repeats)
    }

    fn tiled(&mut self, at: usize, x: &Var, repeats: &[usize]) -> Converted {
        if repeats.iter().all(|&count| count == 1) {
            self.define(at, x.clone());
            return Ok(());
        }
        let shape: Vec<usize> = x.shape.iter().zip(repeats).map(|(a, b)| a * b).collect();
        let repeats = self.program.ints(repeats);
        self.make(
            at,
            "tile",
            vec![("x", x.into()), ("reps", repeats.into())],
            &shape,
        )
    }

    pub(super) fn space_and_depth(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        let x = self.activation(&node.inputs[0])?;
        let block = usize::try_from(node.int("blocksize", 0)).unwrap_or(0);
        let &[batch, channels, height, width] = x.shape.as_slice() else {
            return Err("is over other than images".to_owned());
        };
        if block == 0 {
            return Err(NO_FORM.to_owned());
        }
        let is_space_to_depth = node.op_type == "SpaceToDepth";
        let (kind, option, shape) = if is_space_to_depth {
            let shape = [
                batch,
                channels * block * block,
                height / block,
                width / block,
            ];
            ("space_to_depth", "block_size", shape)
        } else {
            let shape = [
                batch,
                channels / (block * block),
                height * block,
                width * block,
            ];
            match node.text("mode", "DCR") {
                "CRD" => ("pixel_shuffle", "upscale_factor", shape),
                _ => ("depth_to_space", "block_size", shape),
            }
        };
        if shape.iter().product::<usize>() != x.shape.iter().product::<usize>() {
            return Err(format!("cuts {:?} into blocks of {block}", x.shape));
        }
        let block = self.program.int(block as i32);
        self.make(
            at,
            kind,
            vec![("x", x.into()), (option, block.into())],
            &shape,
        )
    }
}
