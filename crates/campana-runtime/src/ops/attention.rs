//! Attention and the rotation of positions.

use campana_tensor::{Tensor, TensorData};

use super::Operator;
use super::call::{Call, Fault, axis_of, count_of, one_of};
use super::indexing::{broadcast_indices, broadcast_shape};

pub(super) fn operator(op_type: &str) -> Option<Operator> {
    Some(match op_type {
        "Attention" => attention,
        "RotaryEmbedding" => rotary_embedding,
        _ => return None,
    })
}

/// `[batch, heads, positions, size]`, row-major.
struct Heads {
    shape: [usize; 4],
    values: Vec<f64>,
}

impl Heads {
    /// Input `index`, its heads apart where it has three axes.
    fn of(call: &Call<'_>, index: usize, heads: i64) -> Result<Self, Fault> {
        let (shape, values) = call.reals(index)?;
        match *shape {
            [batch, heads, positions, size] => Ok(Self {
                shape: [batch, heads, positions, size],
                values,
            }),
            [batch, positions, width] => {
                let heads = usize::try_from(heads)
                    .ok()
                    .filter(|&heads| heads > 0 && width.is_multiple_of(heads))
                    .ok_or_else(|| Fault::invalid(format!("{heads} heads of {width}")))?;
                let size = width / heads;
                let mut turned = Vec::with_capacity(values.len());
                for n in 0..batch {
                    for h in 0..heads {
                        for p in 0..positions {
                            let at = (n * positions + p) * width + h * size;
                            turned.extend_from_slice(&values[at..at + size]);
                        }
                    }
                }
                Ok(Self {
                    shape: [batch, heads, positions, size],
                    values: turned,
                })
            }
            _ => Err(Fault::invalid(format!("an input of shape {shape:?}"))),
        }
    }

    fn row(&self, n: usize, head: usize, position: usize) -> &[f64] {
        let [_, heads, positions, size] = self.shape;
        &self.values[((n * heads + head) * positions + position) * size..][..size]
    }

    /// These positions behind those of a cache.
    fn behind(self, past: Self) -> Result<Self, Fault> {
        let ([batch, heads, new, size], [b, h, old, s]) = (self.shape, past.shape);
        if [batch, heads, size] != [b, h, s] {
            return Err(Fault::invalid(format!(
                "a cache {:?} before {:?}",
                past.shape, self.shape
            )));
        }
        let mut values = Vec::with_capacity(self.values.len() + past.values.len());
        for i in 0..batch * heads {
            values.extend_from_slice(&past.values[i * old * size..][..old * size]);
            values.extend_from_slice(&self.values[i * new * size..][..new * size]);
        }
        Ok(Self {
            shape: [batch, heads, old + new, size],
            values,
        })
    }
}

/// What is added to the scores `[batch, heads, queries, keys]`; `-∞` hides a key.
fn mask(call: &Call<'_>, shape: [usize; 4], past: usize) -> Result<Vec<f64>, Fault> {
    let mut bias = vec![0.0; count_of(&shape)?];
    let [batch, heads, queries, keys] = shape;
    if let Some(mask) = call.optional(3) {
        let is_bool = matches!(mask.data(), TensorData::Bool(_));
        let (own, values) = call.reals(3)?;
        let width = own.last().copied().unwrap_or(0);
        // A mask may be shorter than the keys; those beyond it are hidden.
        let mut wide = own.to_vec();
        if let Some(last) = wide.last_mut()
            && width != 1
        {
            *last = keys;
        }
        if broadcast_shape(&[&wide, &shape])? != shape || width > keys {
            return Err(Fault::invalid(format!("a mask {own:?} for {shape:?}")));
        }
        let places = broadcast_indices(&wide, &shape);
        let keys_of_mask = wide.last().copied().unwrap_or(1).max(1);
        for (bias, at) in bias.iter_mut().zip(places) {
            let (row, key) = (at / keys_of_mask, at % keys_of_mask);
            *bias = match values.get(row * width + key).filter(|_| key < width) {
                None => f64::NEG_INFINITY,
                Some(&shown) if is_bool && shown != 0.0 => 0.0,
                Some(_) if is_bool => f64::NEG_INFINITY,
                Some(&value) => value,
            };
        }
    }
    let lengths = call.optional_ints(6)?;
    if lengths
        .as_ref()
        .is_some_and(|lengths| lengths.len() != batch)
    {
        return Err(Fault::invalid("as many lengths as sequences are expected"));
    }
    let causal = call.int("is_causal", 0)? != 0;
    let window = [
        call.int("left_window_size", -1)?,
        call.int("right_window_size", -1)?,
    ];
    for (i, bias) in bias.iter_mut().enumerate() {
        let (key, query) = ((i % keys) as i64, (i / keys % queries) as i64);
        let length = lengths.as_ref().map(|l| l[i / keys / queries / heads]);
        let offset = match length {
            Some(length) if call.optional(4).is_none() => length - queries as i64,
            _ => past as i64,
        };
        let beside = query + offset - key;
        let hidden = causal && beside < 0
            || window[0] >= 0 && beside > window[0]
            || window[1] >= 0 && -beside > window[1]
            || length.is_some_and(|length| key >= length);
        if hidden {
            *bias = f64::NEG_INFINITY;
        }
    }
    Ok(bias)
}

/// Makes a row of scores probabilities; zeros where everything is hidden.
fn softmax(row: &mut [f64]) {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY {
        return row.fill(0.0);
    }
    row.iter_mut().for_each(|v| *v = (*v - max).exp());
    let sum: f64 = row.iter().sum();
    row.iter_mut().for_each(|v| *v /= sum);
}

/// How the products of queries and keys become weights of values.
struct Scores {
    scale: f64,
    softcap: f64,
    /// Which of the stages on the way is given back.
    shown: i64,
}

impl Scores {
    /// The weights of one query; what is given back of them is added to `shown`.
    fn row(&self, query: &[f64], keys: &[&[f64]], bias: &[f64], shown: &mut Vec<f64>) -> Vec<f64> {
        let product = |key: &&[f64]| -> f64 {
            self.scale * query.iter().zip(*key).map(|(a, b)| a * b).sum::<f64>()
        };
        let products: Vec<f64> = keys.iter().map(product).collect();
        let cap = |&v: &f64| match self.softcap > 0.0 {
            true => (v / self.softcap).tanh() * self.softcap,
            false => v,
        };
        let capped: Vec<f64> = products.iter().map(cap).collect();
        let biased: Vec<f64> = capped.iter().zip(bias).map(|(v, b)| v + b).collect();
        let mut row = biased.clone();
        if bias.iter().all(|&b| b == f64::NEG_INFINITY) {
            row.fill(0.0);
        } else {
            softmax(&mut row);
        }
        shown.extend(match self.shown {
            0 => &products,
            1 => &capped,
            2 => &biased,
            _ => &row,
        });
        row
    }
}

fn attention(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let heads = call.int("kv_num_heads", 0)?;
    let query = Heads::of(call, 0, call.int("q_num_heads", 0)?)?;
    let (mut key, mut value) = (Heads::of(call, 1, heads)?, Heads::of(call, 2, heads)?);
    let mut past = 0;
    if call.optional(4).is_some() {
        let cache = Heads::of(call, 4, heads)?;
        past = cache.shape[2];
        key = key.behind(cache)?;
        value = value.behind(Heads::of(call, 5, heads)?)?;
    }
    let [batch, query_heads, queries, size] = query.shape;
    let [_, key_heads, keys, value_size] = value.shape;
    let fits = key.shape == [batch, key_heads, keys, size]
        && value.shape[0] == batch
        && key_heads > 0
        && query_heads.is_multiple_of(key_heads);
    if !fits {
        return Err(Fault::invalid(format!(
            "queries {:?}, keys {:?} and values {:?}",
            query.shape, key.shape, value.shape
        )));
    }
    let scale = match call.attribute("scale") {
        Some(_) => f64::from(call.float("scale", 1.0)?),
        None => 1.0 / (size as f64).sqrt(),
    };
    let scores = Scores {
        scale,
        softcap: f64::from(call.float("softcap", 0.0)?),
        shown: call.int("qk_matmul_output_mode", 0)?,
    };
    let shape = [batch, query_heads, queries, keys];
    let bias = mask(call, shape, past)?;
    let mut shown = Vec::with_capacity(bias.len());
    let mut output = vec![0.0; count_of(&[batch, query_heads, queries, value_size])?];
    for (i, bias) in bias.chunks_exact(keys.max(1)).enumerate() {
        call.check_interrupt()?;
        let (q, head, n) = (
            i % queries,
            i / queries % query_heads,
            i / queries / query_heads,
        );
        let key_head = head / (query_heads / key_heads);
        let own = query.row(n, head, q);
        let others: Vec<&[f64]> = (0..keys).map(|k| key.row(n, key_head, k)).collect();
        let row = scores.row(own, &others, bias, &mut shown);
        let target = &mut output[i * value_size..][..value_size];
        for (k, &weight) in row.iter().enumerate().filter(|(_, weight)| **weight != 0.0) {
            let values = value.row(n, key_head, k);
            target
                .iter_mut()
                .zip(values)
                .for_each(|(t, v)| *t += weight * v);
        }
    }
    let kind = call.kind(0)?;
    let (dims, output) = match call.input(0)?.shape().len() {
        3 => (
            vec![batch, queries, query_heads * value_size],
            heads_joined(&output, [batch, query_heads, queries, value_size]),
        ),
        _ => (vec![batch, query_heads, queries, value_size], output),
    };
    let mut outputs = one_of(kind, &dims, output)?;
    outputs.extend(one_of(call.kind(1)?, &key.shape, key.values)?);
    outputs.extend(one_of(call.kind(2)?, &value.shape, value.values)?);
    outputs.extend(one_of(kind, &shape, shown)?);
    outputs.truncate(call.node.outputs.len());
    Ok(outputs)
}

/// `[batch, heads, positions, size]` as `[batch, positions, heads * size]`.
fn heads_joined(values: &[f64], [batch, heads, positions, size]: [usize; 4]) -> Vec<f64> {
    let mut result = Vec::with_capacity(values.len());
    for n in 0..batch {
        for p in 0..positions {
            for h in 0..heads {
                let at = ((n * heads + h) * positions + p) * size;
                result.extend_from_slice(&values[at..at + size]);
            }
        }
    }
    result
}

fn rotary_embedding(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let shape = call.input(0)?.shape();
    let input = Heads::of(call, 0, call.int("num_heads", 0)?)?;
    let [batch, heads, positions, size] = input.shape;
    let ((cache_shape, cosines), (_, sines)) = (call.reals(1)?, call.reals(2)?);
    let rotated = match call.int("rotary_embedding_dim", 0)? {
        0 => size,
        given => usize::try_from(given).unwrap_or(usize::MAX),
    };
    let half = rotated / 2;
    let ids = call.optional_ints(3)?;
    let rows = cosines.len() / half.max(1);
    let fits = rotated <= size
        && half > 0
        && cache_shape.last() == Some(&half)
        && sines.len() == cosines.len()
        && ids
            .as_ref()
            .is_none_or(|ids| ids.len() == batch * positions)
        && (ids.is_some() || rows == batch * positions);
    if !fits {
        return Err(Fault::invalid(format!(
            "caches {cache_shape:?} for {:?}, of which {rotated} are rotated",
            input.shape
        )));
    }
    let interleaved = call.int("interleaved", 0)? != 0;
    let mut output = input.values.clone();
    for n in 0..batch {
        for p in 0..positions {
            let row = match &ids {
                Some(ids) => axis_of(ids[n * positions + p], rows)?,
                None => n * positions + p,
            };
            for h in 0..heads {
                let line = &mut output[((n * heads + h) * positions + p) * size..][..size];
                for i in 0..half {
                    let (a, b) = if interleaved {
                        (2 * i, 2 * i + 1)
                    } else {
                        (i, i + half)
                    };
                    let (cos, sin) = (cosines[row * half + i], sines[row * half + i]);
                    (line[a], line[b]) =
                        (cos * line[a] - sin * line[b], sin * line[a] + cos * line[b]);
                }
            }
        }
    }
    if shape.len() == 3 {
        output = heads_joined(&output, input.shape);
    }
    one_of(call.kind(0)?, shape, output)
}
