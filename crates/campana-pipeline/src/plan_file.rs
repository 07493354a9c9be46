//! What becomes of each tensor, in a file.

use std::io::Read as _;
use std::path::Path;

use campana_eval::open_input;
use campana_ir::weights::Role;
use campana_quantize::{Options, Plan, PlannedTensor, QuantizedModel};

use crate::error::Context;
use crate::{Error, ErrorKind};

/// Bytes that a plan may take: several hundred for each of many thousand
/// tensors.
const MAX_PLAN_BYTES: u64 = 16 << 20;

/// Reads a plan.
///
/// # Errors
///
/// Where the file cannot be read, is no plan, or asks for what does not exist.
pub fn read_plan(path: &Path) -> Result<Plan, Error> {
    let context = || format!("cannot read the plan '{}'", path.display());
    let mut file = open_input(path).context(context)?;
    let len = file.metadata().context(context)?.len();
    if len > MAX_PLAN_BYTES {
        return Err(Error::new(
            ErrorKind::LimitExceeded,
            format!(
                "the plan '{}' has {len} bytes, more than any plan",
                path.display()
            ),
        ));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).context(context)?;
    Plan::parse(&text).context(context)
}

/// What became of each weight tensor of a model.
pub(crate) fn plan_of(quantized: &QuantizedModel<'_>, options: &Options) -> Plan {
    let weights = quantized
        .tensors
        .iter()
        .filter(|outcome| matches!(outcome.tensor.role, Role::Weight { .. }));
    let tensors = weights
        .map(|outcome| {
            let report = &outcome.report;
            let choice = options.choice_of(&report.name);
            PlannedTensor {
                name: report.name.clone(),
                bits: report.bits,
                method: choice.method,
                granularity: choice.granularity,
                byte_price: report.byte_price,
                weights: report.shape.iter().product::<usize>() as u64,
                divergence: report.divergence,
                bytes: report.output_bytes,
            }
        })
        .collect();
    Plan { tensors }
}
