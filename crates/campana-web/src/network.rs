//! One network in memory.

use std::path::Path;
use std::time::Duration;

use campana_export::{OutputModel, Placement};
use campana_onnx::{Model, Source};
use campana_quantize::inspect::inspect;
use campana_quantize::{
    Error, ErrorKind, MethodChoice, Options, Progress, quantize, round_levels, stored_tensors,
};
use campana_report::QuantizeReport;
use campana_report::{inspect_page, quantize_page};

/// Why the report says that nothing was corrected.
const NOT_CORRECTED: &str = "the browser page does not run the network; the command line does";

/// A network that was read.
#[derive(Debug)]
pub struct Network {
    name: String,
    model: Model,
}

/// A network with weights of fewer bits.
#[derive(Clone, Debug)]
pub struct Smaller {
    /// The ONNX file.
    pub model: Vec<u8>,
    /// What it may be called.
    pub name: String,
    /// The page that says what was lost.
    pub page: String,
}

impl Network {
    /// Reads an ONNX file of this name.
    ///
    /// # Errors
    ///
    /// Where the bytes are of another format or damaged, or weights are in
    /// files beside it, which a browser does not see.
    pub fn read(name: &str, bytes: Vec<u8>) -> Result<Self, Error> {
        let model = Model::parse(Source::from_bytes(bytes)).map_err(|error| {
            Error::new(ErrorKind::InvalidModel, format!("cannot read '{name}'")).with_source(error)
        })?;
        let name = name.to_owned();
        Ok(Self { name, model })
    }

    /// Bytes of the file.
    pub fn len_bytes(&self) -> u64 {
        self.model.source().len()
    }

    /// The page of `campana inspect --html`, drawn with the levels of
    /// `bits`-bit quantizers.
    ///
    /// # Errors
    ///
    /// Where weights cannot be read or are not finite, or `bits` is not 1 to 8.
    pub fn inspect(&self, bits: u8, progress: &dyn Progress) -> Result<String, Error> {
        options(bits, "auto")?;
        Ok(inspect_page(
            &inspect(&self.model, &self.name, progress)?,
            bits,
        ))
    }

    /// What `campana quantize --no-correct` makes of it, byte for byte.
    ///
    /// # Errors
    ///
    /// Where weights cannot be read or are not finite, `bits` is not 1 to 8, or
    /// there is no such method.
    pub fn quantize(
        &self,
        bits: u8,
        method: &str,
        progress: &dyn Progress,
    ) -> Result<Smaller, Error> {
        let options = options(bits, method)?;
        let name = smaller_name(&self.name, bits);
        let files = [self.name.as_str(), &name].map(Path::new);
        let mut quantized = quantize(&self.model, &options, progress)?;
        round_levels(&mut quantized, options.target);
        let mut model = Vec::new();
        OutputModel::new(
            &self.model,
            &quantized,
            &[],
            options.target,
            &Placement::of(files[0], files[1]),
        )?
        .write(&mut model)?;
        let report = QuantizeReport::of(
            &quantized,
            [(files[0], self.len_bytes()), (files[1], model.len() as u64)],
            &options,
            Err(NOT_CORRECTED.to_owned()),
            None,
            // A page has no clock that is worth reporting.
            Duration::ZERO,
        );
        let page = quantize_page(&report, &stored_tensors(&self.model, &quantized)?);
        Ok(Smaller { model, name, page })
    }
}

/// The names of all methods, the default first.
pub(crate) fn methods() -> Vec<String> {
    MethodChoice::all()
        .map(|method| method.to_string())
        .collect()
}

/// The command line's options for these two and its defaults for all others.
fn options(bits: u8, method: &str) -> Result<Options, Error> {
    let refuse = |message: String| Error::new(ErrorKind::InvalidArgument, message);
    let method: MethodChoice = method
        .parse()
        .map_err(|cause| refuse(format!("'{method}' is {cause}")))?;
    let options = Options {
        bits,
        method,
        granularity: method.default_granularity(),
        ..Options::default()
    };
    options.check()?;
    Ok(options)
}

/// `net.onnx` becomes `net-4bit.onnx`.
fn smaller_name(name: &str, bits: u8) -> String {
    let stem = name.strip_suffix(".onnx").unwrap_or(name);
    format!("{stem}-{bits}bit.onnx")
}

#[cfg(test)]
mod tests;
