//! What C holds: numbers that stand for what lives here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::failure::{Failure, Status};

/// The next number for whatever is given out: odd, as no address of what C
/// allocates is, and of all kinds together, so that none stands for two things.
static NEXT: AtomicUsize = AtomicUsize::new(0x1001);

/// Live handles of one kind.
#[derive(Debug)]
pub(crate) struct Handles<T> {
    live: RwLock<BTreeMap<usize, Arc<T>>>,
    what: &'static str,
}

impl<T> Handles<T> {
    /// No handles yet; errors call what they stand for by this name.
    pub(crate) const fn new(what: &'static str) -> Self {
        let live = RwLock::new(BTreeMap::new());
        Self { live, what }
    }

    /// A handle that was not given out before.
    pub(crate) fn insert(&self, value: T) -> usize {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        let value = Arc::new(value);
        loop {
            // An even step from an odd start is never 0; after all numbers of
            // the machine those still in use are passed over.
            let handle = NEXT.fetch_add(2, Ordering::Relaxed);
            if let std::collections::btree_map::Entry::Vacant(entry) = live.entry(handle) {
                entry.insert(value);
                return handle;
            }
        }
    }

    /// What a handle stands for; it lives on while it is used here, whoever
    /// frees the handle meanwhile.
    pub(crate) fn get(&self, handle: usize) -> Result<Arc<T>, Failure> {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        live.get(&handle)
            .cloned()
            .ok_or_else(|| self.unknown(handle))
    }

    /// Ends a handle.
    pub(crate) fn remove(&self, handle: usize) -> Result<Arc<T>, Failure> {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        live.remove(&handle).ok_or_else(|| self.unknown(handle))
    }

    fn unknown(&self, handle: usize) -> Failure {
        let what = self.what;
        match handle {
            0 => Failure::argument(format!("the {what} is NULL")),
            _ => Failure::new(
                Status::Handle,
                format!("this is no {what}, or it has been freed"),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_handle_is_found_out_and_its_number_is_not_given_out_again() {
        static NUMBERS: Handles<u8> = Handles::new("number");
        let first = NUMBERS.insert(1);
        let held = NUMBERS.get(first).unwrap();
        NUMBERS.remove(first).unwrap();
        let second = NUMBERS.insert(2);
        assert_ne!(first, second);
        assert_eq!((first % 2, second % 2), (1, 1));
        assert_eq!(*held, 1);
        for failure in [NUMBERS.get(first), NUMBERS.remove(first)].map(Result::unwrap_err) {
            assert_eq!(failure.status, Status::Handle);
            assert_eq!(failure.text, "this is no number, or it has been freed");
        }
        assert_eq!(NUMBERS.get(0).unwrap_err().status, Status::Argument);
    }

    #[test]
    fn kinds_do_not_share_handles() {
        static WORDS: Handles<&str> = Handles::new("word");
        static LETTERS: Handles<char> = Handles::new("letter");
        let word = WORDS.insert("oak");
        assert!(LETTERS.get(word).is_err());
    }
}
