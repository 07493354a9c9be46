//! One module a command.

pub(crate) mod bench;
pub(crate) mod compare;
pub(crate) mod compared;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod evaluate;
pub(crate) mod export;
pub(crate) mod inspect;
pub(crate) mod man;
pub(crate) mod merge;
pub(crate) mod model_inputs;
pub(crate) mod pack;
pub(crate) mod quantize;
pub(crate) mod run;
pub(crate) mod verify;
