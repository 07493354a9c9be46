use proptest::prelude::*;

use super::*;

fn golden(name: &str) -> RgbImage {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    RgbImage::read(&std::path::Path::new(folder).join(name)).unwrap()
}

fn whole(width: usize, height: usize) -> Region {
    Region {
        left: 0,
        top: 0,
        width,
        height,
    }
}

fn resize(image: &RgbImage, width: usize, height: usize, interpolation: Interpolation) -> RgbImage {
    resize_region(image, width, height, whole(width, height), interpolation)
}

/// A plain cut, what [`resize_region`] must equal without computing the rest.
fn reference_crop(image: &RgbImage, region: Region) -> RgbImage {
    let mut pixels = Vec::new();
    for y in region.top..region.top + region.height {
        let start = (y * image.width() + region.left) * 3;
        pixels.extend_from_slice(&image.pixels()[start..start + region.width * 3]);
    }
    RgbImage::new(region.width, region.height, pixels)
}

#[test]
fn resizing_gives_the_bytes_of_pillow() {
    let scene = golden("scene.png");
    for (name, interpolation) in [
        ("bilinear", Interpolation::Bilinear),
        ("bicubic", Interpolation::Bicubic),
    ] {
        // Smaller, one side alone, larger, one of each.
        for (width, height) in [(23, 18), (61, 20), (30, 47), (90, 70), (5, 100)] {
            let expected = golden(&format!("expected_{name}_{width}x{height}.png"));
            let resized = resize(&scene, width, height, interpolation);
            assert_eq!(resized, expected, "{name} {width}x{height}");
        }
    }
}

#[test]
fn to_its_own_size_a_picture_stays_itself() {
    let scene = golden("scene.png");
    let same = resize(&scene, 61, 47, Interpolation::Bicubic);
    assert_eq!(same, scene);
}

#[test]
fn one_pixel_fills_any_size() {
    let pixel = RgbImage::new(1, 1, vec![3, 2, 1]);
    let filled = resize(&pixel, 4, 3, Interpolation::Bilinear);
    assert_eq!(filled.pixels(), [3, 2, 1].repeat(12));
}

#[test]
#[should_panic(expected = "lies within 4 x 3")]
fn a_region_outside_panics() {
    let pixel = RgbImage::new(1, 1, vec![0; 3]);
    let _ = resize_region(&pixel, 4, 3, whole(5, 3), Interpolation::Bilinear);
}

proptest! {
    #[test]
    fn a_region_is_the_crop_of_the_whole(
        seed in 0u32..1000,
        from in [1usize..40, 1usize..40],
        to in [1usize..40, 1usize..40],
        corner in [0.0f64..1.0, 0.0f64..1.0],
        bicubic in any::<bool>(),
    ) {
        let [width, height] = from;
        let pixels = (0..width * height * 3)
            .map(|i| ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13) as u8)
            .collect();
        let image = RgbImage::new(width, height, pixels);
        let interpolation = if bicubic { Interpolation::Bicubic } else { Interpolation::Bilinear };
        let left = (corner[0] * to[0] as f64) as usize;
        let top = (corner[1] * to[1] as f64) as usize;
        let region = Region { left, top, width: to[0] - left, height: to[1] - top };
        let expected = reference_crop(&resize(&image, to[0], to[1], interpolation), region);
        prop_assert_eq!(resize_region(&image, to[0], to[1], region, interpolation), expected);
    }

    #[test]
    fn a_flat_picture_stays_flat(
        level in any::<u8>(),
        from in [1usize..60, 1usize..60],
        to in [1usize..60, 1usize..60],
    ) {
        let image = RgbImage::new(from[0], from[1], vec![level; from[0] * from[1] * 3]);
        for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic] {
            let resized = resize(&image, to[0], to[1], interpolation);
            prop_assert!(resized.pixels().iter().all(|sample| *sample == level));
        }
    }
}
