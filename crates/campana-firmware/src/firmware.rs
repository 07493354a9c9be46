//! A network as firmware: its files and what it takes.

use campana_ir::graph::Graph;
use campana_runtime::PlanErrorKind;
use campana_runtime::integer::IntegerNetwork;

use crate::error::{Error, ErrorKind};
use crate::file::File;
use crate::plan::MemoryPlan;
use crate::{inputs, kernels, live, logits, memory, project, self_test, source};

/// A network that can be written as C.
#[derive(Debug)]
pub struct Firmware {
    name: String,
    graph: Graph,
    firmware: memory::Firmware,
    left_out: Option<String>,
}

impl Firmware {
    /// Works out how a network runs. An open batch becomes 1; softmaxes that
    /// give outputs are left out ([`left_out`](Self::left_out)).
    ///
    /// # Errors
    ///
    /// Of kind `InvalidArgument` where the name is no identifier of C, of kind
    /// `OpenShape` where an extent other than the batch is open, of kind
    /// `Unsupported` where a node computes in floats or has no kernel, of kind
    /// `InvalidModel` where the network contradicts itself; names the node or
    /// input.
    pub fn new(graph: &Graph, name: &str) -> Result<Self, Error> {
        check_name(name)?;
        let mut graph = inputs::fixed(graph)?;
        let left_out = logits::leave_out_softmax(&mut graph);
        live::drop_dead_nodes(&mut graph);
        let network = IntegerNetwork::new(&graph).map_err(|error| match error.kind() {
            PlanErrorKind::Unsupported => {
                Error::new(ErrorKind::Unsupported, "cannot run on integers alone")
                    .with_source(error)
            }
            _ => Error::new(ErrorKind::InvalidModel, "cannot plan the network").with_source(error),
        })?;
        Ok(Self {
            name: name.to_owned(),
            firmware: memory::Firmware::new(network)?,
            graph,
            left_out,
        })
    }

    /// What was left out of the network at its end, as a sentence.
    pub fn left_out(&self) -> Option<&str> {
        self.left_out.as_deref()
    }

    /// Runs wide layers in strips of rows, so that the arena is not larger than this,
    /// or as small as it gets: what two strips need is computed twice.
    pub fn fit_ram(&mut self, limit_bytes: u64) {
        let limit = usize::try_from(limit_bytes).unwrap_or(usize::MAX);
        self.firmware.fit_arena(limit);
    }

    /// Flash, RAM and multiply-accumulates of each layer.
    pub fn plan(&self) -> MemoryPlan {
        MemoryPlan::of(&self.firmware)
    }

    /// The files, of which none depends on the machine that writes them.
    ///
    /// # Errors
    ///
    /// Where the integer engine cannot run the network, whose results the
    /// self-test expects.
    pub fn files(&self) -> Result<Vec<File>, Error> {
        let (name, firmware) = (self.name.as_str(), &self.firmware);
        let test = self_test::source(&self.graph, firmware, name)?;
        let mut files = vec![
            file(
                format!("{name}.h"),
                source::header(firmware, name, self.left_out()),
            ),
            file(format!("{name}.c"), source::source(firmware, name)),
            file(format!("{name}_test.c"), test),
        ];
        files.extend(kernels::files(firmware));
        let sources: Vec<String> = files
            .iter()
            .filter(|file| file.name.ends_with(".c") && !file.name.ends_with("_test.c"))
            .map(|file| file.name.clone())
            .collect();
        files.push(file(
            "CMakeLists.txt".to_owned(),
            project::cmake(name, &sources),
        ));
        let plan = self.plan();
        let readme = project::readme(firmware, name, self.left_out(), &plan, &sources);
        files.push(file("README.md".to_owned(), readme));
        Ok(files)
    }
}

fn file(name: String, text: String) -> File {
    File { name, text }
}

/// Names that the language or the kernels have already.
const TAKEN: [&str; 37] = [
    "auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else",
    "enum", "extern", "float", "for", "goto", "if", "inline", "int", "long", "register",
    "restrict", "return", "short", "signed", "sizeof", "static", "struct", "switch", "typedef",
    "union", "unsigned", "void", "volatile", "while", "main", "string", "stdint",
];

fn check_name(name: &str) -> Result<(), Error> {
    let mut letters = name.chars();
    let begins = letters.next().is_some_and(|c| c.is_ascii_alphabetic());
    let goes_on = letters.all(|c| c.is_ascii_alphanumeric() || c == '_');
    if begins && goes_on && !TAKEN.contains(&name) && !name.starts_with("campana") {
        return Ok(());
    }
    let message = format!(
        "'{name}' is no name for functions and files of C: it must begin with a letter, have letters, \
         digits and '_' alone, and be no word of C or name of a kernel"
    );
    Err(Error::new(ErrorKind::InvalidArgument, message))
}
