//! Arithmetic of float32 on integers, compared with the processor's own.

use std::path::Path;
use std::process::Command;

/// Compares operations on numbers of many magnitudes, also such that cancel, lie
/// between two floats, or are of very different size. What is below the normal
/// numbers is taken as zero.
const PROGRAM: &str = r#"
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "campana_float.h"

static uint32_t state = 1;

static uint32_t noise(void)
{
    uint32_t high;
    state = state * 1664525u + 1013904223u;
    high = state >> 16;
    state = state * 1664525u + 1013904223u;
    return high << 16 | state >> 16;
}

static uint32_t number(int spread)
{
    const uint32_t exponent = 127 - spread + noise() % (2 * spread + 1);
    const uint32_t mantissa = noise() % 4 ? noise() & 0x7fffff : (noise() & 0x7f) << 16;
    return noise() % 50 ? (noise() & 0x80000000) | exponent << 23 | mantissa : 0;
}

static float as_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static int same(float expected, uint32_t found)
{
    if (fabsf(expected) < 1.17549435e-38f) {
        expected = 0;
    }
    return expected == as_float(found);
}

int main(void)
{
    int i, spreads[3] = {1, 12, 40}, failures = 0;
    for (i = 0; i < 3000000; i++) {
        const int spread = spreads[i % 3];
        const uint32_t a = number(spread), b = number(spread);
        uint32_t c = number(spread);
        const int32_t whole = (int32_t)noise() >> noise() % 32;
        float code;
        if (i % 5 == 0) {
            /* Almost what the product takes away. */
            const float product = -as_float(a) * as_float(b);
            memcpy(&c, &product, 4);
            c += noise() % 3 - 1;
            if ((c >> 23 & 0xff) == 0 || (c >> 23 & 0xff) == 255) {
                c = 0;
            }
        }
        failures += !same(fmaf(as_float(a), as_float(b), as_float(c)), campana_float_fma(a, b, c));
        failures += !same(as_float(a) * as_float(b), campana_float_mul(a, b));
        failures += !same(as_float(a) + as_float(c), campana_float_add(a, c));
        failures += !same((float)whole, campana_float_of_int(whole));
        code = rintf(as_float(a));
        code = code < 3 ? 3 : code > 250 ? 250 : code;
        failures += campana_float_to_code(a, 3, 250) != (int32_t)code;
        code = as_float(a) < -2.5f ? -2.5f : as_float(a) > 6 ? 6 : as_float(a);
        failures += !same(code, campana_float_clamp(a, 0xc0200000, 0x40c00000));
    }
    printf("%d failures\n", failures);
    return failures != 0;
}
"#;

#[test]
fn floats_on_integers_are_the_processors() {
    if Command::new("cc").arg("--version").output().is_err() {
        campana_testing::skipped("no C compiler: float32 on integers is not compared");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [main, program] = ["main.c", "main"].map(|name| folder.path().join(name));
    std::fs::write(&main, PROGRAM).unwrap();
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("c");
    let output = Command::new("cc")
        .args([
            "-std=c99",
            "-O2",
            "-ffp-contract=off",
            "-fsanitize=undefined",
        ])
        .arg("-I")
        .arg(&kernels)
        .arg(&main)
        .arg(kernels.join("campana_float.c"))
        .args(["-lm", "-o"])
        .arg(&program)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let output = Command::new(&program).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(said.trim(), "0 failures");
}
