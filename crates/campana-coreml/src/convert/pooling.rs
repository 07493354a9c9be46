//! Pools over windows.

use campana_ir::op::Pool;

use super::Converter;
use super::window::Windows;
use crate::error::Converted;
use crate::program::{Given, Var};

impl Converter<'_> {
    fn pool_windows(&self, at: usize, pool: &Pool) -> Converted<(Var, Windows)> {
        let node = self.network.node(at);
        let x = self.activation(&node.inputs[0])?;
        let input = x.shape.get(2..).unwrap_or_default();
        let windows = Windows::new(&pool.window, input, &pool.window.kernel, pool.ceil)?;
        if pool.window.is_dilated() {
            return Err("is dilated, which Core ML's pools are not".to_owned());
        }
        if node.outputs.iter().skip(1).any(|name| !name.is_empty()) {
            return Err("gives the places of what it takes".to_owned());
        }
        Ok((x, windows))
    }

    fn pool(
        &mut self,
        at: usize,
        kind: &str,
        (x, windows): (Var, Windows),
        more: Vec<(&str, Given)>,
    ) -> Converted {
        let shape = [&x.shape[..2], &windows.outputs[..]].concat();
        let kernel = self.program.ints(&windows.kernel);
        let mut inputs = vec![("x", x.into()), ("kernel_sizes", kernel.into())];
        inputs.extend(self.window_inputs(&windows));
        inputs.extend(more);
        self.make(at, kind, inputs, &shape)
    }

    pub(super) fn max_pool(&mut self, at: usize, pool: &Pool) -> Converted {
        let pooled = self.pool_windows(at, pool)?;
        self.pool(at, "max_pool", pooled, Vec::new())
    }

    pub(super) fn average_pool(&mut self, at: usize, pool: &Pool) -> Converted {
        let (x, windows) = self.pool_windows(at, pool)?;
        let is_padded = windows.is_padded();
        if pool.ceil && pool.count_padding && is_padded {
            return Err("takes means of windows that may end outside".to_owned());
        }
        let excludes = self.program.flag(is_padded && !pool.count_padding);
        let more = vec![("exclude_padding_from_average", excludes.into())];
        self.pool(at, "avg_pool", (x, windows), more)
    }
}
