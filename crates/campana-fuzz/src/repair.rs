//! Checksums made right again, so that what lies behind them is reached.

/// A container whose last four bytes are the CRC of the others.
pub(crate) fn container(body: &[u8]) -> Vec<u8> {
    [body, &crc32fast::hash(body).to_le_bytes()].concat()
}

/// A PNG whose chunks have the right CRCs, as far as its lengths lead.
pub(crate) fn png(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = 8;
    while let Some(head) = bytes.get(at..at + 8) {
        let len = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(end) = at.checked_add(8 + len).filter(|end| end + 4 <= bytes.len()) else {
            break;
        };
        let crc = crc32fast::hash(&bytes[at + 4..end]);
        bytes[end..end + 4].copy_from_slice(&crc.to_be_bytes());
        at = end + 4;
    }
    bytes
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_png_with_a_changed_byte_is_whole_again() {
        let sound = crate::corpus::png();
        assert_eq!(super::png(&sound), sound);
        let mut changed = sound.clone();
        // The CRC of the header.
        changed[29] ^= 1;
        assert_eq!(super::png(&changed), sound);
    }
}
