//! `campana run`: what pictures show.

use anyhow::Result;
use campana_eval::{Network, RgbImage, preprocess, softmax, top};
use campana_pipeline::sidecar;
use serde::Serialize;

use crate::args::{Global, Run};
use crate::printer::{self, percent, say};

/// Labels shown for each picture.
const TOP: usize = 5;

#[derive(Serialize)]
struct Report {
    images: Vec<ImageReport>,
}

#[derive(Serialize)]
struct ImageReport {
    image: String,
    top: Vec<Answer>,
}

#[derive(Serialize)]
struct Answer {
    label: String,
    index: usize,
    probability: f32,
}

pub(crate) fn run(args: &Run, global: &Global) -> Result<()> {
    let sidecar = sidecar(&args.model)?;
    let settings = &sidecar.preprocessing;
    let network = Network::open(&args.model, global.thread_count())?;
    network.check_input(settings)?;
    let mut images = Vec::new();
    for path in &args.images {
        let name = path.display().to_string();
        let input = preprocess(&RgbImage::read(path)?, settings, &name)?;
        let (scores, _) = network.scores(&input, 1, settings)?;
        let probabilities = probabilities(&scores);
        let answers = top(&scores, TOP).into_iter().map(|index| Answer {
            label: sidecar
                .labels
                .get(index)
                .cloned()
                .unwrap_or_else(|| format!("class {index}")),
            index,
            probability: probabilities[index],
        });
        images.push(ImageReport {
            image: name,
            top: answers.collect(),
        });
    }
    if global.json {
        return printer::print_json(&Report { images });
    }
    for image in &images {
        say!("{}", image.image);
        for answer in &image.top {
            say!(
                "  {:>7}  {}",
                percent(answer.probability.into()),
                answer.label
            );
        }
    }
    Ok(())
}

/// Scores as probabilities: as they are where they already sum to 1.
fn probabilities(scores: &[f32]) -> Vec<f32> {
    let sum: f32 = scores.iter().sum();
    let already =
        (sum - 1.0).abs() < 1e-3 && scores.iter().all(|score| (0.0..=1.0).contains(score));
    if already {
        scores.to_vec()
    } else {
        softmax(scores)
    }
}
