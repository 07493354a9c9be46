//! The way back through a graph.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use campana_ir::graph::{Graph, Node, Value};
use campana_ir::network::Network;
use campana_runtime::{Input, Plan, PlanOptions, Session};
use campana_tensor::{ElementType, Tensor};

use crate::error::{Error, ErrorKind, Fault};
use crate::rule::{Reads, Rule, Step};
use crate::rules;

/// Reverse-mode differentiation of one graph on inputs of fixed shapes.
///
/// What it was made of is the graph's structure: its constants may change from
/// pass to pass.
#[derive(Debug)]
pub struct Backward {
    /// Nodes that gradients go through, the last one first.
    steps: Vec<Planned>,
    /// Values that a forward pass has to give, in order.
    kept: Vec<String>,
    /// Extents of every value that a step touches.
    shapes: HashMap<String, Vec<usize>>,
    /// Constants and inputs whose gradients are wanted.
    wanted: BTreeSet<String>,
}

#[derive(Debug)]
struct Planned {
    node: Node,
    rule: Box<dyn Rule>,
    /// Which inputs' gradients are wanted.
    wanted: Vec<bool>,
}

/// What a forward pass gave: every value that was kept, by its name.
#[derive(Clone, Debug)]
pub struct Values(HashMap<String, Tensor>);

impl Values {
    /// A value that was kept.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }
}

impl Backward {
    /// The way from the values `losses`, whose gradients will be given, back to
    /// the constants (or inputs) `wanted`, on inputs of these shapes. The
    /// forward pass also gives all of `losses`.
    ///
    /// # Errors
    ///
    /// Of kind `Unsupported` where a node between them has no gradient, which
    /// the error names; of kind `Invalid` where the graph cannot be analysed or
    /// run on the inputs.
    pub fn new(
        graph: &Graph,
        wanted: &[&str],
        losses: &[&str],
        inputs: &[(&str, &Tensor)],
    ) -> Result<Self, Error> {
        let network = Network::new(graph).map_err(|error| {
            Error::new(ErrorKind::Invalid, "cannot analyse the network").with_source(error)
        })?;
        let changing = dependents(&network, wanted);
        let nodes = nodes_between(&network, &changing, losses);
        let mut steps = Vec::with_capacity(nodes.len());
        let mut kept: BTreeSet<String> = losses.iter().map(|&name| name.to_owned()).collect();
        for at in nodes {
            let node = network.node(at);
            let wanted: Vec<bool> = node
                .inputs
                .iter()
                .map(|name| changing.contains(name.as_str()))
                .collect();
            let rule = rules::of(&network, at).map_err(|fault| Error::at(node, &fault))?;
            let Reads { inputs, output } = rule.reads(&wanted);
            let read = inputs.iter().filter_map(|&input| node.inputs.get(input));
            let read = read.chain(node.outputs.first().filter(|_| output));
            let is_kept =
                |name: &&String| !name.is_empty() && !graph.constants.contains_key(name.as_str());
            kept.extend(read.filter(is_kept).cloned());
            steps.push(Planned {
                node: node.clone(),
                rule,
                wanted,
            });
        }
        let mut backward = Self {
            steps,
            kept: kept.into_iter().collect(),
            shapes: HashMap::new(),
            wanted: wanted.iter().map(|&name| name.to_owned()).collect(),
        };
        backward.shapes = backward.shapes_on(graph, inputs)?;
        Ok(backward)
    }

    /// Extents of every value that a step touches, found by a run.
    fn shapes_on(
        &self,
        graph: &Graph,
        inputs: &[(&str, &Tensor)],
    ) -> Result<HashMap<String, Vec<usize>>, Error> {
        let touched = self
            .steps
            .iter()
            .flat_map(|step| step.node.inputs.iter().chain(&step.node.outputs))
            .filter(|name| !name.is_empty() && !graph.constants.contains_key(name.as_str()));
        let names: BTreeSet<&String> = touched.chain(&self.kept).collect();
        let names: Vec<String> = names.into_iter().cloned().collect();
        let session = session_of(graph, &names, 1)?;
        let values = run(&session, &names, inputs)?;
        let shapes = values.into_iter().map(|(name, tensor)| {
            let (shape, _) = tensor.into_parts();
            (name, shape)
        });
        Ok(shapes.collect())
    }

    /// Bytes of the values that a forward pass keeps.
    pub fn kept_bytes(&self) -> usize {
        let elements = self.kept.iter().filter_map(|name| self.shapes.get(name));
        elements
            .map(|shape| shape.iter().product::<usize>())
            .sum::<usize>()
            * size_of::<f32>()
    }

    /// What runs the graph forward and keeps what the way back reads.
    ///
    /// # Errors
    ///
    /// Of kind `Invalid` where the graph cannot be planned.
    pub fn session(&self, graph: &Graph, threads: usize) -> Result<Session, Error> {
        session_of(graph, &self.kept, threads)
    }

    /// A forward pass.
    ///
    /// # Errors
    ///
    /// Of kind `Invalid` where the session cannot run on these inputs, or is not
    /// one that [`session`](Self::session) made.
    pub fn values(&self, session: &Session, inputs: &[(&str, &Tensor)]) -> Result<Values, Error> {
        run(session, &self.kept, inputs).map(Values)
    }

    /// Gradients with regard to everything that was wanted, by name, in the
    /// extents of the constant: those of `losses` carried back. What no loss
    /// depends on is not there.
    ///
    /// # Errors
    ///
    /// Of kind `Invalid` where values or gradients are not of the extents that
    /// this was made for.
    pub fn run(
        &self,
        graph: &Graph,
        values: &Values,
        losses: HashMap<String, Vec<f32>>,
    ) -> Result<BTreeMap<String, Vec<f32>>, Error> {
        let kept: HashMap<&str, &Tensor> = values
            .0
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
            .collect();
        for (name, tensor) in &kept {
            if self
                .shapes
                .get(*name)
                .is_some_and(|shape| shape != tensor.shape())
            {
                let message = format!("{name:?} has another shape than before");
                return Err(Error::new(ErrorKind::Invalid, message));
            }
        }
        let mut gradients = losses;
        for planned in &self.steps {
            let node = &planned.node;
            let outputs: Vec<Option<Vec<f32>>> = node
                .outputs
                .iter()
                .map(|name| gradients.remove(name))
                .collect();
            if outputs.iter().all(Option::is_none) {
                continue;
            }
            let step = Step {
                node,
                wanted: &planned.wanted,
                graph,
                values: &kept,
                shapes: &self.shapes,
            };
            let found = planned
                .rule
                .backward(&step, outputs)
                .map_err(|fault| Error::at(node, &fault))?;
            for ((name, gradient), wanted) in node.inputs.iter().zip(found).zip(&planned.wanted) {
                let Some(gradient) = gradient.filter(|_| *wanted) else {
                    continue;
                };
                add(&mut gradients, name, gradient).map_err(|fault| Error::at(node, &fault))?;
            }
        }
        let wanted = gradients
            .into_iter()
            .filter(|(name, _)| self.wanted.contains(name));
        Ok(wanted.collect())
    }
}

/// Adds to the gradient of a value.
fn add(
    gradients: &mut HashMap<String, Vec<f32>>,
    name: &str,
    gradient: Vec<f32>,
) -> Result<(), Fault> {
    match gradients.get_mut(name) {
        None => {
            gradients.insert(name.to_owned(), gradient);
        }
        Some(sum) if sum.len() == gradient.len() => {
            for (sum, gradient) in sum.iter_mut().zip(gradient) {
                *sum += gradient;
            }
        }
        Some(sum) => {
            let lens = [sum.len(), gradient.len()];
            return Err(Fault::invalid(format!("gradients of {lens:?} elements")));
        }
    }
    Ok(())
}

/// Float values that depend on these.
fn dependents<'g>(network: &Network<'g>, wanted: &[&'g str]) -> HashSet<&'g str> {
    let mut changing: HashSet<&str> = wanted.iter().copied().collect();
    for node in &network.graph().nodes {
        if node
            .inputs
            .iter()
            .any(|name| changing.contains(name.as_str()))
        {
            let floats = node.outputs.iter().filter(|name| {
                let info = network.value(name);
                let element_type = info.and_then(|info| info.element_type);
                !name.is_empty() && element_type.is_none_or(|found| found == ElementType::F32)
            });
            changing.extend(floats.map(String::as_str));
        }
    }
    changing
}

/// Nodes that change with what is wanted and that losses depend on, the last
/// one first.
fn nodes_between(network: &Network<'_>, changing: &HashSet<&str>, losses: &[&str]) -> Vec<usize> {
    let mut counted: HashSet<&str> = losses.iter().copied().collect();
    let nodes = &network.graph().nodes;
    let mut between = Vec::new();
    for (at, node) in nodes.iter().enumerate().rev() {
        let counts =
            |name: &String| counted.contains(name.as_str()) && changing.contains(name.as_str());
        if node.outputs.iter().any(counts) {
            between.push(at);
            counted.extend(node.inputs.iter().map(String::as_str));
        }
    }
    between
}

/// A session that gives these values.
fn session_of(graph: &Graph, names: &[String], threads: usize) -> Result<Session, Error> {
    let mut graph = graph.clone();
    graph.outputs = names.iter().map(|name| Value::named(name)).collect();
    let options = PlanOptions::default();
    let plan = Plan::new(graph, options).map_err(|error| {
        Error::new(ErrorKind::Invalid, "cannot run the network").with_source(error)
    })?;
    Ok(Session::new(plan, threads))
}

fn run(
    session: &Session,
    names: &[String],
    inputs: &[(&str, &Tensor)],
) -> Result<HashMap<String, Tensor>, Error> {
    let inputs: Vec<(&str, Input<'_>)> = inputs
        .iter()
        .map(|&(name, tensor)| (name, Input::from(tensor)))
        .collect();
    let outputs = session.run(&inputs).map_err(|error| {
        Error::new(ErrorKind::Invalid, "cannot run the network").with_source(error)
    })?;
    if outputs.len() != names.len() {
        return Err(Error::new(
            ErrorKind::Invalid,
            "the session gives other values",
        ));
    }
    Ok(names.iter().cloned().zip(outputs).collect())
}
