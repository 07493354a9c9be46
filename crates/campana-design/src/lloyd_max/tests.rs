use super::*;
use crate::shared::reference_json;

/// Largest relative error of levels, thresholds and distortions.
const MAX_TABLE_ERROR: f64 = 1e-12;

fn assert_close(found: f64, expected: f64, what: &str) {
    let error = (found - expected).abs();
    assert!(
        error <= MAX_TABLE_ERROR * expected.abs(),
        "{what}: {found} for {expected}"
    );
}

#[test]
fn four_gaussian_levels_are_those_of_max() {
    let table = table(Family::Gaussian, 2);
    assert_close(table.levels[2], 0.452_780_034_636_492, "inner level");
    assert_close(table.levels[3], 1.510_417_608_499_095_4, "outer level");
    assert_close(table.thresholds[2], 0.981_598_821_567_793_7, "threshold");
    assert_close(table.mse, 0.117_481_847_829_329_29, "mse");
}

#[test]
fn outermost_values_of_every_width_equal_the_solution_in_50_digits() {
    // Highest level, lowest positive level, MSE; both families, 1 to 8 bits.
    for (family, bits, highest, lowest, mse) in REFERENCE {
        let table = table(family, bits);
        assert_close(table.clip().1, highest, "highest level");
        assert_close(
            table.levels[1 << (bits - 1)],
            lowest,
            "lowest positive level",
        );
        assert_close(table.mse, mse, "mse");
    }
}

#[test]
fn every_value_equals_the_shared_reference() {
    let Some(reference) = reference_json("lloyd_max_reference.json") else {
        return;
    };
    let number = |value: &serde_json::Value| -> f64 {
        value
            .as_str()
            .expect("a decimal number")
            .parse()
            .expect("a decimal number")
    };
    for entry in reference.as_array().expect("a list of tables") {
        let family = entry["family"]
            .as_str()
            .expect("a name")
            .parse()
            .expect("a family");
        let bits = entry["bits"].as_u64().expect("a width") as u8;
        let table = table(family, bits);
        let half = 1usize << (bits - 1);
        assert_eq!(
            (table.levels.len(), table.thresholds.len()),
            (2 * half, 2 * half - 1)
        );
        for i in 0..half {
            let level = number(&entry["levels_pos"][i]);
            assert_close(table.levels[half + i], level, "level");
            assert_close(table.levels[half - 1 - i], -level, "mirrored level");
            let threshold = number(&entry["thresholds_pos"][i]);
            assert_close(table.thresholds[half - 1 + i], threshold, "threshold");
            assert_close(
                table.thresholds[half - 1 - i],
                -threshold,
                "mirrored threshold",
            );
        }
        assert_close(table.mse, number(&entry["mse"]), "mse");
        assert_close(
            table.entropy_bits,
            number(&entry["output_entropy_bits"]),
            "entropy",
        );
    }
}

#[test]
fn the_two_distortions_add_up_and_fall_with_every_bit() {
    for family in Family::ALL {
        let tables = (1..=MAX_BITS)
            .map(|bits| table(family, bits))
            .collect::<Vec<_>>();
        for pair in tables.windows(2) {
            assert!(pair[1].mse < 0.4 * pair[0].mse);
            assert!(pair[1].overload_mse < pair[0].overload_mse);
        }
        // Highest of two levels: the overload is the second moment of the
        // density beyond it.
        for table in tables {
            assert_eq!(table.mse, table.granular_mse + table.overload_mse);
        }
    }
    let highest = std::f64::consts::FRAC_1_SQRT_2;
    let laplace = table(Family::Laplace, 1);
    assert_close(
        laplace.overload_mse,
        (-std::f64::consts::SQRT_2 * highest).exp(),
        "overload",
    );
}

#[test]
#[should_panic(expected = "bits must be 1 to 8, not 9")]
fn nine_bits_are_refused() {
    table(Family::Gaussian, 9);
}

/// First digits of values solved in 50-digit arithmetic by Newton's method on
/// the levels, to a residual of 1e-49.
#[rustfmt::skip]
#[expect(
    clippy::excessive_precision,
    clippy::approx_constant,
    reason = "digits as the solution gives them"
)]
const REFERENCE: [(Family, u8, f64, f64, f64); 16] = [
    (Family::Gaussian, 1, 0.797_884_560_802_865_35, 0.797_884_560_802_865_35, 0.363_380_227_632_418_65),
    (Family::Gaussian, 2, 1.510_417_608_499_095_4, 0.452_780_034_636_492_00, 0.117_481_847_829_329_28),
    (Family::Gaussian, 3, 2.151_945_704_536_987_2, 0.245_094_178_944_221_66, 0.034_547_760_788_503_730),
    (Family::Gaussian, 4, 2.732_589_570_995_163_0, 0.128_395_029_851_147_01, 0.009_501_008_008_191_886_1),
    (Family::Gaussian, 5, 3.260_732_493_401_400_5, 0.065_889_659_770_822_556, 0.002_504_668_355_674_799_1),
    (Family::Gaussian, 6, 3.744_101_270_895_344_8, 0.033_409_506_370_100_741, 0.000_644_239_665_317_262_27),
    (Family::Gaussian, 7, 4.189_694_156_733_377_5, 0.016_828_169_457_257_335, 0.000_163_478_229_980_236_79),
    (Family::Gaussian, 8, 4.603_535_612_430_343_8, 0.008_446_193_222_756_294_8, 0.000_041_185_082_867_117_485),
    (Family::Laplace, 1, 0.707_106_781_186_547_52, 0.707_106_781_186_547_52, 0.5),
    (Family::Laplace, 2, 1.833_969_302_124_253_8, 0.419_755_739_751_158_81, 0.176_194_881_054_042_57),
    (Family::Laplace, 3, 3.086_686_818_243_864_1, 0.233_400_916_694_750_46, 0.054_475_987_913_949_844),
    (Family::Laplace, 4, 4.431_071_804_830_494_9, 0.123_985_995_418_306_89, 0.015_372_527_059_868_418),
    (Family::Laplace, 5, 5.832_979_808_329_313_0, 0.064_048_262_955_620_282, 0.004_102_179_987_632_281_3),
    (Family::Laplace, 6, 7.267_556_510_189_823_5, 0.032_572_262_559_372_670, 0.001_060_952_288_236_710_6),
    (Family::Laplace, 7, 8.719_615_881_475_266_1, 0.016_427_835_330_601_509, 0.000_269_873_773_649_359_21),
    (Family::Laplace, 8, 10.180_729_440_503_140, 0.008_249_953_920_031_195_9, 0.000_068_061_739_682_638_096),
];
