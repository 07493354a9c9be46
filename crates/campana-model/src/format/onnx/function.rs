//! Functions that a model defines, put in the place of their calls.

use campana_onnx as onnx;

use super::convert::{Converter, Parts, STRING_LEN, Scope, canonical_domain, describe};
use crate::format::{Error, ErrorKind, Result};

/// Functions may call functions this deep; a function that calls itself, which
/// ONNX forbids, ends here too.
const MAX_DEPTH: usize = 32;

impl Converter<'_> {
    /// Adds a function's nodes with the values and attributes of one call.
    ///
    /// The function's own values get the prefix `function.N/`, where `N` counts
    /// calls, so that calls do not meet.
    pub(super) fn call(
        &mut self,
        node: &onnx::Node,
        function: &onnx::Function,
        caller: &Scope,
        parts: &mut Parts,
    ) -> Result<()> {
        let called = &function.name;
        if caller.depth == MAX_DEPTH {
            let message = format!("{}: functions call each other too deep", describe(node));
            return Err(Error::new(ErrorKind::Limit, message));
        }
        for import in &function.opset_imports {
            let domain = canonical_domain(&import.domain);
            let ours = self.opsets.get(domain);
            if ours.is_some_and(|&version| version != import.version) {
                let message = format!(
                    "function {called:?} uses version {} of operator set {domain:?}, the model \
                     another; this is not supported",
                    import.version
                );
                return Err(Error::unsupported(message));
            }
            // A set that only functions use.
            if ours.is_none() {
                self.opsets.insert(domain.to_owned(), import.version);
            }
        }
        if node.inputs.len() > function.inputs.len() || node.outputs.len() > function.outputs.len()
        {
            let message = format!(
                "{} has {} inputs and {} outputs, function {called:?} takes {} and gives {}",
                describe(node),
                node.inputs.len(),
                node.outputs.len(),
                function.inputs.len(),
                function.outputs.len()
            );
            return Err(Error::malformed(message));
        }
        let scope = self.scope(node, function, caller)?;
        for inner in &function.nodes {
            self.node(inner, &scope, parts)?;
        }
        Ok(())
    }

    fn scope(
        &mut self,
        node: &onnx::Node,
        function: &onnx::Function,
        caller: &Scope,
    ) -> Result<Scope> {
        let mut scope = Scope {
            depth: caller.depth + 1,
            attributes: self.attributes(node, caller)?,
            ..Scope::default()
        };
        for default in &function.attribute_defaults {
            if !scope.attributes.contains_key(&default.name)
                && let Some(value) = self.attribute(&default.value, caller)?
            {
                scope.attributes.insert(default.name.clone(), value);
            }
        }
        self.call_count += 1;
        let prefix = format!("{}.{}/", function.name, self.call_count);
        // Inputs that the call leaves out have no name; outputs that it leaves
        // out are made all the same.
        for (position, input) in function.inputs.iter().enumerate() {
            let given = node.inputs.get(position);
            let name = given.map_or(Ok(String::new()), |name| self.named(caller, name))?;
            self.charge(input.len())?;
            scope.names.insert(input.clone(), name);
        }
        for (output, given) in function.outputs.iter().zip(&node.outputs) {
            if !given.is_empty() {
                let name = self.named(caller, given)?;
                self.charge(output.len())?;
                scope.names.insert(output.clone(), name);
            }
        }
        for made in function.nodes.iter().flat_map(|inner| &inner.outputs) {
            if !made.is_empty() && !scope.names.contains_key(made) {
                self.charge(2 * STRING_LEN + prefix.len() + 2 * made.len())?;
                scope.names.insert(made.clone(), format!("{prefix}{made}"));
            }
        }
        Ok(scope)
    }
}
