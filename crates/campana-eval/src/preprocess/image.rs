//! JPEG and PNG to 8-bit RGB.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use campana_tensor::{Limits, MemoryBudget, MemoryExceeded};
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::error::Error;
use crate::input_file;

/// The most pixels that a picture may declare unless the process's [`Limits`] say otherwise: twice
/// the number at which PIL warns, where it stops.
pub const MAX_IMAGE_PIXELS: usize = Limits::DEFAULT.max_pixels;

/// Bytes a pixel that a JPEG of several scans takes beside its colours while it is decoded: the
/// coefficients of four components, two bytes each.
const COEFFICIENT_BYTES: usize = 8;

/// A picture of 8-bit red, green and blue, rows from the top, three bytes a pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbImage {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl RgbImage {
    /// A picture of the given bytes, `[height, width, 3]`.
    ///
    /// # Panics
    ///
    /// If a side is zero, or the bytes are not `height * width * 3`.
    #[must_use]
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Self {
        assert!(width > 0 && height > 0, "a picture has at least one pixel");
        assert_eq!(
            pixels.len(),
            width * height * 3,
            "three bytes for each of {width} x {height} pixels"
        );
        Self {
            width,
            height,
            pixels,
        }
    }

    /// Reads and decodes a JPEG or PNG file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file cannot be read, otherwise as [`RgbImage::decode`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = input_file::read(path, usize::MAX)?;
        Self::decode(&bytes, &path.display().to_string())
    }

    /// Decodes a JPEG (baseline or progressive, grey, YCbCr, RGB or CMYK) or a PNG, told apart by
    /// their first bytes. `name` stands in the errors.
    ///
    /// The result is what PIL's `open(..).convert("RGB")` gives: alpha is dropped, not blended; an
    /// orientation in EXIF is not applied; a JPEG that ends early is an error. Two differences: at
    /// subsampled chroma, values differ from libjpeg's by at most 2 but for one in 2,000, at most 1
    /// for 93 of 100; and 16-bit grey is scaled to 8 bits where PIL clips it.
    ///
    /// # Errors
    ///
    /// [`Error::MalformedImage`], [`Error::UnsupportedImage`], [`Error::ImageTooLarge`] or
    /// [`Error::ImageMemory`].
    pub fn decode(bytes: &[u8], name: &str) -> Result<Self, Error> {
        Self::decode_within(bytes, name, &Limits::global())
    }

    /// As [`RgbImage::decode`], within these limits rather than the process's.
    ///
    /// # Errors
    ///
    /// As [`RgbImage::decode`].
    pub fn decode_within(bytes: &[u8], name: &str, limits: &Limits) -> Result<Self, Error> {
        guarded(name, || decode_by_signature(bytes, name, limits))
    }

    /// Columns, at least 1.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows, at least 1.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// The bytes, `[height, width, 3]`.
    #[must_use]
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }
}

/// What a decoder gives. The decoders are fuzzed, but a panic of theirs on a damaged picture must
/// not end an evaluation of 50,000.
fn guarded<T>(name: &str, decode: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|_| {
        Err(malformed(
            name,
            "expected a sound picture, found one that its decoder fails on",
        ))
    })
}

fn decode_by_signature(bytes: &[u8], name: &str, limits: &Limits) -> Result<RgbImage, Error> {
    match bytes {
        [] => Err(malformed(
            name,
            "expected a JPEG or PNG, found an empty file",
        )),
        [0xff, 0xd8, ..] => decode_jpeg(bytes, name, limits),
        [0x89, b'P', b'N', b'G', ..] => decode_png(bytes, name, limits),
        _ => Err(Error::UnsupportedImage {
            image: name.to_owned(),
            problem: format!(
                "expected a JPEG or PNG, found a file that begins with {:02x?}",
                &bytes[..bytes.len().min(4)]
            ),
        }),
    }
}

fn decode_jpeg(bytes: &[u8], name: &str, limits: &Limits) -> Result<RgbImage, Error> {
    // Strict, as PIL is: a truncated picture is no picture.
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let explain = |error: DecodeErrors| match error {
        DecodeErrors::Unsupported(feature) => Error::UnsupportedImage {
            image: name.to_owned(),
            problem: format!("expected a baseline or progressive JPEG, found {feature:?}"),
        },
        other => malformed(name, &format!("expected a sound JPEG, found: {other}")),
    };
    let mut decoder = JpegDecoder::new_with_options(Cursor::new(bytes), options);
    decoder.decode_headers().map_err(explain)?;
    let (width, height) = decoder
        .dimensions()
        .ok_or_else(|| malformed(name, "expected a size in the JPEG's header, found none"))?;
    check_size(width, height, name, limits)?;
    let has_several_scans = decoder.info().is_some_and(|info| {
        info.sof.is_progressive() || components_of_first_scan(bytes) != Some(info.components)
    });
    let per_pixel = 3 + if has_several_scans {
        COEFFICIENT_BYTES
    } else {
        0
    };
    MemoryBudget::new(limits, bytes.len() as u64)
        .take(width.saturating_mul(height).saturating_mul(per_pixel))
        .map_err(|exceeded| too_much_memory(name, exceeded))?;
    let pixels = decoder.decode().map_err(explain)?;
    if pixels.len() != width * height * 3 {
        return Err(malformed(
            name,
            &format!(
                "expected {width} x {height} pixels of 3 bytes, found {} bytes",
                pixels.len()
            ),
        ));
    }
    Ok(RgbImage::new(width, height, pixels))
}

/// How many components the first scan of a JPEG has; `None` where there is none.
fn components_of_first_scan(bytes: &[u8]) -> Option<u8> {
    const START_OF_SCAN: u8 = 0xda;
    let mut at = 2;
    loop {
        let segment = bytes.get(at..)?;
        match *segment {
            // Any number of these may come before a marker.
            [0xff, 0xff, ..] => at += 1,
            [0xff, START_OF_SCAN, _, _, components, ..] => return Some(components),
            [0xff, _, high, low, ..] => at += 2 + usize::from(u16::from_be_bytes([high, low])),
            _ => return None,
        }
    }
}

/// The samples of a PNG, row by row.
pub(crate) struct PngSamples {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) color: png::ColorType,
    /// Bits of a sample; those of less than 8 are packed, the first in the high bits.
    pub(crate) depth: usize,
    pub(crate) bytes: Vec<u8>,
}

impl PngSamples {
    /// The samples as they are stored, of grey or palette pictures, within the limits of the
    /// process; `pixel_bytes` are what a pixel will take beside them.
    pub(crate) fn as_stored(bytes: &[u8], name: &str, pixel_bytes: usize) -> Result<Self, Error> {
        let stored = png::Transformations::IDENTITY;
        guarded(name, || {
            Self::read(bytes, name, &Limits::global(), stored, pixel_bytes)
        })
    }

    fn read(
        bytes: &[u8],
        name: &str,
        limits: &Limits,
        transformations: png::Transformations,
        pixel_bytes: usize,
    ) -> Result<Self, Error> {
        let explain = |error: png::DecodingError| match error {
            png::DecodingError::LimitsExceeded => Error::UnsupportedImage {
                image: name.to_owned(),
                problem: "expected a PNG that decodes in little memory, found a larger one"
                    .to_owned(),
            },
            other => malformed(name, &format!("expected a sound PNG, found: {other}")),
        };
        let mut budget = MemoryBudget::new(limits, bytes.len() as u64);
        let own = png::Limits {
            bytes: budget.left().min(png::Limits::default().bytes),
        };
        let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), own);
        decoder.set_transformations(transformations);
        let mut reader = decoder.read_info().map_err(explain)?;
        let (width, height) = (reader.info().width as usize, reader.info().height as usize);
        check_size(width, height, name, limits)?;
        let len_bytes = reader.output_buffer_size().ok_or_else(|| {
            malformed(
                name,
                "expected a PNG that fits in memory, found a larger one",
            )
        })?;
        let pixels_len = width.saturating_mul(height).saturating_mul(pixel_bytes);
        budget
            .take(len_bytes.saturating_add(pixels_len))
            .map_err(|exceeded| too_much_memory(name, exceeded))?;
        let mut decoded = vec![0; len_bytes];
        reader.next_frame(&mut decoded).map_err(explain)?;
        let (color, depth) = reader.output_color_type();
        Ok(Self {
            width,
            height,
            color,
            depth: depth as usize,
            bytes: decoded,
        })
    }
}

fn decode_png(bytes: &[u8], name: &str, limits: &Limits) -> Result<RgbImage, Error> {
    let expanded = png::Transformations::EXPAND | png::Transformations::STRIP_16;
    let decoded = PngSamples::read(bytes, name, limits, expanded, 3)?;
    let samples = decoded.color.samples();
    let pixels = match samples {
        3 => decoded.bytes,
        // Grey and grey with alpha: the first sample, three times.
        1 | 2 => decoded
            .bytes
            .chunks_exact(samples)
            .flat_map(|pixel| [pixel[0]; 3])
            .collect(),
        _ => decoded
            .bytes
            .chunks_exact(samples)
            .flat_map(|pixel| [pixel[0], pixel[1], pixel[2]])
            .collect(),
    };
    Ok(RgbImage::new(decoded.width, decoded.height, pixels))
}

fn check_size(width: usize, height: usize, name: &str, limits: &Limits) -> Result<(), Error> {
    if width == 0 || height == 0 {
        return Err(malformed(
            name,
            &format!("expected at least one pixel, found {width} x {height}"),
        ));
    }
    if width.saturating_mul(height) > limits.max_pixels {
        return Err(Error::ImageTooLarge {
            image: name.to_owned(),
            width,
            height,
            max_pixels: limits.max_pixels,
        });
    }
    Ok(())
}

fn too_much_memory(name: &str, exceeded: MemoryExceeded) -> Error {
    Error::ImageMemory {
        image: name.to_owned(),
        exceeded,
    }
}

fn malformed(name: &str, problem: &str) -> Error {
    Error::MalformedImage {
        image: name.to_owned(),
        problem: problem.to_owned(),
    }
}

#[cfg(test)]
mod tests;
