//! A network ready to be asked about images.

use std::borrow::Cow;
use std::path::Path;

use campana_ir::format;
use campana_ir::graph::{Dim, Graph};
use campana_runtime::{Input, Plan, PlanOptions, Session};
use campana_tensor::{Tensor, TensorData};

use crate::{Error, Preprocessing, open_input};

/// A model with one image input and one output of class scores.
#[derive(Debug)]
pub struct Network {
    name: String,
    session: Session,
    input: String,
}

impl Network {
    /// Reads and plans the model in a file, to run on this many threads.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read, an operator is not supported, or the
    /// model does not have exactly one input.
    pub fn open(path: &Path, threads: usize) -> Result<Self, Error> {
        open_input(path).map_err(|source| Error::io(path, source))?;
        let name = path.display().to_string();
        let graph =
            format::load(path).map_err(|error| Error::model(&name, "cannot be read", error))?;
        Self::new(graph, name, threads)
    }

    /// Plans a graph.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn new<'g>(
        graph: impl Into<Cow<'g, Graph>>,
        name: String,
        threads: usize,
    ) -> Result<Self, Error> {
        let mut options = PlanOptions::default();
        options.threads = threads;
        let plan = Plan::new(graph, options)
            .map_err(|error| Error::model(&name, "cannot be run", error))?;
        let [input] = plan.inputs() else {
            let message = format!("has {} inputs, but images go into one", plan.inputs().len());
            return Err(Error::unsuitable_model(&name, &message));
        };
        let input = input.name.clone();
        Ok(Self {
            name,
            session: Session::new(plan, threads),
            input,
        })
    }

    /// The name it was opened under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether images of these settings fit the declared input.
    ///
    /// # Errors
    ///
    /// Where rank or a fixed extent differs.
    pub fn check_input(&self, settings: &Preprocessing) -> Result<(), Error> {
        let given = settings.input_shape(1);
        let Some(declared) = &self.session.plan().inputs()[0].shape else {
            return Ok(());
        };
        let fits = declared.len() == given.len()
            && declared
                .iter()
                .zip(&given)
                .skip(1)
                .all(|(declared, given)| match declared {
                    Dim::Fixed(extent) => extent == given,
                    Dim::Symbol(_) => true,
                });
        if fits {
            return Ok(());
        }
        let declared: Vec<String> = declared.iter().map(ToString::to_string).collect();
        let message = format!(
            "takes input [{}], but the preprocessing makes {given:?}",
            declared.join(", ")
        );
        Err(Error::unsuitable_model(&self.name, &message))
    }

    /// The first output for `count` images.
    ///
    /// # Errors
    ///
    /// Where the model cannot run on this input or has no output.
    pub fn first_output(
        &self,
        images: &[f32],
        count: usize,
        settings: &Preprocessing,
    ) -> Result<Tensor, Error> {
        let shape = settings.input_shape(count);
        let input = Input::F32 {
            shape: &shape,
            data: images,
        };
        let outputs = self
            .session
            .run(&[(self.input.as_str(), input)])
            .map_err(|error| Error::model(&self.name, "cannot be run on these images", error))?;
        let output = outputs.into_iter().next();
        output.ok_or_else(|| Error::unsuitable_model(&self.name, "has no output"))
    }

    /// The scores of `count` images, `[count, classes]` row-major, and the
    /// number of classes.
    ///
    /// # Errors
    ///
    /// As [`first_output`](Self::first_output), and where that is no float
    /// tensor with a row for each image.
    pub fn scores(
        &self,
        images: &[f32],
        count: usize,
        settings: &Preprocessing,
    ) -> Result<(Vec<f32>, usize), Error> {
        let output = self.first_output(images, count, settings)?;
        let (shape, TensorData::F32(scores)) = output.into_parts() else {
            return Err(Error::unsuitable_model(&self.name, "has no float output"));
        };
        if count == 0 || scores.len() % count != 0 || shape.first() != Some(&count) {
            let message = format!("gives an output of shape {shape:?} for {count} images");
            return Err(Error::unsuitable_model(&self.name, &message));
        }
        let classes = scores.len() / count;
        Ok((scores, classes))
    }
}
