use std::path::PathBuf;

use super::*;
use crate::error::ErrorKind;

/// libjpeg-turbo and zune-jpeg round the inverse DCT alike but for one sample in a hundred.
const MAX_LUMA_ERROR: u8 = 2;
/// zune-jpeg rounds twice where it interpolates subsampled chroma.
const MAX_CHROMA_ERROR: u8 = 5;
/// Of the samples at subsampled chroma, those that may be off by more than 1: see
/// [`RgbImage::decode`].
const MAX_FRACTION_ABOVE_1: f64 = 0.1;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden")).join(name)
}

fn golden_bytes(name: &str) -> Vec<u8> {
    std::fs::read(golden(name)).unwrap()
}

#[test]
fn jpegs_decode_as_pillow_decodes_them() {
    struct Case {
        name: &'static str,
        max_error: u8,
    }
    let cases = [
        ("baseline_420", MAX_CHROMA_ERROR),
        ("progressive_420", MAX_CHROMA_ERROR),
        ("baseline_422", MAX_CHROMA_ERROR),
        ("baseline_444", MAX_LUMA_ERROR),
        ("rotated_444", MAX_LUMA_ERROR),
        ("grey", MAX_LUMA_ERROR),
        ("cmyk", MAX_LUMA_ERROR),
    ]
    .map(|(name, max_error)| Case { name, max_error });
    for Case { name, max_error } in cases {
        let decoded = RgbImage::read(&golden(&format!("{name}.jpg"))).unwrap();
        let expected = RgbImage::read(&golden(&format!("expected_{name}_jpg.png"))).unwrap();
        assert_eq!(
            [decoded.width(), decoded.height()],
            [expected.width(), expected.height()]
        );
        let errors: Vec<u8> = decoded
            .pixels()
            .iter()
            .zip(expected.pixels())
            .map(|(decoded, expected)| decoded.abs_diff(*expected))
            .collect();
        let greatest = errors.iter().max().unwrap();
        assert!(*greatest <= max_error, "{name}: {greatest}");
        let above = errors.iter().filter(|error| **error > 1).count();
        let fraction = above as f64 / errors.len() as f64;
        assert!(fraction <= MAX_FRACTION_ABOVE_1, "{name}: {fraction}");
    }
}

#[test]
fn pngs_decode_to_the_bytes_of_pillow() {
    for name in ["palette", "rgba", "grey", "grey_alpha", "bilevel"] {
        let decoded = RgbImage::read(&golden(&format!("{name}.png"))).unwrap();
        let expected = RgbImage::read(&golden(&format!("expected_{name}_png.png"))).unwrap();
        assert_eq!(decoded, expected, "{name}");
    }
}

/// A PNG of one row of grey samples, 16 bits each.
fn png_of_16_bit_grey(samples: &[u16]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, samples.len() as u32, 1);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Sixteen);
    let data: Vec<u8> = samples.iter().flat_map(|s| s.to_be_bytes()).collect();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&data).unwrap();
    drop(writer);
    bytes
}

#[test]
fn grey_of_16_bits_is_scaled() {
    let bytes = png_of_16_bit_grey(&[0, 0x80ff, 0xffff]);
    let image = RgbImage::decode(&bytes, "x").unwrap();
    assert_eq!(image.pixels(), [0, 0, 0, 128, 128, 128, 255, 255, 255]);
}

#[test]
fn the_signature_counts_not_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("really_a_png.jpg");
    std::fs::copy(golden("grey.png"), &path).unwrap();
    assert!(RgbImage::read(&path).is_ok());
}

#[test]
fn an_empty_file_is_malformed() {
    let error = RgbImage::decode(&[], "cat.jpg").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert_eq!(
        error.to_string(),
        "image cat.jpg: expected a JPEG or PNG, found an empty file"
    );
}

#[test]
fn another_format_is_unsupported() {
    let error = RgbImage::decode(b"GIF89a", "cat.gif").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("[47, 49, 46, 38]"), "{error}");
}

#[test]
fn a_missing_file_is_an_io_error() {
    let error = RgbImage::read(&golden("no_such.jpg")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("no_such.jpg"), "{error}");
}

#[test]
fn a_truncated_picture_is_malformed() {
    for name in ["baseline_420.jpg", "progressive_420.jpg", "grey.png"] {
        let bytes = golden_bytes(name);
        for len in [4, 10, bytes.len() / 2, bytes.len() - 100] {
            let error = RgbImage::decode(&bytes[..len], name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed, "{name} {len}: {error}");
        }
    }
}

/// A scan of each component keeps all coefficients until the last one.
#[test]
fn a_baseline_picture_of_several_scans_is_counted_with_its_coefficients() {
    let mut bytes = golden_bytes("baseline_420.jpg");
    let find = |bytes: &[u8], marker: u8| {
        let mut places = bytes.windows(2);
        places.position(|pair| pair == [0xff, marker]).unwrap()
    };
    let frame = find(&bytes, 0xc0);
    bytes[frame + 5..frame + 9].copy_from_slice(&[0, 0xff, 0xff, 0x2d]);
    let scan = find(&bytes, 0xda);
    let first = [bytes[scan + 5], bytes[scan + 6]];
    let of_one = [&[0xff, 0xda, 0, 8, 1][..], &first, &[0, 0x3f, 0]].concat();
    bytes.splice(scan..scan + 14, of_one);
    let limits = Limits::with_max_memory(100_000_000);
    let error = RgbImage::decode_within(&bytes, "p", &limits).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
}

#[test]
fn a_picture_may_take_the_memory_and_pixels_of_the_limits_alone() {
    for name in ["grey.png", "baseline_420.jpg", "progressive_420.jpg"] {
        let bytes = golden_bytes(name);
        let error = RgbImage::decode_within(&bytes, name, &Limits::with_max_memory(4_000));
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
        assert!(
            error.to_string().contains("4000 bytes of memory"),
            "{error}"
        );
        let limits = Limits {
            max_pixels: 100,
            ..Limits::DEFAULT
        };
        let error = RgbImage::decode_within(&bytes, name, &limits).unwrap_err();
        assert!(error.to_string().contains("at most 100 pixels"), "{error}");
    }
}

#[test]
fn a_picture_that_claims_to_be_enormous_is_refused() {
    let mut bytes = golden_bytes("grey.png");
    // Width and height of IHDR, and its checksum.
    bytes[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    let checksum = reference_crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
    let error = RgbImage::decode(&bytes, "bomb.png").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert_eq!(
        error.to_string(),
        "image bomb.png: 65536 x 65536 pixels, expected at most 178956970 pixels"
    );
}

fn reference_crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn damaged_pictures_are_errors_or_pictures_and_never_panics() {
    for name in [
        "baseline_420.jpg",
        "progressive_420.jpg",
        "cmyk.jpg",
        "palette.png",
        "grey_alpha.png",
    ] {
        let sound = golden_bytes(name);
        for position in 0..sound.len() {
            let mut bytes = sound.clone();
            bytes[position] ^= 1 << (position % 8);
            if let Ok(image) = RgbImage::decode(&bytes, name) {
                assert_eq!(image.pixels().len(), image.width() * image.height() * 3);
            }
        }
    }
}
