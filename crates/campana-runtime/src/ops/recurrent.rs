//! Recurrent layers: LSTM, GRU and RNN.

use campana_kernels::gemm::PackedMatrix;
use campana_tensor::Tensor;

use super::Operator;
use super::call::{Call, Fault, count_of, one};
use super::linear::product;

pub(super) fn operator(op_type: &str) -> Option<Operator> {
    matches!(op_type, "LSTM" | "GRU" | "RNN").then_some(recurrent)
}

/// The kinds of cells, by what is different about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    Lstm,
    Gru,
    Rnn,
}

impl Cell {
    fn of(op_type: &str) -> Self {
        match op_type {
            "LSTM" => Self::Lstm,
            "GRU" => Self::Gru,
            _ => Self::Rnn,
        }
    }

    fn gates(self) -> usize {
        match self {
            Self::Lstm => 4,
            Self::Gru => 3,
            Self::Rnn => 1,
        }
    }

    /// The activations of one direction where none are named.
    fn defaults(self) -> &'static [&'static str] {
        match self {
            Self::Lstm => &["Sigmoid", "Tanh", "Tanh"],
            Self::Gru => &["Sigmoid", "Tanh"],
            Self::Rnn => &["Tanh"],
        }
    }
}

/// Of a value and two parameters.
type Function = fn(f32, f32, f32) -> f32;

/// An activation with its parameters.
#[derive(Clone, Copy, Debug)]
struct Activation {
    function: Function,
    alpha: f32,
    beta: f32,
}

impl Activation {
    fn apply(self, x: f32) -> f32 {
        (self.function)(x, self.alpha, self.beta)
    }

    /// The activation of this name; parameters are taken from the lists by
    /// those functions that have them.
    fn named(
        name: &str,
        alphas: &mut impl Iterator<Item = f32>,
        betas: &mut impl Iterator<Item = f32>,
    ) -> Result<Self, Fault> {
        let (function, alpha, beta): (Function, Option<f32>, Option<f32>) =
            match name.to_ascii_lowercase().as_str() {
                "relu" => (|x, _, _| x.max(0.0), None, None),
                "tanh" => (|x, _, _| x.tanh(), None, None),
                "sigmoid" => (|x, _, _| 1.0 / (1.0 + (-x).exp()), None, None),
                "softsign" => (|x, _, _| x / (1.0 + x.abs()), None, None),
                "softplus" => (|x, _, _| x.max(0.0) + (-x.abs()).exp().ln_1p(), None, None),
                "affine" => (|x, a, b| a * x + b, Some(1.0), Some(0.0)),
                "scaledtanh" => (|x, a, b| a * (b * x).tanh(), Some(1.0), Some(1.0)),
                "hardsigmoid" => (|x, a, b| (a * x + b).clamp(0.0, 1.0), Some(0.2), Some(0.5)),
                "leakyrelu" => (|x, a, _| if x < 0.0 { a * x } else { x }, Some(0.01), None),
                "thresholdedrelu" => (|x, a, _| if x > a { x } else { 0.0 }, Some(1.0), None),
                "elu" => (
                    |x, a, _| if x < 0.0 { a * x.exp_m1() } else { x },
                    Some(1.0),
                    None,
                ),
                other => return Err(Fault::unsupported(format!("activation {other}"))),
            };
        Ok(Self {
            function,
            alpha: alpha.map_or(0.0, |default| alphas.next().unwrap_or(default)),
            beta: beta.map_or(0.0, |default| betas.next().unwrap_or(default)),
        })
    }
}

/// One direction of a layer.
struct Direction<'a> {
    cell: Cell,
    hidden: usize,
    /// `[gates * hidden, hidden]`.
    recurrence: &'a [f32],
    /// Of the recurrence, `[gates * hidden]`.
    bias: &'a [f32],
    peepholes: Option<&'a [f32]>,
    activations: Vec<Activation>,
    clip: f32,
    linear_before_reset: bool,
    input_forget: bool,
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 8;
    let mut sums = [0.0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a_chunks
        .remainder()
        .iter()
        .zip(b_chunks.remainder())
        .map(|(x, y)| x * y)
        .sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    rest + sums.iter().sum::<f32>()
}

impl Direction<'_> {
    /// The recurrence's part of one gate, for one unit.
    fn recur(&self, gate: usize, unit: usize, state: &[f32]) -> f32 {
        let row = gate * self.hidden + unit;
        let weights = &self.recurrence[row * self.hidden..][..self.hidden];
        dot(weights, state) + self.bias.get(row).copied().unwrap_or(0.0)
    }

    fn act(&self, which: usize, x: f32) -> f32 {
        self.activations[which].apply(x.clamp(-self.clip, self.clip))
    }

    fn peephole(&self, which: usize, unit: usize) -> f32 {
        self.peepholes
            .map_or(0.0, |weights| weights[which * self.hidden + unit])
    }

    /// One step: `input` is the input's part of each gate.
    fn step(&self, input: &[f32], state: &mut [f32], memory: &mut [f32]) {
        let hidden = self.hidden;
        let next: Vec<f32> = match self.cell {
            Cell::Rnn => (0..hidden)
                .map(|u| self.act(0, input[u] + self.recur(0, u, state)))
                .collect(),
            Cell::Gru => self.gru(input, state),
            Cell::Lstm => (0..hidden)
                .map(|u| {
                    let gate = |gate: usize| input[gate * hidden + u] + self.recur(gate, u, state);
                    let i = self.act(0, gate(0) + self.peephole(0, u) * memory[u]);
                    let f = if self.input_forget {
                        1.0 - i
                    } else {
                        self.act(0, gate(2) + self.peephole(2, u) * memory[u])
                    };
                    let candidate = self.act(1, gate(3));
                    memory[u] = f * memory[u] + i * candidate;
                    let o = self.act(0, gate(1) + self.peephole(1, u) * memory[u]);
                    o * self.activations[2].apply(memory[u])
                })
                .collect(),
        };
        state.copy_from_slice(&next);
    }

    fn gru(&self, input: &[f32], state: &[f32]) -> Vec<f32> {
        let hidden = self.hidden;
        let gate = |gate: usize, u: usize| {
            self.act(0, input[gate * hidden + u] + self.recur(gate, u, state))
        };
        let update: Vec<f32> = (0..hidden).map(|u| gate(0, u)).collect();
        let reset: Vec<f32> = (0..hidden).map(|u| gate(1, u)).collect();
        let kept: Vec<f32> = reset.iter().zip(state).map(|(r, h)| r * h).collect();
        (0..hidden)
            .map(|u| {
                let recurrent = if self.linear_before_reset {
                    reset[u] * self.recur(2, u, state)
                } else {
                    self.recur(2, u, &kept)
                };
                let candidate = self.act(1, input[2 * hidden + u] + recurrent);
                (1.0 - update[u]) * candidate + update[u] * state[u]
            })
            .collect()
    }
}

/// Extents of a layer, and where its batch lies.
struct Extents {
    steps: usize,
    batch: usize,
    inputs: usize,
    hidden: usize,
    directions: usize,
    batch_first: bool,
}

impl Extents {
    fn of(call: &Call<'_>, cell: Cell) -> Result<Self, Fault> {
        let (x, weights) = (call.input(0)?.shape(), call.input(1)?.shape());
        let recurrence = call.input(2)?.shape();
        let (&[first, second, inputs], &[directions, rows, depth], &[_, _, hidden]) =
            (x, weights, recurrence)
        else {
            return Err(Fault::invalid(format!(
                "an input {x:?}, weights {weights:?} and a recurrence {recurrence:?}"
            )));
        };
        let batch_first = call.int("layout", 0)? != 0;
        let declared = call.int("hidden_size", hidden as i64)?;
        let wanted = match call.string("direction", "forward")? {
            "forward" | "reverse" => 1,
            "bidirectional" => 2,
            other => return Err(Fault::invalid(format!("direction {other}"))),
        };
        let rows_fit = rows == cell.gates() * hidden && recurrence == [directions, rows, hidden];
        if !rows_fit || depth != inputs || directions != wanted || declared != hidden as i64 {
            return Err(Fault::invalid(format!(
                "weights {weights:?} and a recurrence {recurrence:?} for an input {x:?}, \
                 {wanted} directions and hidden_size {declared}"
            )));
        }
        let (steps, batch) = if batch_first {
            (second, first)
        } else {
            (first, second)
        };
        Ok(Self {
            steps,
            batch,
            inputs,
            hidden,
            directions,
            batch_first,
        })
    }

    /// Where the input of one step of one sequence starts.
    fn input_at(&self, step: usize, n: usize) -> usize {
        if self.batch_first {
            (n * self.steps + step) * self.inputs
        } else {
            (step * self.batch + n) * self.inputs
        }
    }

    /// Where the state of one direction of one sequence starts.
    fn state_at(&self, direction: usize, n: usize) -> usize {
        if self.batch_first {
            (n * self.directions + direction) * self.hidden
        } else {
            (direction * self.batch + n) * self.hidden
        }
    }

    /// Where the output of one step starts.
    fn output_at(&self, step: usize, direction: usize, n: usize) -> usize {
        if self.batch_first {
            ((n * self.steps + step) * self.directions + direction) * self.hidden
        } else {
            ((step * self.directions + direction) * self.batch + n) * self.hidden
        }
    }

    fn state_shape(&self) -> Vec<usize> {
        match self.batch_first {
            true => vec![self.batch, self.directions, self.hidden],
            false => vec![self.directions, self.batch, self.hidden],
        }
    }
}

/// The activations of every direction.
fn activations(call: &Call<'_>, cell: Cell, directions: usize) -> Result<Vec<Activation>, Fault> {
    let names = match call.strings("activations")? {
        Some(names) => names,
        None => cell.defaults().repeat(directions),
    };
    if names.len() != directions * cell.defaults().len() {
        return Err(Fault::invalid(format!(
            "{} activations for {directions} directions",
            names.len()
        )));
    }
    let list =
        |name| -> Result<_, Fault> { Ok(call.float_list(name)?.unwrap_or(&[]).iter().copied()) };
    let (mut alphas, mut betas) = (list("activation_alpha")?, list("activation_beta")?);
    names
        .iter()
        .map(|name| Activation::named(name, &mut alphas, &mut betas))
        .collect()
}

/// The steps that each sequence has.
fn lengths(call: &Call<'_>, extents: &Extents) -> Result<Vec<usize>, Fault> {
    let Some(lengths) = call.optional_ints(4)? else {
        return Ok(vec![extents.steps; extents.batch]);
    };
    let valid: Option<Vec<usize>> = lengths
        .iter()
        .map(|&len| {
            usize::try_from(len)
                .ok()
                .filter(|&len| len <= extents.steps)
        })
        .collect();
    valid
        .filter(|lengths| lengths.len() == extents.batch)
        .ok_or_else(|| Fault::invalid(format!("sequence lengths {lengths:?}")))
}

/// The initial state in this input, zeros where it is left out.
fn initial(call: &Call<'_>, index: usize, extents: &Extents) -> Result<Vec<f32>, Fault> {
    let shape = extents.state_shape();
    match call.optional(index) {
        None => Ok(vec![0.0; count_of(&shape)?]),
        Some(tensor) if tensor.shape() == shape => Ok(call.floats(index)?.1.to_vec()),
        Some(tensor) => Err(Fault::invalid(format!(
            "an initial state {:?}, {shape:?} is expected",
            tensor.shape()
        ))),
    }
}

/// A part of an optional input for one direction.
fn part<'a>(
    call: &Call<'a>,
    index: usize,
    direction: usize,
    len: usize,
    directions: usize,
) -> Result<Option<&'a [f32]>, Fault> {
    match call.optional_floats(index)? {
        None => Ok(None),
        Some(values) if values.len() == directions * len => {
            Ok(Some(&values[direction * len..][..len]))
        }
        Some(values) => Err(Fault::invalid(format!(
            "{} elements in input {index}, {directions} times {len} are expected",
            values.len()
        ))),
    }
}

fn recurrent(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let cell = Cell::of(&call.node.op_type);
    let extents = Extents::of(call, cell)?;
    let (hidden, directions) = (extents.hidden, extents.directions);
    let rows = cell.gates() * hidden;
    let (_, x) = call.floats(0)?;
    let (_, weights) = call.floats(1)?;
    let (_, recurrence) = call.floats(2)?;
    let activations = activations(call, cell, directions)?;
    let per_direction = cell.defaults().len();
    let lengths = lengths(call, &extents)?;
    let mut states = initial(call, 5, &extents)?;
    let mut memories = match cell {
        Cell::Lstm => initial(call, 6, &extents)?,
        _ => vec![0.0; states.len()],
    };
    let reverse = call.string("direction", "forward")? == "reverse";
    let clip = call.float("clip", f32::INFINITY)?;
    let mut shape = vec![extents.steps, directions, extents.batch, hidden];
    if extents.batch_first {
        shape = vec![extents.batch, extents.steps, directions, hidden];
    }
    let mut output = vec![0.0; count_of(&shape)?];
    for d in 0..directions {
        let bias = part(call, 3, d, 2 * rows, directions)?.unwrap_or(&[]);
        let own = &weights[d * rows * extents.inputs..][..rows * extents.inputs];
        let direction = Direction {
            cell,
            hidden,
            recurrence: &recurrence[d * rows * hidden..][..rows * hidden],
            bias: bias.get(rows..).unwrap_or(&[]),
            peepholes: match cell {
                Cell::Lstm => part(call, 7, d, 3 * hidden, directions)?,
                _ => None,
            },
            activations: activations[d * per_direction..][..per_direction].to_vec(),
            clip,
            linear_before_reset: call.int("linear_before_reset", 0)? != 0,
            input_forget: call.int("input_forget", 0)? != 0,
        };
        let sequences = extents.steps * extents.batch;
        let packed = PackedMatrix::pack(extents.inputs, rows, |r, c| own[c * extents.inputs + r]);
        let mut parts = vec![0.0; count_of(&[sequences, rows])?];
        product(call, x, &packed, sequences, &mut parts);
        if let Some(bias) = bias.get(..rows).filter(|_| !bias.is_empty()) {
            for line in parts.chunks_exact_mut(rows.max(1)) {
                line.iter_mut().zip(bias).for_each(|(v, b)| *v += b);
            }
        }
        for n in 0..extents.batch {
            let at = extents.state_at(d, n);
            let (state, memory) = (&mut states[at..at + hidden], &mut memories[at..at + hidden]);
            for step in 0..lengths[n] {
                call.check_interrupt()?;
                let backwards = reverse || d == 1;
                let step = if backwards {
                    lengths[n] - 1 - step
                } else {
                    step
                };
                let input = extents.input_at(step, n) / extents.inputs.max(1) * rows;
                direction.step(&parts[input..][..rows], state, memory);
                output[extents.output_at(step, d, n)..][..hidden].copy_from_slice(state);
            }
        }
    }
    let mut outputs = one(&shape, output)?;
    outputs.extend(one(&extents.state_shape(), states)?);
    if cell == Cell::Lstm {
        outputs.extend(one(&extents.state_shape(), memories)?);
    }
    outputs.truncate(call.node.outputs.len());
    Ok(outputs)
}
