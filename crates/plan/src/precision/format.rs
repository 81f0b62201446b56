//! The formats themselves: their parameters, and rounding to them.

use crate::{Error, Result};

/// A format of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A floating-point number of so many exponent and mantissa bits.
    Float {
        /// The name.
        name: &'static str,
        /// Bits of the exponent.
        exponent: u64,
        /// Bits of the mantissa.
        mantissa: u64,
        /// The largest exponent also stands for numbers, but for one pattern.
        finite: bool,
    },
    /// A signed whole number of so many bits times a scale.
    Integer {
        /// The name.
        name: &'static str,
        /// Bits.
        bits: u64,
    },
    /// 16 levels at the quantiles of a normal distribution, times a scale (Dettmers et al. 2023).
    NormalFloat,
}

use Format::{Float, Integer, NormalFloat};

/// All formats.
pub const FORMATS: [Format; 8] = [
    Float { name: "fp32", exponent: 8, mantissa: 23, finite: false },
    Float { name: "fp16", exponent: 5, mantissa: 10, finite: false },
    Float { name: "bf16", exponent: 8, mantissa: 7, finite: false },
    Float { name: "fp8-e4m3", exponent: 4, mantissa: 3, finite: true },
    Float { name: "fp8-e5m2", exponent: 5, mantissa: 2, finite: false },
    Integer { name: "int8", bits: 8 },
    Integer { name: "int4", bits: 4 },
    NormalFloat,
];

impl Format {
    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Float { name, .. } | Integer { name, .. } => name,
            NormalFloat => "nf4",
        }
    }

    /// The formats of a name: `fp8` are two.
    ///
    /// # Errors
    /// There are none; the error lists what there is.
    pub fn named(name: &str) -> Result<Vec<Format>> {
        let wanted = name.to_lowercase();
        let wanted = match wanted.as_str() {
            "f32" => "fp32",
            "f16" => "fp16",
            "bfloat16" => "bf16",
            other => other,
        };
        let found: Vec<Format> = FORMATS
            .into_iter()
            .filter(|f| f.name() == wanted || (wanted == "fp8" && f.name().starts_with("fp8")))
            .collect();
        if found.is_empty() {
            let known: Vec<&str> = FORMATS.iter().map(|f| f.name()).collect();
            return Err(Error::Range(format!("there is no format `{name}`; there are {}", known.join(", "))));
        }
        Ok(found)
    }

    /// A number in this format; of integers and nf4, with the scale that `largest` asks for.
    pub fn round(self, x: f64, largest: f64) -> f64 {
        match self {
            Float { exponent, mantissa, finite, .. } => float(x, exponent as i32, mantissa as i32, finite),
            Integer { bits, .. } => {
                let levels = (2f64.powi(bits as i32 - 1) - 1.0).max(1.0);
                let scale = largest.abs() / levels;
                (x / scale).round_ties_even().clamp(-levels, levels) * scale
            }
            NormalFloat => {
                let near = |level: &f64| (level - x / largest.abs()).abs();
                let best = levels().into_iter().min_by(|a, b| near(a).total_cmp(&near(b)));
                best.unwrap_or(0.0) * largest.abs()
            }
        }
    }
}

/// The largest number of a format; `finite` ones lose one mantissa to NaN, not an exponent.
pub(super) fn most(exponent: i32, mantissa: i32, finite: bool) -> f64 {
    let bias = 2f64.powi(exponent - 1) as i32 - 1;
    match finite {
        true => (2.0 - 2f64.powi(1 - mantissa)) * 2f64.powi(bias + 1),
        false => (2.0 - 2f64.powi(-mantissa)) * 2f64.powi(bias),
    }
}

/// Rounds to the nearest number of a format, ties to even; beyond its range to infinity, or NaN where there is none.
fn float(x: f64, exponent: i32, mantissa: i32, finite: bool) -> f64 {
    if x == 0.0 || !x.is_finite() {
        return x;
    }
    let lowest = 2 - 2f64.powi(exponent - 1) as i32;
    let power = (x.abs().log2().floor() as i32).max(lowest);
    let step = 2f64.powi(power - mantissa);
    let rounded = (x / step).round_ties_even() * step;
    if rounded.abs() <= most(exponent, mantissa, finite) {
        rounded
    } else if finite {
        f64::NAN
    } else {
        f64::INFINITY.copysign(x)
    }
}

/// The 16 levels of nf4: seven below zero, zero, eight above, at evenly spaced quantiles of the normal distribution,
/// the largest scaled to one.
pub fn levels() -> [f64; 16] {
    // The outermost quantile is the middle between those of 1/32 and 1/30 from the end.
    let outer = 1.0 - 0.5 * (1.0 / 32.0 + 1.0 / 30.0);
    let quantile = |steps: f64, i: f64| normal_quantile(outer + (0.5 - outer) * i / steps);
    let largest = normal_quantile(outer);
    let mut levels = [0.0; 16];
    for i in 0..8 {
        levels[15 - i] = quantile(8.0, i as f64) / largest;
    }
    for (i, level) in levels.iter_mut().enumerate().take(7) {
        *level = -quantile(7.0, i as f64) / largest;
    }
    levels
}

/// Where the normal distribution has left a share of its mass behind, by bisection.
fn normal_quantile(share: f64) -> f64 {
    let (mut low, mut high) = (-10.0f64, 10.0f64);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if normal_share(middle) < share { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// The mass of the normal distribution below `x`: its series (Abramowitz and Stegun 26.2.11).
fn normal_share(x: f64) -> f64 {
    if x.abs() > 8.0 {
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
    let (mut term, mut sum) = (x, x);
    for i in 1..200 {
        term *= x * x / f64::from(2 * i + 1);
        sum += term;
    }
    0.5 + sum * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nf4_has_the_published_levels() {
        // Dettmers et al. 2023, appendix E.
        let published = [
            -1.0,
            -0.696_192_8,
            -0.525_073_05,
            -0.394_917_5,
            -0.284_441_38,
            -0.184_773_43,
            -0.091_050_036,
            0.0,
            0.079_580_3,
            0.160_930_2,
            0.246_112_3,
            0.337_915_24,
            0.440_709_83,
            0.562_617,
            0.722_956_84,
            1.0,
        ];
        for (level, want) in levels().into_iter().zip(published) {
            assert!((level - want).abs() < 2e-6, "{level} where {want} is published");
        }
    }

    #[test]
    fn rounding_is_that_of_the_hardware() {
        let bf16 = Format::named("bf16").expect("a format")[0];
        let fp32 = Format::named("fp32").expect("a format")[0];
        for x in [1.0, -2.5, 0.1, 65_504.0, 65_519.9, 65_520.0, 7e4, 1e-5, 6e-8, 2e-8, 3e-8, 1.0009765, 3.3e38, 3.5e38]
        {
            let half = half_of(x);
            let fp16 = Format::named("fp16").expect("a format")[0].round(x, 1.0);
            assert!(fp16 == half, "{x}: {fp16} where {half} is right");
            assert_eq!(fp32.round(x, 1.0), f64::from(x as f32), "{x}");
            assert!(bf16.round(x, 1.0).is_infinite() == (x > 3.4e38), "{x}");
        }
        let e4m3 = Format::named("fp8-e4m3").expect("a format")[0];
        assert_eq!(e4m3.round(448.0, 1.0), 448.0);
        assert_eq!(e4m3.round(460.0, 1.0), 448.0);
        assert!(e4m3.round(500.0, 1.0).is_nan());
        let e5m2 = Format::named("FP8").expect("formats")[1];
        assert_eq!(e5m2.round(57_344.0, 1.0), 57_344.0);
        assert!(e5m2.round(1e6, 1.0).is_infinite());
    }

    /// Halves by the crate that the kernels use.
    fn half_of(x: f64) -> f64 {
        let mut out = [0.0];
        let mut bytes = Vec::new();
        porism_kernels::block::quantize(porism_kernels::BlockType::F16, &[x as f32], &mut bytes).expect("a half");
        porism_kernels::block::dequantize(porism_kernels::BlockType::F16, &bytes, &mut out);
        out[0].into()
    }

    #[test]
    fn scaled_formats_keep_the_largest_number() {
        for name in ["int8", "int4", "nf4"] {
            let format = Format::named(name).expect("a format")[0];
            assert!((format.round(-3.0, 3.0) + 3.0).abs() < 1e-12, "{name}");
            assert_eq!(format.round(0.0, 3.0), 0.0);
        }
        assert_eq!(Format::named("int4").expect("a format")[0].round(0.4, 7.0), 0.0);
    }
}
