//! Memory that starts at a cache line.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};

/// Floats that start at a 64-byte boundary.
#[derive(Clone, Default)]
pub struct AlignedBuffer {
    lines: Vec<CacheLine>,
    len: usize,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct CacheLine([f32; LINE_LEN]);

const LINE_LEN: usize = 16;

impl AlignedBuffer {
    /// No floats, and no memory.
    pub const fn empty() -> Self {
        Self {
            lines: Vec::new(),
            len: 0,
        }
    }

    /// `len` zeros. Large buffers come from the system as zeros: their memory
    /// is not touched before it is used.
    pub fn zeros(len: usize) -> Self {
        let count = len.div_ceil(LINE_LEN);
        if count == 0 {
            return Self::empty();
        }
        let layout = Layout::array::<CacheLine>(count).expect("a length that memory can have");
        // SAFETY: the layout is not empty. A vector of as many lines owns what was
        // allocated for them; floats whose bits are zeros are zeros.
        let lines = unsafe {
            let lines = alloc_zeroed(layout);
            if lines.is_null() {
                handle_alloc_error(layout);
            }
            Vec::from_raw_parts(lines.cast(), count, count)
        };
        Self { lines, len }
    }

    /// The floats.
    #[inline]
    pub fn as_slice(&self) -> &[f32] {
        // SAFETY: a CacheLine is LINE_LEN initialized floats without padding, and
        // `lines` holds at least `len` of them.
        unsafe { core::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }

    /// The floats, to write.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        // SAFETY: as in `as_slice`; the borrow is exclusive.
        unsafe { core::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }

    /// The buffer's memory as bytes, four for each float.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        bytes_of(self.as_slice())
    }

    /// The buffer's memory as bytes, to write.
    #[inline]
    pub fn as_mut_bytes(&mut self) -> &mut [u8] {
        bytes_of_mut(self.as_mut_slice())
    }

    /// Bytes reserved.
    pub fn len_bytes(&self) -> usize {
        size_of_val(self.lines.as_slice())
    }
}

/// The memory of floats as bytes, four for each.
#[inline]
pub fn bytes_of(floats: &[f32]) -> &[u8] {
    // SAFETY: floats have no padding, and bytes may be read at any alignment.
    unsafe { core::slice::from_raw_parts(floats.as_ptr().cast(), size_of_val(floats)) }
}

/// The memory of floats as bytes, to write; any bytes are floats.
#[inline]
pub fn bytes_of_mut(floats: &mut [f32]) -> &mut [u8] {
    let len = size_of_val(floats);
    // SAFETY: as in `bytes_of`; the borrow is exclusive and every bit pattern is a float.
    unsafe { core::slice::from_raw_parts_mut(floats.as_mut_ptr().cast(), len) }
}

impl core::fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("AlignedBuffer")
            .field("len", &self.len)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_start_at_a_cache_line_and_have_the_length_asked_for() {
        for len in [0, 1, 15, 16, 17, 100] {
            let mut buffer = AlignedBuffer::zeros(len);
            assert_eq!(buffer.as_slice().len(), len);
            assert!(buffer.as_mut_slice().as_ptr().addr().is_multiple_of(64));
        }
    }
}
