//! What a folder of firmware consists of.

/// A file of a folder of firmware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name in the folder.
    pub name: String,
    /// What is in it: ASCII.
    pub text: String,
}
