//! Models into containers and out of them.

use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use campana_eval::read_input;
use campana_ir::format::container;
use campana_onnx::Model;
use serde::Serialize;

use crate::command_files::CommandFiles;
use crate::error::Context;
use crate::output_file::{OutputFile, Overwrite};
use crate::output_name::check_name;
use crate::{Error, ErrorKind, Monitor};

/// What is said of a packed or unpacked file; the keys of the JSON are a
/// contract.
#[derive(Clone, Debug, Serialize)]
pub struct PackReport {
    /// The file that was read.
    pub input: String,
    /// The file that was written.
    pub output: String,
    /// Bytes of the former.
    pub input_bytes: u64,
    /// Bytes of the latter.
    pub output_bytes: u64,
    /// Seconds that it took.
    pub elapsed_s: f64,
}

/// Puts an ONNX model into a container.
///
/// # Errors
///
/// Where the model cannot be read, is in a container already or keeps data
/// beside it, or the output is the input or cannot be written.
pub fn pack_file(
    input: &Path,
    output: &Path,
    overwrite: Overwrite,
    monitor: &dyn Monitor,
) -> Result<PackReport, Error> {
    let start = Instant::now();
    check_name(output, "campana", "name it so")?;
    let out = create([input, output], overwrite, monitor)?;
    let model = Model::open(input).context(|| format!("cannot read '{}'", input.display()))?;
    let packed =
        container::pack(&model).context(|| format!("cannot pack '{}'", input.display()))?;
    write(out, &packed, output)?;
    let lens = [model.source().len(), packed.len() as u64];
    Ok(report([input, output], lens, start))
}

/// Takes the model out of a container.
///
/// # Errors
///
/// Where the container cannot be read, is damaged or of a later version, or
/// the output is the input or cannot be written.
pub fn unpack_file(
    input: &Path,
    output: &Path,
    overwrite: Overwrite,
    monitor: &dyn Monitor,
) -> Result<PackReport, Error> {
    let start = Instant::now();
    check_name(output, "onnx", "name it so")?;
    let out = create([input, output], overwrite, monitor)?;
    let name = || format!("cannot read '{}'", input.display());
    let packed = read_input(input).context(name)?;
    if !container::is_container(&packed) {
        let message = format!(
            "'{}' is no campana container: campana pack and campana quantize --target campana \
             write such files",
            input.display()
        );
        return Err(Error::new(ErrorKind::Malformed, message));
    }
    let file =
        container::unpack(&packed).context(|| format!("cannot unpack '{}'", input.display()))?;
    write(out, &file, output)?;
    let lens = [packed.len() as u64, file.len() as u64];
    Ok(report([input, output], lens, start))
}

/// Begins the output, which differs from the input and what lies beside it.
fn create<'a>(
    [input, output]: [&Path; 2],
    overwrite: Overwrite,
    monitor: &'a dyn Monitor,
) -> Result<OutputFile<'a>, Error> {
    CommandFiles::new()
        .model("the input", input)
        .output("the output", output)
        .check()?;
    OutputFile::create(output, overwrite, monitor)
}

fn write(mut out: OutputFile<'_>, bytes: &[u8], output: &Path) -> Result<(), Error> {
    out.write_all(bytes)
        .context(|| format!("cannot write '{}'", output.display()))?;
    out.finish()?;
    Ok(())
}

fn report([input, output]: [&Path; 2], [read, written]: [u64; 2], start: Instant) -> PackReport {
    PackReport {
        input: input.display().to_string(),
        output: output.display().to_string(),
        input_bytes: read,
        output_bytes: written,
        elapsed_s: start.elapsed().as_secs_f64(),
    }
}
