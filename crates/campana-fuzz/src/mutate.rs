//! Changes to files.

use crate::Random;

/// Numbers that lengths and counts are set to: nothing, the edges of signed and
/// unsigned integers, and what overflows when multiplied by the size of an
/// element.
pub const HOSTILE: [u64; 10] = [
    0,
    1,
    0x7f,
    0xff,
    0xffff,
    1 << 31,
    u32::MAX as u64,
    1 << 60,
    1 << 63,
    u64::MAX,
];

/// Bytes that a mutated file has at most.
const MAX_LEN: usize = 1 << 16;

/// Changes a file in one to eight places; `others` are spliced in.
pub fn mutate(random: &mut Random, file: &mut Vec<u8>, others: &[Vec<u8>]) {
    for _ in 0..=random.below(4) + random.below(5) {
        let at = random.below(file.len());
        match random.below(9) {
            0 => flip(random, file),
            1 => set(file, at, random.bits() as u8),
            2 => {
                let value = *random.pick(&HOSTILE);
                let width = 1 << random.below(4);
                write_number(file, at, value, width, random.one_in(3));
            }
            3 => write_varint(file, at, *random.pick(&HOSTILE)),
            4 => file.truncate(at),
            5 => {
                let end = (at + 1 + random.below(32)).min(file.len());
                file.drain(at.min(end)..end);
            }
            6 => {
                let len = random.below(64).min(file.len() - at);
                let run = file[at..at + len].to_vec();
                let to = random.below(file.len() + 1);
                file.splice(to..to, run);
            }
            7 if !others.is_empty() => {
                let other = random.pick(others);
                let start = random.below(other.len());
                let len = random.below(other.len() - start + 1);
                let end = (at + random.below(len + 1)).min(file.len());
                file.splice(at.min(end)..end, other[start..start + len].iter().copied());
            }
            _ => digits(random, file, at),
        }
        file.truncate(MAX_LEN);
    }
}

fn flip(random: &mut Random, file: &mut [u8]) {
    if !file.is_empty() {
        let bit = random.below(file.len() * 8);
        file[bit / 8] ^= 1 << (bit % 8);
    }
}

fn set(file: &mut [u8], at: usize, value: u8) {
    if let Some(byte) = file.get_mut(at) {
        *byte = value;
    }
}

fn write_number(file: &mut [u8], at: usize, value: u64, width: usize, big_endian: bool) {
    let mut bytes = value.to_le_bytes();
    if big_endian {
        bytes[..width].reverse();
    }
    for (offset, byte) in bytes[..width].iter().enumerate() {
        set(file, at + offset, *byte);
    }
}

/// Replaces a byte by a number as protobuf and containers write it.
fn write_varint(file: &mut Vec<u8>, at: usize, mut value: u64) {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    let end = (at + 1).min(file.len());
    file.splice(at.min(end)..end, bytes);
}

/// Replaces a run of decimal digits from `at` on, or the byte there.
fn digits(random: &mut Random, file: &mut Vec<u8>, at: usize) {
    let Some(start) = (at..file.len()).find(|&at| file[at].is_ascii_digit()) else {
        return;
    };
    let len = file[start..]
        .iter()
        .take_while(|b| b.is_ascii_digit())
        .count();
    let text = random.pick(&HOSTILE).to_string();
    file.splice(start..start + len, text.into_bytes());
}

/// Every byte of a file set to eight values, and every length of it: calls
/// `visit` with each.
pub fn exhaustive(file: &[u8], mut visit: impl FnMut(&[u8])) {
    for len in 0..file.len() {
        visit(&file[..len]);
    }
    let mut changed = file.to_vec();
    for at in 0..file.len() {
        let byte = file[at];
        for value in [0, 1, 0x7f, 0x80, 0xff, byte ^ 1, byte ^ 0x80, !byte] {
            changed[at] = value;
            visit(&changed);
        }
        changed[at] = byte;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_changes_and_all_stay_short() {
        let others = [b"another 12345 file".to_vec()];
        let run = |seed| {
            let mut random = Random::new(seed);
            let mut file = b"some file, 42 bytes".to_vec();
            for _ in 0..50 {
                mutate(&mut random, &mut file, &others);
                assert!(file.len() <= MAX_LEN);
            }
            file
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn every_byte_and_length_is_visited() {
        let mut count = 0;
        exhaustive(b"abc", |_| count += 1);
        assert_eq!(count, 3 + 3 * 8);
    }
}
