//! Models as firmware: a folder of C.

use std::path::{Path, PathBuf};

use campana_firmware::{Budget, Firmware, MemoryPlan, foreign_name};
use campana_ir::format::onnx::{self, InputShape};
use campana_onnx::Model;
use serde::Serialize;

use crate::error::Context;
use crate::output_file::Overwrite;
use crate::output_folder::{Kind, OutputFolder};
use crate::{Error, ErrorKind, Monitor};

/// Folders of firmware.
const FOLDER: Kind = Kind {
    writer: "campana export",
    mark: "campana_kernels.h",
    foreign: foreign_name,
};

/// What becomes of a model.
#[derive(Clone, Debug)]
pub struct FirmwareJob<'a> {
    /// The model: an ONNX file of the form w4a8 or int8.
    pub model: &'a Path,
    /// The folder to write; `None` to write none.
    pub output: Option<&'a Path>,
    /// Whether an earlier folder of firmware may be replaced.
    pub overwrite: Overwrite,
    /// The name of functions and files; `None` for the model's own.
    pub name: Option<&'a str>,
    /// Shapes of inputs that the model leaves open.
    pub shapes: &'a [InputShape],
    /// Bytes of flash that the device has.
    pub flash_bytes: Option<u64>,
    /// Bytes of RAM that the device has.
    pub ram_bytes: Option<u64>,
}

/// What is said of firmware; the keys of the JSON are a contract.
#[derive(Clone, Debug, Serialize)]
pub struct FirmwareReport {
    /// The model that was read.
    pub input: String,
    /// The folder that was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// The name of functions and files.
    pub name: String,
    /// Names of the files that were written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// What was left out of the network, as a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
    /// Each layer, in the order in which they run.
    pub layers: Vec<LayerReport>,
    /// Bytes of flash: constants, and about what the kernels' code takes.
    pub flash_bytes: usize,
    /// Bytes of the latter.
    pub code_bytes: usize,
    /// Bytes of the arena.
    pub ram_bytes: usize,
    /// Multiply-accumulates of a run.
    pub multiply_accumulates: u64,
    /// Whether it fits in the flash and the RAM that were stated.
    pub fits: bool,
    /// What is too large, and what would help.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shortfalls: Vec<ShortfallReport>,
}

/// What one layer takes.
#[derive(Clone, Debug, Serialize)]
pub struct LayerReport {
    /// The node's name, or its first output's.
    pub node: String,
    /// The node's operator.
    pub op_type: String,
    /// Bits of a weight's code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_bits: Option<u8>,
    /// Number of weights.
    pub weights: usize,
    /// Strips of rows in which it runs.
    pub strips: usize,
    /// Bytes of constants.
    pub flash_bytes: usize,
    /// Bytes of the arena that are in use while it runs.
    pub ram_bytes: usize,
    /// Multiplications of weights with codes.
    pub multiply_accumulates: u64,
}

/// What a network lacks on a device.
#[derive(Clone, Debug, Serialize)]
pub struct ShortfallReport {
    /// Which memory: `flash` or `RAM`.
    pub memory: String,
    /// Bytes that it is too large by.
    pub excess_bytes: u64,
    /// The layer that takes most.
    pub layer: String,
    /// What would help, as a sentence.
    pub advice: String,
}

/// Writes a model as firmware, or only says what it takes: always where the
/// device has too little.
///
/// # Errors
///
/// Where the model cannot be read or has what no kernel computes, with the node
/// that is in the way, or the folder cannot be written; nothing is written then.
pub fn export_firmware(
    job: &FirmwareJob<'_>,
    monitor: &dyn Monitor,
) -> Result<FirmwareReport, Error> {
    let folder = job.output.map(|output| {
        if output == Path::new("-") {
            let message = "the output is a folder, which the standard output cannot be";
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        OutputFolder::create(output, job.overwrite, &FOLDER, monitor)
    });
    let folder = folder.transpose()?;
    let read = || format!("cannot read '{}'", job.model.display());
    let graph = Model::open(job.model)
        .and_then(|model| onnx::with_input_shapes(model, job.shapes))
        .context(read)?;
    let graph = onnx::graph(&graph).context(read)?;
    let name = match job.name {
        Some(name) => name.to_owned(),
        None => own_name(job.model),
    };
    let exported = || format!("cannot export '{}'", job.model.display());
    let mut firmware = Firmware::new(&graph, &name).context(exported)?;
    if let Some(limit) = job.ram_bytes {
        firmware.fit_ram(limit);
    }
    let plan = firmware.plan();
    let budget = Budget {
        flash_bytes: job.flash_bytes,
        ram_bytes: job.ram_bytes,
    };
    let mut report = report(job, name, &plan, budget);
    report.left_out = firmware.left_out().map(str::to_owned);
    let Some(folder) = folder.filter(|_| report.fits) else {
        return Ok(report);
    };
    for file in firmware.files().context(exported)? {
        folder.write(&file.name, file.text.as_bytes())?;
        report.files.push(file.name);
    }
    folder.finish()?;
    report.output = job.output.map(|output| output.display().to_string());
    Ok(report)
}

/// A name of C like that of a file.
fn own_name(model: &Path) -> String {
    let stem = model.file_stem().map(PathBuf::from).unwrap_or_default();
    let stem = stem.to_string_lossy();
    let letters = stem.chars().map(|c| match c.is_ascii_alphanumeric() {
        true => c.to_ascii_lowercase(),
        false => '_',
    });
    let name: String = letters.collect();
    match name.starts_with(|c: char| c.is_ascii_alphabetic()) && !name.starts_with("campana") {
        true => name,
        false => format!("net_{name}"),
    }
}

fn report(
    job: &FirmwareJob<'_>,
    name: String,
    plan: &MemoryPlan,
    budget: Budget,
) -> FirmwareReport {
    let layers = plan.layers.iter().map(|layer| LayerReport {
        node: layer.node.clone(),
        op_type: layer.op_type.clone(),
        weight_bits: layer.weight_bits,
        weights: layer.weights,
        strips: layer.strips,
        flash_bytes: layer.flash_bytes,
        ram_bytes: layer.ram_bytes,
        multiply_accumulates: layer.multiply_accumulates,
    });
    let shortfalls = plan
        .shortfalls(budget)
        .into_iter()
        .map(|found| ShortfallReport {
            memory: found.memory.to_owned(),
            excess_bytes: found.excess_bytes,
            layer: found.layer,
            advice: found.advice,
        });
    let shortfalls: Vec<ShortfallReport> = shortfalls.collect();
    FirmwareReport {
        input: job.model.display().to_string(),
        output: None,
        name,
        files: Vec::new(),
        left_out: None,
        layers: layers.collect(),
        flash_bytes: plan.flash_bytes(),
        code_bytes: plan.code_bytes,
        ram_bytes: plan.arena_bytes,
        multiply_accumulates: plan.multiply_accumulates(),
        fits: shortfalls.is_empty(),
        shortfalls,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_become_names_of_c() {
        let cases = [
            ("resnet8.onnx", "resnet8"),
            ("a/My-Net.v2.onnx", "my_net_v2"),
            ("8bit.onnx", "net_8bit"),
            ("campana.onnx", "net_campana"),
        ];
        for (file, name) in cases {
            assert_eq!(own_name(Path::new(file)), name);
        }
    }
}
