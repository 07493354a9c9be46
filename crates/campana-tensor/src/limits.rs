//! Bounds on what reading a file may take: memory, elements, nesting.

use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Bounds on what reading a file may take.
///
/// Every reader of campana asks these before it allocates what a file asks
/// for. A file that needs more is refused with an error that says which limit
/// it exceeds; nothing of that size has been allocated by then.
///
/// Memory has three bounds: a file of `n` bytes may take
/// `free_memory + max_expansion * n` bytes, and `max_memory` at most
/// ([`memory_for`](Self::memory_for)). The first keeps a download of a few
/// kilobytes from taking gigabytes, the last keeps an honest but huge file from
/// taking the machine's.
///
/// ```
/// use campana_tensor::Limits;
///
/// let limits = Limits::DEFAULT;
/// assert_eq!(limits.memory_for(1_000), 64_000_000 + 64_000);
/// // Whatever the file: two gigabytes.
/// let limits = Limits::with_max_memory(2_000_000_000);
/// assert_eq!(limits.memory_for(1_000), 2_000_000_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory that reading one file may take at once. Default: 4 GiB,
    /// or what a machine of 32 bits can address.
    pub max_memory: usize,
    /// Bytes of memory that any file may take, however small. Default: 64 MB.
    pub free_memory: usize,
    /// Bytes of memory for each byte of the file beyond that. Default: 64.
    pub max_expansion: usize,
    /// Elements of one tensor. Default: 2^32, or what a machine of 32 bits can
    /// count.
    pub max_elements: usize,
    /// Nodes of a graph once the functions that the model defines are put in the
    /// place of their calls. Default: 2^18. Messages of any kind (nodes,
    /// attributes, tensors) are eight times as many at most.
    pub max_nodes: usize,
    /// Messages within messages, dicts within dicts. Default: 100; more than
    /// 200 count as 200, for which a thread's stack is known to suffice.
    pub max_depth: usize,
    /// Pixels of a picture or of a network's input. Default: 178,956,970, at
    /// which the Python imaging library (PIL) stops too.
    pub max_pixels: usize,
    /// Bytes that a compressed member of a zip archive may unpack to, for each
    /// of its own. Default: 1,032, the most that deflate can reach.
    pub max_zip_ratio: usize,
    /// Pieces of a container. Default: 2^20.
    pub max_pieces: usize,
}

impl Limits {
    /// The limits that are documented at each field.
    pub const DEFAULT: Self = Self {
        max_memory: saturating(1 << 32),
        free_memory: 64_000_000,
        max_expansion: 64,
        max_elements: saturating(1 << 32),
        max_nodes: 1 << 18,
        max_depth: 100,
        max_pixels: 178_956_970,
        max_zip_ratio: 1_032,
        max_pieces: 1 << 20,
    };

    /// The default limits, but this much memory for any file, whatever its size.
    pub const fn with_max_memory(bytes: usize) -> Self {
        Self {
            max_memory: bytes,
            free_memory: bytes,
            ..Self::DEFAULT
        }
    }

    /// Bytes of memory that reading a file of this length may take at once.
    pub fn memory_for(&self, file_len: u64) -> usize {
        let bytes = self.content_for(file_len).min(self.max_memory as u64);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Bytes that a file of this length may stand for in all, read one tensor
    /// at a time: what [`memory_for`](Self::memory_for) has without the maximum.
    pub fn content_for(&self, file_len: u64) -> u64 {
        (self.max_expansion as u64)
            .saturating_mul(file_len)
            .saturating_add(self.free_memory as u64)
    }

    /// Levels of nesting that a recursive reader may enter.
    pub fn depth(&self) -> usize {
        self.max_depth.min(200)
    }

    /// The limits of this process: what readers use that are given none.
    /// [`DEFAULT`](Self::DEFAULT) until [`set_global`](Self::set_global).
    pub fn global() -> Self {
        let [
            max_memory,
            free_memory,
            max_expansion,
            max_elements,
            max_nodes,
            max_depth,
            max_pixels,
            max_zip_ratio,
            max_pieces,
        ] = GLOBAL.each_ref().map(|value| value.load(Ordering::Relaxed));
        Self {
            max_memory,
            free_memory,
            max_expansion,
            max_elements,
            max_nodes,
            max_depth,
            max_pixels,
            max_zip_ratio,
            max_pieces,
        }
    }

    /// Sets the limits of this process, for the program that owns it: libraries
    /// pass limits on instead. Call it before files are read.
    pub fn set_global(self) {
        for (value, new) in GLOBAL.iter().zip(self.values()) {
            value.store(new, Ordering::Relaxed);
        }
    }

    const fn values(&self) -> [usize; 9] {
        [
            self.max_memory,
            self.free_memory,
            self.max_expansion,
            self.max_elements,
            self.max_nodes,
            self.max_depth,
            self.max_pixels,
            self.max_zip_ratio,
            self.max_pieces,
        ]
    }
}

impl Default for Limits {
    /// [`Limits::DEFAULT`].
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The process's limits, in the order of the fields.
static GLOBAL: [AtomicUsize; 9] = {
    let values = Limits::DEFAULT.values();
    [
        AtomicUsize::new(values[0]),
        AtomicUsize::new(values[1]),
        AtomicUsize::new(values[2]),
        AtomicUsize::new(values[3]),
        AtomicUsize::new(values[4]),
        AtomicUsize::new(values[5]),
        AtomicUsize::new(values[6]),
        AtomicUsize::new(values[7]),
        AtomicUsize::new(values[8]),
    ]
};

const fn saturating(bytes: u64) -> usize {
    if bytes > usize::MAX as u64 {
        usize::MAX
    } else {
        bytes as usize
    }
}

/// What is left of the memory that reading one file may take.
///
/// Readers charge what they are about to allocate, with the factor by which a
/// growing list overshoots; what they charged for in vain is given back.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    allowed: usize,
    file_len: u64,
    left: usize,
}

impl MemoryBudget {
    /// Bytes that a list takes at most for each byte of its items while it
    /// grows by doubling: the old half and the new whole at once.
    pub const GROWTH: usize = 3;

    /// All that a file of this length may take.
    pub fn new(limits: &Limits, file_len: u64) -> Self {
        let allowed = limits.memory_for(file_len);
        Self {
            allowed,
            file_len,
            left: allowed,
        }
    }

    /// Adds what another file of this length, read with the first, may take.
    pub fn add_file(&mut self, limits: &Limits, file_len: u64) {
        self.file_len = self.file_len.saturating_add(file_len);
        let allowed = limits.memory_for(self.file_len);
        self.left += allowed - self.allowed;
        self.allowed = allowed;
    }

    /// Takes bytes from what is left.
    ///
    /// # Errors
    ///
    /// Where fewer are left; nothing is taken then.
    pub fn take(&mut self, bytes: usize) -> Result<(), MemoryExceeded> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(MemoryExceeded {
                allowed: self.allowed,
                file_len: self.file_len,
            }),
        }
    }

    /// Takes what `count` more items of a growing list may cost.
    ///
    /// # Errors
    ///
    /// As [`take`](Self::take).
    pub fn take_items<T>(&mut self, count: usize) -> Result<(), MemoryExceeded> {
        self.take(count.saturating_mul(Self::GROWTH * size_of::<T>()))
    }

    /// Gives back bytes that were taken and are free again.
    pub fn give_back(&mut self, bytes: usize) {
        self.left = self.left.saturating_add(bytes).min(self.allowed);
    }

    /// Bytes that may still be taken.
    pub fn left(&self) -> usize {
        self.left
    }
}

/// A file asks for more memory than its [`Limits`] allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryExceeded {
    allowed: usize,
    file_len: u64,
}

impl fmt::Display for MemoryExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "reading it would take more than {} bytes of memory, the limit for a file of {} bytes; \
             raise the memory limit if the file can be trusted",
            self.allowed, self.file_len
        )
    }
}

impl core::error::Error for MemoryExceeded {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn memory_grows_with_the_file_up_to_the_maximum() {
        let limits = Limits::DEFAULT;
        assert_eq!(limits.memory_for(0), 64_000_000);
        assert_eq!(limits.memory_for(1 << 20), 64_000_000 + (64 << 20));
        assert_eq!(limits.memory_for(u64::MAX), limits.max_memory);
    }

    #[test]
    fn a_budget_is_refused_once_it_is_spent_and_stays_as_it_was() {
        let mut budget = MemoryBudget::new(&Limits::with_max_memory(100), 7);
        budget.take(60).unwrap();
        let error = budget.take(41).unwrap_err();
        assert!(error.to_string().contains("100 bytes of memory"), "{error}");
        assert!(error.to_string().contains("file of 7 bytes"), "{error}");
        budget.take(40).unwrap();
        budget.give_back(10);
        assert_eq!(budget.left(), 10);
        let mut two_files = MemoryBudget::new(&Limits::DEFAULT, 1_000);
        two_files.take(64_000_000).unwrap();
        two_files.add_file(&Limits::DEFAULT, 1_000);
        assert_eq!(two_files.left(), 128_000);
        assert!(budget.take_items::<u64>(usize::MAX).is_err());
    }

    #[test]
    fn depth_is_bounded_whatever_is_asked_for() {
        let limits = Limits {
            max_depth: usize::MAX,
            ..Limits::DEFAULT
        };
        assert_eq!(limits.depth(), 200);
    }

    #[test]
    fn the_limits_of_the_process_are_those_that_were_set() {
        let default = Limits::global();
        assert_eq!(default, Limits::DEFAULT);
        let mut other = Limits::with_max_memory(1 << 30);
        other.max_pieces = 7;
        other.set_global();
        assert_eq!(Limits::global(), other);
        default.set_global();
    }
}
