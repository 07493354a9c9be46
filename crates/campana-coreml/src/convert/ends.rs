//! Inputs and outputs: arrays of float32, pictures, and names of classes.

use campana_ir::infer::ValueInfo;

use super::Converter;
use crate::error::{Converted, Error, ErrorKind};
use crate::picture::{Channels, Image, Layout, Options};
use crate::program::{MAX_RANK, Var, named_type, tensor_type, texts};
use crate::proto::{
    ArrayFeature, ArrayType, ColorSpace, DataType, DictionaryFeature, DictionaryType, Empty,
    FeatureDescription, FeatureKind, FeatureType, ImageFeature, Metadata, ModelDescription,
    NamedType, TypeKind, ValueType,
};

/// Names of what a classifier tells beside the network's scores.
const CLASS: &str = "classLabel";
const PROBABILITIES: &str = "classLabel_probs";

/// Steps of a pixel between 0 and 1.
const PIXEL_STEPS: f32 = 255.0;

fn refused(reason: String) -> Error {
    Error::new(ErrorKind::Unsupported, reason)
}

impl Converter<'_> {
    /// The program's inputs, and what is said of them.
    pub(super) fn inputs(
        &mut self,
        options: &Options,
        names: &[String],
    ) -> Result<(Vec<NamedType>, Vec<FeatureDescription>), Error> {
        let inputs = &self.network.graph().inputs;
        let mut types = Vec::new();
        let mut features = Vec::new();
        for (input, own_name) in inputs.iter().zip(names) {
            let name = input.name.as_str();
            let shape = self.network.value(name).and_then(ValueInfo::fixed_shape);
            let shape = shape.unwrap_or_default();
            if !(1..=MAX_RANK).contains(&shape.len()) {
                let rank = shape.len();
                return Err(refused(format!(
                    "the input '{name}' has {rank} axes, and arrays of Core ML have 1 to {MAX_RANK}"
                )));
            }
            let image = options.image.as_ref().filter(|_| inputs.len() == 1);
            let (var, kind) = match image.filter(|image| image.fits(&shape)) {
                Some(image) => self.picture(name, own_name, image).map_err(refused)?,
                None => self.array(name, own_name, &shape).map_err(refused)?,
            };
            features.push(feature(&var.name, kind));
            types.push(named_type(&var));
        }
        Ok((types, features))
    }

    fn array(
        &mut self,
        name: &str,
        own_name: &str,
        shape: &[usize],
    ) -> Converted<(Var, FeatureKind)> {
        let var = float32(own_name, shape);
        let own = self.cast(&var, self.program.precision.data_type())?;
        self.values.insert(name.to_owned(), own);
        let kind = array_feature(&var.shape);
        Ok((var, kind))
    }

    /// The same values in another precision.
    fn cast(&mut self, var: &Var, to: DataType) -> Converted<Var> {
        if var.data_type == to {
            return Ok(var.clone());
        }
        let precision = match to {
            DataType::Float16 => "fp16",
            _ => "fp32",
        };
        let precision = self.program.text(precision);
        let inputs = vec![("x", var.into()), ("dtype", precision.into())];
        Ok(self
            .program
            .operations("cast", inputs, &[&var.shape], to)?
            .remove(0))
    }

    /// A picture, whose pixels become the values that the network takes.
    fn picture(
        &mut self,
        name: &str,
        own_name: &str,
        image: &Image,
    ) -> Converted<(Var, FeatureKind)> {
        let [height, width] = image.size;
        let var = float32(own_name, &[1, image.channels.count(), height, width]);
        let pixels = self.cast(&var, self.program.precision.data_type())?;
        let channels = image.mean.iter().zip(&image.std);
        let factors = image.std.iter().map(|std| 1.0 / (PIXEL_STEPS * std));
        let (factors, terms): (Vec<f32>, Vec<f32>) = (
            factors.collect(),
            channels.map(|(mean, std)| -mean / std).collect(),
        );
        let mut own = self.affine(pixels, 1, Some(&factors), Some(&terms))?;
        if image.layout == Layout::Nhwc {
            let shape = [1, height, width, image.channels.count()];
            let perm = self.program.ints(&[0, 2, 3, 1]);
            let inputs = vec![("x", own.into()), ("perm", perm.into())];
            own = self.program.operation("transpose", inputs, &shape)?;
        }
        self.values.insert(name.to_owned(), own);
        let color_space = match image.channels {
            Channels::Rgb => ColorSpace::Rgb,
            Channels::Bgr => ColorSpace::Bgr,
            Channels::Gray => ColorSpace::Grayscale,
        };
        let kind = FeatureKind::Image(ImageFeature {
            width: width as i64,
            height: height as i64,
            color_space: color_space.into(),
        });
        Ok((var, kind))
    }

    /// The program's outputs, and what is said of the model.
    pub(super) fn outputs(
        &mut self,
        options: &Options,
        mut names: Vec<String>,
        input: Vec<FeatureDescription>,
    ) -> Result<(Vec<String>, ModelDescription), Error> {
        let mut output = Vec::new();
        let mut scores = Vec::new();
        for (value, own_name) in self.network.graph().outputs.iter().zip(&names) {
            let name = value.name.as_str();
            let own = self.activation(name).map_err(|_| {
                refused(format!(
                    "the output '{name}' is an integer, a truth or a constant, and outputs can be float32 values alone"
                ))
            })?;
            let var = self.own_output(&own, own_name, &scores).map_err(refused)?;
            output.push(feature(&var.name, array_feature(&var.shape)));
            scores.push(var);
        }
        let mut description = ModelDescription {
            input,
            ..ModelDescription::default()
        };
        if let [scores] = scores.as_slice()
            && options.labels.len() > 1
            && scores.shape.iter().product::<usize>() == options.labels.len()
            && scores.shape.last() == Some(&options.labels.len())
        {
            let [class, probabilities] = self.classes(scores, &options.labels).map_err(refused)?;
            output.push(feature(&class, FeatureKind::String(Empty {})));
            let string_key = Some(Empty {});
            let kind = FeatureKind::Dictionary(DictionaryFeature { string_key });
            output.push(feature(&probabilities, kind));
            names.extend([class.clone(), probabilities.clone()]);
            description.predicted_feature_name = class;
            description.predicted_probabilities_name = probabilities;
        }
        description.output = output;
        let written = (
            "com.campana.version".to_owned(),
            env!("CARGO_PKG_VERSION").to_owned(),
        );
        description.metadata = Some(Metadata {
            user_defined: [written].into(),
        });
        Ok((names, description))
    }

    /// The value as float32, as an output of its own that has this name.
    fn own_output(&mut self, own: &Var, name: &str, others: &[Var]) -> Converted<Var> {
        let is_shared = !self.program.makes(&own.name) || others.contains(own);
        let made = match (own.data_type, is_shared) {
            (DataType::Float32, false) => own.clone(),
            (DataType::Float32, true) => {
                self.program
                    .operation("identity", vec![("x", own.into())], &own.shape)?
            }
            _ => self.cast(own, DataType::Float32)?,
        };
        Ok(self.program.renamed(made, name))
    }

    /// The most probable class's name, and the probability of each.
    fn classes(&mut self, scores: &Var, labels: &[String]) -> Converted<[String; 2]> {
        let probabilities = match self.gives_probabilities() {
            true => scores.clone(),
            false => {
                let axis = self.program.int(-1);
                let inputs = vec![("x", scores.into()), ("axis", axis.into())];
                let shape = &scores.shape[..];
                self.program
                    .operations("softmax", inputs, &[shape], DataType::Float32)?
                    .remove(0)
            }
        };
        let names = [CLASS, PROBABILITIES].map(|name| self.program.name(name));
        let text = tensor_type(&[], DataType::String);
        let dictionary = DictionaryType {
            key: Some(text.clone()),
            value: Some(tensor_type(&[], DataType::Float64)),
        };
        let dictionary = ValueType {
            kind: Some(TypeKind::Dictionary(Box::new(dictionary))),
        };
        let output = |name: &String, value_type| NamedType {
            name: name.clone(),
            value_type: Some(value_type),
        };
        let outputs = vec![output(&names[0], text), output(&names[1], dictionary)];
        let classes = texts(&distinct(labels));
        let inputs = vec![
            ("probabilities", probabilities.into()),
            ("classes", classes.into()),
        ];
        self.program.push_typed("classify", inputs, outputs);
        Ok(names)
    }

    /// Whether the network's one output is made by a softmax.
    fn gives_probabilities(&self) -> bool {
        let outputs = &self.network.graph().outputs;
        let made = outputs
            .first()
            .and_then(|output| self.network.producer(&output.name));
        made.is_some_and(|node| self.network.node(node).op_type == "Softmax")
    }
}

fn float32(name: &str, shape: &[usize]) -> Var {
    Var {
        name: name.to_owned(),
        shape: shape.to_vec(),
        data_type: DataType::Float32,
    }
}

impl Image {
    /// Whether a network's input of this shape is one such picture.
    fn fits(&self, shape: &[usize]) -> bool {
        let ([height, width], channels) = (self.size, self.channels.count());
        let expected = match self.layout {
            Layout::Nchw => [1, channels, height, width],
            Layout::Nhwc => [1, height, width, channels],
        };
        let counts = [self.mean.len(), self.std.len()];
        shape == expected && counts == [channels; 2] && self.std.iter().all(|&std| std != 0.0)
    }
}

/// Names of classes that are keys: those that come again are numbered.
fn distinct(labels: &[String]) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    let names = labels.iter().map(|label| {
        let mut name = label.clone();
        let mut number = 2;
        while !seen.insert(name.clone()) {
            name = format!("{label} ({number})");
            number += 1;
        }
        name
    });
    names.collect()
}

fn feature(name: &str, kind: FeatureKind) -> FeatureDescription {
    FeatureDescription {
        name: name.to_owned(),
        short_description: String::new(),
        feature_type: Some(FeatureType { kind: Some(kind) }),
    }
}

fn array_feature(shape: &[usize]) -> FeatureKind {
    FeatureKind::Array(ArrayFeature {
        shape: shape.iter().map(|&extent| extent as i64).collect(),
        data_type: ArrayType::Float32.into(),
    })
}
