//! The model as a whole, its functions and its training information.

use campana_tensor::Limits;

use super::{Parser, integer, once};
use crate::external::ExternalFiles;
use crate::message::MessageId;
use crate::proto::{Function, Metadata, OpsetImport, TrainingInfo};
use crate::schema::{function, model, opset, training_info};
use crate::source::Span;
use crate::{Error, ErrorKind, Model, Result, Source, sniff};

/// Reads a model, and where that fails says what the file seems to be.
pub(crate) fn model(source: Source, limits: &Limits) -> Result<Model> {
    let mut root = Root::default();
    let mut parser = Parser::new(&source, limits);
    let result = parser.root(&mut root);
    let (frames, budget) = (parser.frames, parser.budget);
    let not_onnx = |found: &str| {
        let message = format!("not an ONNX file: {found}");
        Error::new(ErrorKind::NotOnnx, message)
    };
    let cause = match (result, root.graph) {
        (Ok(()), Some(graph)) => {
            return Ok(Model {
                ir_version: root.ir_version,
                opset_imports: root.opset_imports,
                producer_name: root.producer_name,
                producer_version: root.producer_version,
                domain: root.domain,
                model_version: root.model_version,
                graph,
                functions: root.functions,
                training_info: root.training_info,
                metadata: root.metadata,
                frames,
                limits: *limits,
                budget,
                source,
                external: ExternalFiles::none(),
            });
        }
        (Ok(()), None) => None,
        (Err(error), _) if error.kind() == ErrorKind::Io => return Err(error),
        (Err(error), _) => Some(error),
    };
    if let Some(found) = sniff::format(&source)? {
        return Err(not_onnx(found));
    }
    match cause {
        // Every writer puts the version first: what fails before it is no model.
        Some(error) if root.ir_version.is_none() => Err(not_onnx(&error.to_string())),
        Some(error) => Err(error),
        None => Err(not_onnx(
            "it holds no graph; was it downloaded or copied completely?",
        )),
    }
}

#[derive(Default)]
struct Root {
    ir_version: Option<i64>,
    opset_imports: Vec<OpsetImport>,
    producer_name: String,
    producer_version: String,
    domain: String,
    model_version: i64,
    graph: Option<crate::proto::Graph>,
    functions: Vec<Function>,
    training_info: Vec<TrainingInfo>,
    metadata: Vec<Metadata>,
}

impl Parser<'_> {
    fn root(&mut self, root: &mut Root) -> Result<()> {
        let body = self.reader.source().span();
        let mut at = 0;
        while let Some(field) = self.reader.field(&mut at, body)? {
            match field.number {
                model::IR_VERSION => root.ir_version = Some(integer(field)?),
                model::PRODUCER_NAME => {
                    root.producer_name = self.string("producer_name", field)?;
                }
                model::PRODUCER_VERSION => {
                    root.producer_version = self.string("producer_version", field)?;
                }
                model::DOMAIN => root.domain = self.string("domain", field)?,
                model::MODEL_VERSION => root.model_version = integer(field)?,
                model::GRAPH => {
                    let graph = self.message("graph", None, field, Self::graph)?;
                    once(&mut root.graph, graph, field)?;
                }
                model::OPSET_IMPORT => {
                    let index = root.opset_imports.len();
                    let import = self.message("opset_import", index, field, Self::opset)?;
                    root.opset_imports.push(import);
                }
                model::METADATA_PROPS => {
                    let index = root.metadata.len();
                    let read = |parser: &mut Self, message, body| {
                        let (key, value) = parser.entry(body)?;
                        Ok(Metadata {
                            key,
                            value,
                            message,
                        })
                    };
                    let entry = self.message("metadata_props", index, field, read)?;
                    root.metadata.push(entry);
                }
                model::TRAINING_INFO => {
                    let index = root.training_info.len();
                    let info = self.message("training_info", index, field, Self::training_info)?;
                    root.training_info.push(info);
                }
                model::FUNCTIONS => {
                    let index = root.functions.len();
                    let function = self.message("functions", index, field, Self::function)?;
                    root.functions.push(function);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn opset(&mut self, message: MessageId, body: Span) -> Result<OpsetImport> {
        let mut import = OpsetImport {
            domain: String::new(),
            version: 0,
            message,
        };
        let mut at = body.start;
        while let Some(field) = self.reader.field(&mut at, body)? {
            match field.number {
                opset::DOMAIN => import.domain = self.string("domain", field)?,
                opset::VERSION => import.version = integer(field)?,
                _ => {}
            }
        }
        Ok(import)
    }

    fn training_info(&mut self, message: MessageId, body: Span) -> Result<TrainingInfo> {
        let mut info = TrainingInfo {
            initialization: None,
            algorithm: None,
            initialization_binding: Vec::new(),
            update_binding: Vec::new(),
            message,
        };
        let mut at = body.start;
        while let Some(field) = self.reader.field(&mut at, body)? {
            match field.number {
                training_info::INITIALIZATION => {
                    let graph = self.message("initialization", None, field, Self::graph)?;
                    once(&mut info.initialization, graph, field)?;
                }
                training_info::ALGORITHM => {
                    let graph = self.message("algorithm", None, field, Self::graph)?;
                    once(&mut info.algorithm, graph, field)?;
                }
                training_info::INITIALIZATION_BINDING => {
                    let index = info.initialization_binding.len();
                    let read = Self::named_entry;
                    let entry = self.part("initialization_binding", index, field, read)?;
                    info.initialization_binding.push(entry);
                }
                training_info::UPDATE_BINDING => {
                    let index = info.update_binding.len();
                    let entry = self.part("update_binding", index, field, Self::named_entry)?;
                    info.update_binding.push(entry);
                }
                _ => {}
            }
        }
        Ok(info)
    }

    fn function(&mut self, message: MessageId, body: Span) -> Result<Function> {
        let mut read = Function {
            name: String::new(),
            domain: String::new(),
            overload: String::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            attributes: Vec::new(),
            attribute_defaults: Vec::new(),
            nodes: Vec::new(),
            opset_imports: Vec::new(),
            message,
        };
        let mut at = body.start;
        while let Some(field) = self.reader.field(&mut at, body)? {
            match field.number {
                function::NAME => read.name = self.string("name", field)?,
                function::DOMAIN => read.domain = self.string("domain", field)?,
                function::OVERLOAD => read.overload = self.string("overload", field)?,
                function::INPUT => read.inputs.push(self.string("input", field)?),
                function::OUTPUT => read.outputs.push(self.string("output", field)?),
                function::ATTRIBUTE => read.attributes.push(self.string("attribute", field)?),
                function::ATTRIBUTE_PROTO => {
                    let index = read.attribute_defaults.len();
                    let default = self.message("attribute_proto", index, field, Self::attribute)?;
                    read.attribute_defaults.push(default);
                }
                function::NODE => {
                    let node = self.message("node", read.nodes.len(), field, Self::node)?;
                    read.nodes.push(node);
                }
                function::OPSET_IMPORT => {
                    let index = read.opset_imports.len();
                    let import = self.message("opset_import", index, field, Self::opset)?;
                    read.opset_imports.push(import);
                }
                _ => {}
            }
        }
        Ok(read)
    }
}
