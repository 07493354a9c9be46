//! Elements of little-endian files on big-endian machines.

/// Elements whose bytes can be reversed.
pub(crate) trait Bits {
    fn swap(&mut self);
}

macro_rules! bits {
    ($($int:ty)*) => {
        $(impl Bits for $int {
            fn swap(&mut self) {
                *self = self.swap_bytes();
            }
        })*
    };
}

bits!(u8 i8 u16 i16 u32 i32 u64 i64);

impl Bits for f32 {
    fn swap(&mut self) {
        *self = Self::from_bits(self.to_bits().swap_bytes());
    }
}

impl Bits for f64 {
    fn swap(&mut self) {
        *self = Self::from_bits(self.to_bits().swap_bytes());
    }
}
