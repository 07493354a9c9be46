//! Whatever the bytes: unpacking ends, within its memory. The checksum is made
//! right first, or nothing behind it would be reached.
#![no_main]

use campana_container::{Limits, unpack};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut container = bytes.to_vec();
    container.extend(crc32fast::hash(bytes).to_le_bytes());
    let limits = Limits::with_max_memory(1 << 24);
    if let Ok(file) = unpack(&container, &limits) {
        assert!(file.len() <= limits.max_memory);
    }
});
