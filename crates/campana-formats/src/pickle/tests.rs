use campana_tensor::Limits;

use super::*;

fn read(bytes: &[u8]) -> Result<Pickle> {
    let mut budget = MemoryBudget::new(&Limits::DEFAULT, bytes.len() as u64);
    super::read(&mut &bytes[..], &mut budget)
}

fn fails(bytes: &[u8]) -> String {
    read(bytes).unwrap_err().to_string()
}

#[test]
fn other_names_are_refused_and_shown() {
    let message = fails(b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.");
    assert!(message.contains("`os.system`"), "{message}");
    // The same by the instructions of protocol 4.
    let message = fails(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.");
    assert!(message.contains("`builtins.eval`"), "{message}");
    let message = fails(b"\x80\x02ctorch\nload\n.");
    assert!(message.contains("`torch.load`"), "{message}");
}

#[test]
fn instructions_that_make_objects_are_refused() {
    // NEWOBJ, OBJ, INST.
    for bytes in [&b"\x80\x02))\x81."[..], b"(o.", b"(ios\nsystem\n."] {
        let message = fails(bytes);
        assert!(message.contains("instruction"), "{message}");
    }
}

#[test]
fn no_stack_of_ours_is_used_up() {
    let mut bytes = b"\x80\x02)".to_vec();
    bytes.extend(std::iter::repeat_n(b'\x85', 300_000));
    bytes.push(b'.');
    assert!(read(&bytes).is_ok());
}

/// Asserts that a program which repeats `round` takes more than a megabyte.
fn exceeds(head: &[u8], round: &[u8], rounds: usize) {
    let mut bytes = head.to_vec();
    for _ in 0..rounds {
        bytes.extend_from_slice(round);
    }
    bytes.push(b'.');
    let mut budget = MemoryBudget::new(&Limits::with_max_memory(1 << 20), 0);
    let error = super::read(&mut &bytes[..], &mut budget).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
    assert!(error.to_string().contains("bytes of memory"), "{error}");
}

#[test]
fn what_a_program_makes_is_held_to_the_memory_limit() {
    // Marks; values kept under new numbers; copies of one dict of 1,000.
    exceeds(b"\x80\x02", b"(", 100_000);
    exceeds(b"\x80\x04N", b"\x94", 100_000);
    let mut dict = b"\x80\x02ccollections\nOrderedDict\nq\x000}(".to_vec();
    for number in 0..1_000_u16 {
        dict.push(b'M');
        dict.extend_from_slice(&number.to_le_bytes());
        dict.push(b'N');
    }
    dict.extend_from_slice(b"u\x85q\x010");
    exceeds(&dict, b"h\x00h\x01R0", 100);
    // A string that is made again and again.
    let mut text = b"\x80\x02".to_vec();
    let round = [b"X\xe8\x03\x00\x00".as_slice(), &[b'a'; 1_000], b"0"].concat();
    text.push(b'N');
    exceeds(&text, &round, 1_000);
}

#[test]
fn every_prefix_and_every_other_byte_is_an_error_or_a_value() {
    let bytes = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01K\x01X\x01\x00\x00\x00b](K\x01K\x02eu.";
    assert!(read(bytes).is_ok());
    for len in 0..bytes.len() {
        assert!(read(&bytes[..len]).is_err(), "prefix of {len}");
    }
    for index in 0..bytes.len() {
        for byte in 0..=255 {
            let mut changed = bytes.to_vec();
            changed[index] = byte;
            let _ = read(&changed);
        }
    }
}
