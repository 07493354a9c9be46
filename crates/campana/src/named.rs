//! Values of options that go by a name: shells propose the names.

use std::ffi::OsStr;
use std::str::FromStr;

use clap::builder::{PossibleValue, TypedValueParser};

/// Reads a value as its type does, which says what is wrong with others.
#[derive(Clone)]
pub(crate) struct Named<T> {
    names: Vec<&'static str>,
    parse: fn(&str) -> Result<T, String>,
}

impl<T: FromStr<Err = String>> Named<T> {
    /// Of a type that has values of these names.
    pub(crate) fn new(names: impl IntoIterator<Item = &'static str>) -> Self {
        Self::with(names, T::from_str)
    }
}

impl<T> Named<T> {
    /// With another function that reads a value.
    pub(crate) fn with(
        names: impl IntoIterator<Item = &'static str>,
        parse: fn(&str) -> Result<T, String>,
    ) -> Self {
        Self {
            names: names.into_iter().collect(),
            parse,
        }
    }
}

impl<T: Clone + Send + Sync + 'static> TypedValueParser for Named<T> {
    type Value = T;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<T, clap::Error> {
        self.parse.parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(
            self.names.iter().map(|name| PossibleValue::new(*name)),
        ))
    }
}
