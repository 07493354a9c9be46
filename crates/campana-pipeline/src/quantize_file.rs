//! From a model in a file to a smaller one in another.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use campana_eval::Sidecar;
use campana_export::{OutputModel, Placement, admit};
use campana_formats::Format;
use campana_ir::format::onnx;
use campana_onnx::{DataLocation, Model};
use campana_quantize::{Target, stored_tensors};
use campana_report::{QuantizeReport, quantize_page};

use crate::command_files::CommandFiles;
use crate::core_ml::sidecar_for;
use crate::correction::{JobSamples, check_images};
use crate::data_files::{DataFiles, OldData, check_place};
use crate::destination::is_stdout;
use crate::error::Context;
use crate::job::{Bound, QuantizeJob, SampleChoice};
use crate::journal::LayerJournal;
use crate::model_output::ModelOutput;
use crate::output_file::OutputFile;
use crate::output_len::{encoded, is_encoded, output_len};
use crate::output_name::check_name;
use crate::plan_file::plan_of;
use crate::sample_arrays::is_arrays;
use crate::worked::Worked;
use crate::{Error, ErrorKind, Monitor, sidecar, tensor_file};

/// Reads, quantizes, corrects and writes one model.
///
/// # Errors
///
/// Where the model cannot be read or quantized, an option does not fit it, an
/// output is an input or another output or cannot be written, or `monitor` says
/// to stop. Nothing half-written is left, and at every instant each model that
/// is there finds the data beside it that it was written with. A bound that
/// cannot be met is no error: the report says so, and whether the model was
/// written.
pub fn quantize_file(
    job: &QuantizeJob<'_>,
    monitor: &dyn Monitor,
) -> Result<QuantizeReport, Error> {
    let start = Instant::now();
    let &QuantizeJob {
        input,
        output,
        options,
        ..
    } = job;
    let files = checked_files(job)?;
    if Format::of(input).is_some() {
        return tensor_file::quantize(job, monitor);
    }
    check_output_name(job)?;
    let finished = job.resume.map(LayerJournal::read).transpose()?;
    // Refuse what cannot be read or written before working for it.
    check_data(job)?;
    let mut outputs = Outputs::create(job, monitor)?;
    let sidecar = sidecar_for(options.target, input)?;
    let (model, input_bytes) = admitted(job, &outputs)?;
    let samples = JobSamples::new(job, &model, finished, monitor);
    let worked = Worked::on(job, &model, &samples, monitor)?;
    let result = QuantizedResult {
        job,
        model: &model,
        worked: &worked,
        sidecar: sidecar.as_ref(),
    };
    let report = |output_bytes, halved: &[String]| {
        worked.report(job, [input_bytes, output_bytes], halved, start.elapsed())
    };
    if !worked.is_written() {
        let (output_bytes, halved) = result.unwritten()?;
        return Ok(report(output_bytes, &halved));
    }
    let Written {
        files: mut finished,
        len_bytes,
        halved,
    } = result.write(&mut outputs.model, &files, monitor)?;
    let report = report(len_bytes, &halved);
    finished.extend(result.write_plan(outputs.plan)?);
    finished.extend(result.write_page(outputs.page, &report)?);
    finished.extend(outputs.sidecar);
    // The model last: it is complete only with the files it refers to.
    let old_data = OldData::of(output);
    outputs.model.finish_after(finished)?;
    old_data.remove_unused(monitor);
    Ok(report)
}

/// The files of a job, whose choices fit together.
fn checked_files(job: &QuantizeJob<'_>) -> Result<CommandFiles, Error> {
    if let Some(bound) = &job.bound {
        bound.check()?;
    }
    let files = command_files(job);
    files.check()?;
    let has_no_graph = Format::of(job.input).is_some();
    if has_no_graph && (job.bound.is_some() || job.save_plan.is_some()) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "'{}' has no graph to choose widths by; use --bits with a whole number and --bits-for",
                job.input.display()
            ),
        ));
    }
    check_distillation(job)?;
    Ok(files)
}

/// Refuses to distill what is not corrected, or would be again and again.
fn check_distillation(job: &QuantizeJob<'_>) -> Result<(), Error> {
    if job.distill.is_none() {
        return Ok(());
    }
    let name = job.input.display();
    let message = match job.bound {
        _ if Format::of(job.input).is_some() => {
            format!("'{name}' has no graph to distill: export the network to ONNX")
        }
        _ if job.samples.is_none() => {
            "distillation follows the correction, which is left out".to_owned()
        }
        _ if job.options.rate.is_some() => {
            "codes at a rate are not distilled: choose bits or a largest size".to_owned()
        }
        Some(Bound::Drop { .. } | Bound::DropOf { .. }) => {
            "a search for the smallest output under a drop does not distill what it tries: choose bits or a \
             largest size"
                .to_owned()
        }
        _ => return Ok(()),
    };
    Err(Error::new(ErrorKind::InvalidArgument, message))
}

/// The model as its target takes it, and the bytes of its files.
fn admitted(job: &QuantizeJob<'_>, outputs: &Outputs<'_>) -> Result<(Model, u64), Error> {
    let input = job.input.display();
    let model = Model::open(job.input)
        .and_then(|model| onnx::with_input_shapes(model, job.shapes))
        .context(|| format!("cannot read '{input}'"))?;
    if let ModelOutput::File(file) = &outputs.model
        && !is_encoded(job.options.target)
        && has_data_beside(&model)
    {
        check_place(job.output, file)?;
    }
    let input_bytes = input_len(&model);
    let model = admit(model, job.options).context(|| format!("cannot quantize '{input}'"))?;
    Ok((model, input_bytes))
}

/// What was written of a model.
struct Written<'o> {
    /// The files beside it.
    files: Vec<OutputFile<'o>>,
    /// Bytes of all.
    len_bytes: u64,
    /// Tensors that are stored in 16 bits.
    halved: Vec<String>,
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// What came of a job, and is written to its outputs.
struct QuantizedResult<'a> {
    job: &'a QuantizeJob<'a>,
    model: &'a Model,
    worked: &'a Worked<'a>,
    sidecar: Option<&'a Sidecar>,
}

impl<'a> QuantizedResult<'a> {
    fn writing(&self) -> String {
        format!("cannot write '{}'", self.job.output.display())
    }

    fn output_model(&self, placement: &Placement) -> Result<OutputModel<'a>, Error> {
        let target = self.job.options.target;
        OutputModel::new(
            self.model,
            &self.worked.quantized,
            &self.worked.activations,
            target,
            placement,
        )
        .context(|| self.writing())
    }

    /// The bytes that the model would take, and the tensors that it would hold in
    /// 16 bits.
    fn unwritten(&self) -> Result<(u64, Vec<String>), Error> {
        let placement = Placement::of(self.job.input, self.job.output);
        let model = self.output_model(&placement)?;
        let halved = owned(&model.halved);
        let len = output_len(model, self.job.options.target, self.sidecar);
        Ok((len.context(|| self.writing())?, halved))
    }

    /// Writes the model and the files beside it.
    fn write<'o>(
        &self,
        out: &mut ModelOutput<'_>,
        files: &CommandFiles,
        monitor: &'o dyn Monitor,
    ) -> Result<Written<'o>, Error> {
        let &QuantizeJob {
            input,
            output,
            overwrite,
            ..
        } = self.job;
        let placement = Placement::of(input, output);
        let mut written = self.output_model(&placement)?;
        let target = self.job.options.target;
        let halved = owned(&written.halved);
        let mut data = DataFiles::write(&mut written, output, overwrite, files, monitor)?;
        if !data.digests.is_empty() {
            // With the names of its data files, which are known now.
            written = self.output_model(&placement.with_digests(data.digests))?;
        }
        let own_len = match out {
            ModelOutput::File(out) if !is_encoded(target) => {
                written.write(out).context(|| self.writing())?;
                out.complete()?
            }
            out => {
                let encoded = encoded(written, target, self.sidecar);
                out.write(encoded.context(|| self.writing())?)?
            }
        };
        let mut len_bytes = data.len_bytes + own_len;
        for file in &mut data.files {
            len_bytes += file.complete()?;
        }
        Ok(Written {
            files: data.files,
            len_bytes,
            halved,
        })
    }

    fn write_plan<'o>(
        &self,
        plan: Option<OutputFile<'o>>,
    ) -> Result<Option<OutputFile<'o>>, Error> {
        let Some(mut plan) = plan else {
            return Ok(None);
        };
        let text = plan_of(&self.worked.quantized, self.job.options).to_string();
        plan.write_all(text.as_bytes())
            .context(|| "cannot write the plan".to_owned())?;
        Ok(Some(plan))
    }

    fn write_page<'o>(
        &self,
        page: Option<OutputFile<'o>>,
        report: &QuantizeReport,
    ) -> Result<Option<OutputFile<'o>>, Error> {
        let Some(mut page) = page else {
            return Ok(None);
        };
        let tensors = stored_tensors(self.model, &self.worked.quantized)?;
        page.write_all(quantize_page(report, &tensors).as_bytes())
            .context(|| "cannot write the report".to_owned())?;
        Ok(Some(page))
    }
}

/// Everything that a job reads and writes.
fn command_files(job: &QuantizeJob<'_>) -> CommandFiles {
    let (calibration, labelled) = images(job);
    let files = CommandFiles::new()
        .model("the input", job.input)
        .images("the calibration data", calibration)
        .images("the data", labelled)
        .input("the plan", job.applied_plan);
    let files = match job.options.target.is_folder() {
        true => files.output_folder("the output", job.output),
        false => files.output("the output", job.output),
    };
    files
        .output("the report", job.page)
        .output("the plan", job.save_plan)
        .output("the journal", job.resume)
}

/// Where the input's sidecar is copied to, so that the output is prepared
/// images alike: beside the output, unless something has that name already.
fn sidecar_beside_output(job: &QuantizeJob<'_>) -> Option<(PathBuf, PathBuf)> {
    let own = Sidecar::path_of(job.input);
    let copy = Sidecar::path_of(job.output);
    let others = [job.page, job.save_plan, job.applied_plan, job.resume];
    let is_taken = copy.symlink_metadata().is_ok() || others.contains(&Some(copy.as_path()));
    if is_taken || !own.is_file() || is_stdout(job.output) {
        return None;
    }
    // A file of this name that is none is not copied about.
    Sidecar::read(&own).ok().map(|_| (own, copy))
}

/// Refuses images that cannot be read or prepared.
fn check_data(job: &QuantizeJob<'_>) -> Result<(), Error> {
    let (calibration, labelled) = images(job);
    for data in [calibration, labelled].into_iter().flatten() {
        check_images(data)?;
        if !is_arrays(data) {
            sidecar(job.input)?;
        }
    }
    Ok(())
}

/// The images that a job calibrates on, and those that it measures a drop on.
fn images<'a>(job: &QuantizeJob<'a>) -> (Option<&'a Path>, Option<&'a Path>) {
    let calibration = match job.samples.or(job.range_samples) {
        Some(SampleChoice::Images { data, .. }) => Some(data),
        _ => None,
    };
    let labelled = match job.bound {
        Some(Bound::Drop { data, .. }) => data,
        _ => None,
    };
    (calibration, labelled)
}

/// Refuses an output whose name promises another form than the target's.
fn check_output_name(job: &QuantizeJob<'_>) -> Result<(), Error> {
    let target = job.options.target;
    let ending = target.ending();
    let extension = job.output.extension().unwrap_or_default();
    let advice = match Target::of_ending(&extension.to_string_lossy()) {
        Some(named) => format!("add --target {named}, or name it .{ending}"),
        None if ending == "onnx" => {
            format!("name it .onnx, which is the form of --target {target}")
        }
        None => "name it so, or choose another --target".to_owned(),
    };
    check_name(job.output, ending, &advice)
}

/// The outputs of a job that have one name each, under way.
struct Outputs<'a> {
    model: ModelOutput<'a>,
    page: Option<OutputFile<'a>>,
    plan: Option<OutputFile<'a>>,
    /// The copy of the input's sidecar.
    sidecar: Option<OutputFile<'a>>,
}

impl<'a> Outputs<'a> {
    fn create(job: &QuantizeJob<'_>, monitor: &'a dyn Monitor) -> Result<Self, Error> {
        let create = |path: &Path| OutputFile::create(path, job.overwrite, monitor);
        Ok(Self {
            model: ModelOutput::create(job, monitor)?,
            page: job.page.map(create).transpose()?,
            plan: job.save_plan.map(create).transpose()?,
            sidecar: sidecar_beside_output(job)
                .map(|(own, copy)| copied(&own, create(&copy)?))
                .transpose()?,
        })
    }
}

/// An output with the text of a sidecar.
fn copied<'a>(from: &Path, mut to: OutputFile<'a>) -> Result<OutputFile<'a>, Error> {
    let text = Sidecar::text(from)?;
    to.write_all(text.as_bytes())
        .context(|| format!("cannot copy '{}'", from.display()))?;
    Ok(to)
}

pub(crate) fn has_data_beside(model: &Model) -> bool {
    let mut tensors = model.tensors().into_iter();
    tensors.any(|tensor| matches!(tensor.data, DataLocation::External(_)))
}

/// Bytes of a model and of the files beside it.
fn input_len(model: &Model) -> u64 {
    let mut files: Vec<_> = model
        .tensors()
        .iter()
        .filter_map(|tensor| model.external_path(tensor).ok().flatten())
        .collect();
    files.sort();
    files.dedup();
    let lens = files
        .iter()
        .filter_map(|file| Some(std::fs::metadata(file).ok()?.len()));
    model.source().len() + lens.sum::<u64>()
}
