//! The element types that levels, scales and shifts are stored in.

use alloc::vec::Vec;

use half::f16;

/// How a list of float values is stored; reading it back is a cast to `f32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Storage {
    /// 4 bytes, exact.
    F32,
    /// 2 bytes, 11 significant bits between 6e-5 and 65504.
    F16,
    /// 1 byte, whole numbers from -128 to 127.
    I8,
}

impl Storage {
    /// Bytes of one value.
    pub fn len_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
            Self::I8 => 1,
        }
    }

    /// The stored value nearest to this one; finite input stays finite.
    pub fn round(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::F16 => f16::from_f32(value.clamp(-65504.0, 65504.0)).to_f32(),
            Self::I8 => {
                let clamped = value.clamp(-128.0, 127.0);
                // Round half away from zero without std, and as an integer:
                // these have no negative zero, which a runtime would not see.
                let magnitude = (clamped.abs() + 0.5) as i32;
                let whole = if clamped < 0.0 {
                    -magnitude.min(128)
                } else {
                    magnitude.min(127)
                };
                whole as f32
            }
        }
    }

    /// The values as little-endian bytes, each rounded.
    pub fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::F16 => values
                .iter()
                .flat_map(|&v| f16::from_f32(self.round(v)).to_le_bytes())
                .collect(),
            Self::I8 => values
                .iter()
                .map(|&v| (self.round(v) as i8).cast_unsigned())
                .collect(),
        }
    }

    /// The narrower of the two float types that holds the values with at most
    /// 2^-11 relative error: `F16` where all magnitudes are in its normal
    /// range or zero.
    pub fn narrowest_float(values: &[f32]) -> Self {
        const SMALLEST_NORMAL: f32 = 6.104e-5;
        let fits =
            |value: &f32| *value == 0.0 || (SMALLEST_NORMAL..=65504.0).contains(&value.abs());
        if values.iter().all(fits) {
            Self::F16
        } else {
            Self::F32
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_what_encoding_stores() {
        for value in [
            0.0, 0.4, -0.4, -0.5, 0.6, 1.5, -3.7, 127.4, 300.0, -300.0, 1e-8,
        ] {
            let byte = Storage::I8.encode(&[value])[0].cast_signed();
            let rounded = Storage::I8.round(value);
            assert_eq!(f32::from(byte).to_bits(), rounded.to_bits(), "{value}");
            let bytes = Storage::F16.encode(&[value]);
            let half = f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
            assert_eq!(half, Storage::F16.round(value), "{value}");
        }
    }

    #[test]
    fn values_outside_the_range_of_half_floats_stay_wide() {
        assert_eq!(Storage::narrowest_float(&[0.1, 0.0]), Storage::F16);
        assert_eq!(Storage::narrowest_float(&[0.1, 1e-7]), Storage::F32);
        assert_eq!(Storage::narrowest_float(&[1e6]), Storage::F32);
    }
}
