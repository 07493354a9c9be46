//! What the kernels of a tile read.

/// Most rows that a panel takes at once, at any ISA.
pub(crate) const MAX_ROWS: usize = 14;

/// Where the groups of a tile's rows are, and the weights that they are multiplied with.
#[derive(Clone, Copy)]
pub(crate) struct Groups<'a> {
    /// Where rows start.
    pub(crate) inputs: &'a [*const u8; MAX_ROWS],
    /// Of the steps' groups.
    pub(crate) offsets: *const u32,
    pub(crate) bytes: *const u8,
    pub(crate) table: *const u8,
    pub(crate) joined: usize,
    pub(crate) apart: usize,
    /// What is brought near, and from one step's line to the next.
    pub(crate) ahead: *const u8,
    pub(crate) ahead_stride: usize,
}
