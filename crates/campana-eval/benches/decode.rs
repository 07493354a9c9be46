//! Pictures a second on one core: decoding, resizing, the whole way to a model's input.
//!
//! Needs the photographs that `CAMPANA_SHARED` names (default: `shared` beside the repository).

use std::hint::black_box;

use campana_eval::{
    BatchOptions, Dataset, Interpolation, Preprocessing, Region, Resize, RgbImage, resize_region,
};
use campana_testing::shared;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const PHOTOGRAPHS: usize = 64;

fn resize(criterion: &mut Criterion) {
    let pixels = (0..500 * 375 * 3)
        .map(|i| ((i * 7919) >> 5) as u8)
        .collect();
    let photograph = RgbImage::new(500, 375, pixels);
    let crop = Region {
        left: 58,
        top: 16,
        width: 224,
        height: 224,
    };
    let mut group = criterion.benchmark_group("resize 500x375 to 341x256, crop 224");
    for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic] {
        group.bench_function(format!("{interpolation:?}"), |bencher| {
            bencher.iter(|| resize_region(black_box(&photograph), 341, 256, crop, interpolation));
        });
    }
    group.finish();
}

fn decode(criterion: &mut Criterion) {
    let folder = shared("data/imagenet_sample1000").expect("photographs");
    let Ok(dataset) = Dataset::open(&folder) else {
        eprintln!("SKIPPED: no photographs in {}", folder.display());
        return;
    };
    let settings = Preprocessing {
        resize: Resize::Short(256),
        ..Preprocessing::new([224, 224], [0.5; 3], [0.5; 3])
    };
    let mut group = criterion.benchmark_group("JPEG of short side 256");
    group.throughput(Throughput::Elements(PHOTOGRAPHS as u64));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            for index in 0..PHOTOGRAPHS {
                black_box(dataset.image(index).unwrap());
            }
        });
    });
    group.bench_function("decode, crop and normalize", |bencher| {
        let options = BatchOptions {
            limit: Some(PHOTOGRAPHS),
            ..BatchOptions::default()
        };
        bencher.iter(|| {
            for batch in dataset.batches(&settings, &options).unwrap() {
                black_box(batch.unwrap());
            }
        });
    });
    group.finish();
}

criterion_group!(benches, resize, decode);
criterion_main!(benches);
