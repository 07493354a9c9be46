//! Integers in the order of the floats they stand for.

/// Maps `f32` to integers in the order of [`f32::total_cmp`], so that every
/// interval of floats is an interval of keys that can be halved.
#[inline(always)]
pub(crate) fn key(x: f32) -> u32 {
    let bits = x.to_bits();
    bits ^ (((bits as i32 >> 31) as u32) | 0x8000_0000)
}

/// Inverse of [`key`].
#[inline(always)]
pub(crate) fn from_key(key: u32) -> f32 {
    f32::from_bits(key ^ (((!key as i32 >> 31) as u32) | 0x8000_0000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_keep_the_order_and_can_be_undone(a in any::<u32>(), b in any::<u32>()) {
            let (x, y) = (f32::from_bits(a), f32::from_bits(b));
            prop_assert_eq!(key(x).cmp(&key(y)), x.total_cmp(&y));
            prop_assert_eq!(from_key(key(x)).to_bits(), a);
            prop_assert_eq!(key(from_key(a)), a);
        }
    }
}
