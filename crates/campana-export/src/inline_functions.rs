//! Calls of functions that a model defines, replaced by the functions' nodes.
//!
//! Exporters write layers as functions of their own; what is inside of them is
//! quantized once it stands in the graph, as all else does. Values and nodes of a
//! call get the prefix `FUNCTION.N/`, as the engine names them.

use std::collections::{HashMap, HashSet};

use campana_onnx::{
    Attribute, AttributeValue, Content, Edits, Function, MessageId, Model, NewNode, Node,
    opset_import, schema,
};

use campana_ir::weights::weight_inputs;
use campana_tensor::MemoryBudget;

use crate::opset;

/// Functions may call functions this deep; ONNX forbids that one calls itself.
const MAX_DEPTH: usize = 32;

/// Whether a function of the model multiplies activations with weights: its own
/// constants, or what a call gives it.
pub(crate) fn has_layers_in_functions(model: &Model) -> bool {
    let nodes = model.functions.iter().flat_map(|function| &function.nodes);
    nodes
        .into_iter()
        .any(|node| !weight_inputs(&node.op_type).is_empty())
}

/// The model without calls of functions; `None` where it defines none. Their
/// definitions go too, unless graphs for training may call them.
///
/// # Errors
///
/// Why a call cannot be replaced.
pub(crate) fn with_inlined_functions(model: &Model) -> Result<Option<Model>, String> {
    if model.functions.is_empty() {
        return Ok(None);
    }
    let mut inliner = Inliner::new(model);
    let mut edits = Edits::new(model);
    inliner.add_opsets(&mut edits)?;
    for graph in model.graphs() {
        for node in &graph.nodes {
            if let Some(function) = inliner.called(node) {
                let nodes = inliner.call(node, function, &Scope::default())?;
                edits.replace(node.message, nodes);
            }
        }
    }
    if model.training_info.is_empty() {
        for function in &model.functions {
            edits.remove(function.message);
        }
    }
    edits
        .into_model()
        .map(Some)
        .map_err(|error| error.to_string())
}

/// Bytes that a node or name takes beside its text, about.
const PART_LEN: usize = 256;

/// The bytes of the prefix that the values of a call get.
fn name_len_of(function: &Function) -> usize {
    function.name.len() + PART_LEN
}

/// The domain, name and overload of an operator.
type Called<'m> = (&'m str, &'m str, &'m str);

fn canonical_domain(domain: &str) -> &str {
    if opset::is_onnx(domain) { "" } else { domain }
}

/// What a function's names and attributes stand for in one call.
#[derive(Default)]
struct Scope<'m> {
    names: HashMap<&'m str, String>,
    /// Attributes that have the values.
    attributes: HashMap<&'m str, &'m Attribute>,
    prefix: String,
    depth: usize,
}

impl Scope<'_> {
    fn name(&self, name: &str) -> String {
        let renamed = self.names.get(name).cloned();
        renamed.unwrap_or_else(|| name.to_owned())
    }

    fn names(&self, names: &[String]) -> Vec<String> {
        names.iter().map(|name| self.name(name)).collect()
    }
}

struct Inliner<'m> {
    model: &'m Model,
    functions: HashMap<Called<'m>, &'m Function>,
    /// Names of values that the model has.
    taken: HashSet<&'m str>,
    calls: usize,
    nodes: usize,
    budget: MemoryBudget,
}

impl<'m> Inliner<'m> {
    fn new(model: &'m Model) -> Self {
        let functions = model.functions.iter().map(|function| {
            let domain = canonical_domain(&function.domain);
            let called: Called<'m> = (domain, &function.name, &function.overload);
            (called, function)
        });
        Self {
            model,
            functions: functions.collect(),
            taken: model.value_names(),
            calls: 0,
            nodes: 0,
            budget: model.memory_budget(),
        }
    }

    fn called(&self, node: &Node) -> Option<&'m Function> {
        let called = (
            canonical_domain(&node.domain),
            &*node.op_type,
            &*node.overload,
        );
        self.functions.get(&called).copied()
    }

    /// Lets the model rely on the operator sets of its functions.
    fn add_opsets(&self, edits: &mut Edits<'_>) -> Result<(), String> {
        let own = self.model.opset_imports.iter();
        let mut known: HashMap<&str, i64> = own
            .map(|import| (canonical_domain(&import.domain), import.version))
            .collect();
        for function in &self.model.functions {
            for import in &function.opset_imports {
                let domain = canonical_domain(&import.domain);
                let version = *known.entry(domain).or_insert_with(|| {
                    let added = opset_import(&import.domain, import.version);
                    let added = Content::default().message(schema::model::OPSET_IMPORT, added);
                    edits.append(MessageId::MODEL, added);
                    import.version
                });
                if version != import.version {
                    return Err(format!(
                        "function '{}' is written for opset {} of '{domain}', the model for {version}",
                        function.name, import.version
                    ));
                }
            }
        }
        Ok(())
    }

    /// The nodes that a call stands for.
    fn call(
        &mut self,
        node: &'m Node,
        function: &'m Function,
        caller: &Scope<'m>,
    ) -> Result<Content<'m>, String> {
        let name = &function.name;
        if caller.depth == MAX_DEPTH {
            return Err(format!(
                "function '{name}' is called more than {MAX_DEPTH} deep"
            ));
        }
        if node.inputs.len() > function.inputs.len() || node.outputs.len() > function.outputs.len()
        {
            return Err(format!(
                "a call of function '{name}' has more inputs or outputs than it"
            ));
        }
        // Each value and each node is renamed, written, and read again.
        let made = function.nodes.iter().flat_map(|inner| &inner.outputs);
        self.charge(made.map(|name| name.len() + name_len_of(function)).sum())?;
        let scope = self.scope(node, function, caller);
        let mut nodes = Content::default();
        for inner in &function.nodes {
            self.nodes += 1;
            if self.nodes > self.model.limits().max_nodes {
                return Err(format!(
                    "the calls of function '{name}' have too many nodes"
                ));
            }
            let given = inner.inputs.iter().chain(&inner.outputs);
            let names: usize = given.map(|name| scope.name(name).len()).sum();
            let attributes = inner.attributes.iter().map(|attribute| {
                let value = resolved(attribute, &scope).unwrap_or(attribute);
                self.model.span(value.message).len() as usize
            });
            self.charge(names + attributes.sum::<usize>())?;
            let made = match self.called(inner) {
                Some(function) => self.call(inner, function, &scope)?,
                None => Content::default().message(schema::graph::NODE, self.node(inner, &scope)?),
            };
            nodes = nodes.then(made);
        }
        Ok(nodes)
    }

    /// Takes memory for a part of the model.
    fn charge(&mut self, bytes: usize) -> Result<(), String> {
        let taken = self.budget.take(MemoryBudget::GROWTH * (PART_LEN + bytes));
        taken.map_err(|exceeded| exceeded.to_string())
    }

    fn scope(&mut self, node: &'m Node, function: &'m Function, caller: &Scope<'m>) -> Scope<'m> {
        let mut scope = Scope {
            prefix: self.prefix(function),
            depth: caller.depth + 1,
            ..Scope::default()
        };
        // Inputs that the call leaves out have no name; outputs that it leaves out
        // are made all the same.
        for (position, input) in function.inputs.iter().enumerate() {
            let given = node.inputs.get(position);
            let given = given.map_or_else(String::new, |given| caller.name(given));
            scope.names.insert(input, given);
        }
        for (output, given) in function.outputs.iter().zip(&node.outputs) {
            if !given.is_empty() {
                scope.names.insert(output, caller.name(given));
            }
        }
        for made in function.nodes.iter().flat_map(|inner| &inner.outputs) {
            if !made.is_empty() && !scope.names.contains_key(made.as_str()) {
                let renamed = format!("{}{made}", scope.prefix);
                scope.names.insert(made, renamed);
            }
        }
        for default in &function.attribute_defaults {
            scope.attributes.insert(&default.name, default);
        }
        for attribute in &node.attributes {
            match resolved(attribute, caller) {
                Some(value) => scope.attributes.insert(&attribute.name, value),
                None => continue,
            };
        }
        scope
    }

    /// A prefix for the values of one call that no other value has.
    fn prefix(&mut self, function: &Function) -> String {
        loop {
            self.calls += 1;
            let prefix = format!("{}.{}/", function.name, self.calls);
            let made = function.nodes.iter().flat_map(|inner| &inner.outputs);
            let mut renamed = made.map(|name| format!("{prefix}{name}"));
            if !renamed.any(|name| self.taken.contains(name.as_str())) {
                return prefix;
            }
        }
    }

    /// A node of a function as it stands in the place of a call.
    fn node(&self, node: &'m Node, scope: &Scope<'m>) -> Result<NewNode<'m>, String> {
        let (inputs, outputs) = (scope.names(&node.inputs), scope.names(&node.outputs));
        let mut new = NewNode::new(&node.op_type, inputs, outputs);
        if !node.name.is_empty() {
            new = new.name(&format!("{}{}", scope.prefix, node.name));
        }
        if !node.domain.is_empty() {
            new = new.domain(&node.domain);
        }
        for attribute in &node.attributes {
            let Some(value) = resolved(attribute, scope) else {
                continue;
            };
            if matches!(
                value.value,
                AttributeValue::Graph(_) | AttributeValue::Graphs(_)
            ) {
                return Err(format!(
                    "node '{}' ({}) of a function has a graph of its own",
                    node.name, node.op_type
                ));
            }
            new = new.with(self.attribute(&attribute.name, value)?);
        }
        Ok(new)
    }

    /// The value of an attribute under another name.
    fn attribute(&self, name: &str, value: &Attribute) -> Result<Content<'m>, String> {
        use schema::attribute::{DOC_STRING, NAME, REF_ATTR_NAME};
        let runs = self.model.fields(value.message);
        let mut fields = Content::default().string(NAME, name);
        for run in runs.map_err(|error| error.to_string())? {
            if ![NAME, REF_ATTR_NAME, DOC_STRING].contains(&run.number) {
                fields = fields.then(Content::copy(run.span));
            }
        }
        Ok(Content::default().message(schema::node::ATTRIBUTE, fields))
    }
}

/// What has the value of an attribute: itself, or what a call gives for it.
fn resolved<'m>(attribute: &'m Attribute, scope: &Scope<'m>) -> Option<&'m Attribute> {
    match &attribute.value {
        AttributeValue::Reference(name) => scope.attributes.get(name.as_str()).copied(),
        _ => Some(attribute),
    }
}

#[cfg(test)]
mod tests;
