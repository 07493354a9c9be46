//! The scale of a network's inputs, as the preparation of its images tells it.

use campana_calibrate::InputScale;

use crate::Preprocessing;

/// The scale of synthetic images for a network whose images are prepared so.
pub fn input_scale(preprocessing: &Preprocessing) -> InputScale {
    let channels = preprocessing.channel_count();
    InputScale::Normalized {
        mean: preprocessing.mean[..channels].to_vec(),
        std: preprocessing.std[..channels].to_vec(),
    }
}
