//! Pictures as a network takes them.

use campana_eval::{RgbImage, Sidecar, preprocess};

use crate::Error;

/// A sidecar from its text.
///
/// # Errors
///
/// As [`Sidecar::parse`].
pub fn sidecar_of(text: &str) -> Result<Sidecar, Error> {
    Ok(Sidecar::parse(text, "sidecar")?)
}

/// A PNG or JPEG picture, prepared as a sidecar says.
///
/// # Errors
///
/// Where the picture or the sidecar cannot be read.
pub fn prepare_picture(sidecar: &str, name: &str, bytes: &[u8]) -> Result<Vec<f32>, Error> {
    let image = RgbImage::decode(bytes, name)?;
    Ok(preprocess(
        &image,
        &sidecar_of(sidecar)?.preprocessing,
        name,
    )?)
}

/// Pixels of red, green, blue and opacity, as a canvas gives them, prepared as a
/// sidecar says; opacity is left out.
///
/// # Errors
///
/// Where the sidecar cannot be read, or the pixels are not as many as the sides say.
pub fn prepare_pixels(
    sidecar: &str,
    [width, height]: [usize; 2],
    rgba: &[u8],
) -> Result<Vec<f32>, Error> {
    let pixels = rgba.as_chunks::<4>().0;
    if width == 0 || height == 0 || width.checked_mul(height) != Some(pixels.len()) {
        let found = pixels.len();
        return Err(Error::new(format!(
            "{found} pixels are not {width} x {height}"
        )));
    }
    let rgb = pixels.iter().flat_map(|[r, g, b, _]| [*r, *g, *b]);
    let image = RgbImage::new(width, height, rgb.collect());
    let settings = sidecar_of(sidecar)?.preprocessing;
    Ok(preprocess(&image, &settings, "the picture")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDECAR: &str = r#"{"input": {"size": [1, 2], "mean": [0, 0, 0], "std": [1, 1, 1]}}"#;

    #[test]
    fn pixels_become_planes_of_floats() {
        let pixels = [255, 0, 51, 9, 0, 255, 102, 9];
        let values = prepare_pixels(SIDECAR, [2, 1], &pixels).expect("prepared");
        assert_eq!(values, [1.0, 0.0, 0.0, 1.0, 0.2, 0.4]);
        prepare_pixels(SIDECAR, [3, 1], &pixels).expect_err("too few");
        prepare_pixels("{}", [2, 1], &pixels).expect_err("no sidecar");
    }
}
