//! A hash that is the same in every version, on every machine.

use crate::TensorData;

/// A 64-bit fingerprint of bytes, words and tensors, by which files and
/// journals are named and recognized: FNV-1a with a folded high half. Unlike
/// the standard library's hashers it may be written to a file and compared
/// with one of a later version. It finds accidents, not forgeries.
///
/// ```
/// use campana_tensor::Fingerprint;
///
/// let mut whole = Fingerprint::default();
/// whole.update(b"campana");
/// let mut parts = Fingerprint::default();
/// parts.update(b"camp");
/// parts.update(b"ana");
/// assert_eq!(whole.value(), parts.value());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(u64);

impl Default for Fingerprint {
    fn default() -> Self {
        // FNV's offset basis.
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fingerprint {
    /// One that goes on from a value.
    pub fn from_value(value: u64) -> Self {
        Self(value)
    }

    /// The fingerprint of what was added so far.
    pub fn value(self) -> u64 {
        self.0
    }

    /// Adds a word.
    pub fn word(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0100_0000_01b3);
        // Multiplication alone never lets high bits reach low ones.
        self.0 ^= self.0 >> 32;
    }

    /// Adds bytes; where one call ends and the next begins does not count.
    pub fn update(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.word(u64::from(byte)));
    }

    /// Adds bytes that end here: their number counts too.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.update(bytes);
        self.word(bytes.len() as u64);
    }

    /// Adds floats by their bits, and how many there are.
    pub fn floats(&mut self, values: &[f32]) {
        values.iter().for_each(|v| self.word(v.to_bits().into()));
        self.word(values.len() as u64);
    }

    /// Adds float elements; integer tensors count by their length only.
    pub fn tensor(&mut self, data: &TensorData) {
        match data {
            TensorData::F32(values) => return self.floats(values),
            TensorData::F64(values) => values.iter().for_each(|v| self.word(v.to_bits())),
            TensorData::F16(values) => values.iter().for_each(|v| self.word(v.to_bits().into())),
            TensorData::Bf16(values) => values.iter().for_each(|v| self.word(v.to_bits().into())),
            _ => {}
        }
        self.word(data.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> u64 {
        let mut fingerprint = Fingerprint::default();
        fingerprint.update(bytes);
        fingerprint.value()
    }

    #[test]
    fn values_do_not_change_between_versions() {
        assert_eq!(of(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(of(b"a"), FINGERPRINT_OF_A);
    }

    /// FNV-1a's 0xaf63dc4c8601ec8c with its high half folded into the low one.
    const FINGERPRINT_OF_A: u64 = 0xaf63_dc4c_8601_ec8c ^ 0xaf63_dc4c;

    #[test]
    fn each_bit_counts() {
        let bytes = [7u8; 40];
        for index in 0..bytes.len() {
            for bit in 0..8 {
                let mut other = bytes;
                other[index] ^= 1 << bit;
                assert_ne!(of(&other), of(&bytes), "bit {bit} of byte {index}");
            }
        }
    }
}
