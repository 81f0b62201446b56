//! RoPE and what stretches it beyond the context that a model was trained with.
//!
//! Every way is a rule for the frequencies, with a temperature on attention in some: linear position
//! interpolation (Chen et al. 2023), NTK-aware (bloc97 2023), its dynamic form, YaRN (Peng et al. 2023), Llama 3's
//! and longrope (Ding et al. 2024). The numbers are those of transformers' `modeling_rope_utils`.

use std::f64::consts::TAU;

use porism_kernels::rope::inverse_frequencies;

/// A rotary embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeSpec {
    /// The base.
    pub theta: f32,
    /// Features of a head that turn.
    pub rotary_dim: usize,
    /// How it is stretched.
    pub scaling: RopeScaling,
}

/// How a rotary embedding is stretched.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// It is not.
    None,
    /// All frequencies divided by one factor.
    Linear {
        /// The factor.
        factor: f32,
    },
    /// The base multiplied by `factor^(d / (d - 2))`: the lowest frequency is divided by the factor, the highest stays.
    Ntk {
        /// The factor.
        factor: f32,
    },
    /// NTK with a base that follows the length of the text, from the context of training on.
    Dynamic {
        /// The factor.
        factor: f32,
        /// The context of training.
        original: usize,
    },
    /// High frequencies stay, low ones are divided by the factor, with a ramp between (YaRN, section 3.2).
    Yarn(Yarn),
    /// Llama 3.1's rule: as YaRN's, with the ramp over wavelengths.
    Llama3 {
        /// The factor.
        factor: f32,
        /// Wavelengths above `original / low` are stretched.
        low: f32,
        /// Wavelengths below `original / high` stay.
        high: f32,
        /// The context of training.
        original: usize,
    },
    /// A divisor for each frequency, one list for texts within the context of training, one beyond.
    LongRope {
        /// Within.
        short: Vec<f32>,
        /// Beyond.
        long: Vec<f32>,
        /// The context of training.
        original: usize,
        /// Factor on sines and cosines.
        attention_factor: f32,
    },
    /// A divisor for each frequency (`rope_freqs` of GGUF files: Llama 3's rule, evaluated).
    Divisors(Vec<f32>),
}

/// The numbers of YaRN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Yarn {
    /// How much longer the context becomes.
    pub factor: f32,
    /// The context of training.
    pub original: usize,
    /// Turns within the original context above which a frequency stays.
    pub beta_fast: f32,
    /// Turns within the original context below which it is divided by the factor.
    pub beta_slow: f32,
    /// Factor on sines and cosines: the root of the attention temperature's inverse.
    pub attention_factor: f32,
    /// Whether the ramp's ends are whole numbers.
    pub truncate: bool,
}

impl Yarn {
    /// The paper's defaults for a factor.
    pub fn new(factor: f32, original: usize) -> Yarn {
        let attention_factor = Yarn::temperature(factor, 1.0);
        Yarn { factor, original, beta_fast: 32.0, beta_slow: 1.0, attention_factor, truncate: true }
    }

    /// `0.1 * m * ln(factor) + 1` (YaRN, equation 22).
    pub fn temperature(factor: f32, m: f32) -> f32 {
        if factor <= 1.0 { 1.0 } else { (0.1 * f64::from(m) * f64::from(factor).ln() + 1.0) as f32 }
    }
}

impl RopeScaling {
    /// The name of its kind, as in files and flags.
    pub const fn name(&self) -> &'static str {
        match self {
            RopeScaling::None => "none",
            RopeScaling::Linear { .. } => "linear",
            RopeScaling::Ntk { .. } => "ntk",
            RopeScaling::Dynamic { .. } => "dynamic",
            RopeScaling::Yarn(_) => "yarn",
            RopeScaling::Llama3 { .. } => "llama3",
            RopeScaling::LongRope { .. } => "longrope",
            RopeScaling::Divisors(_) => "a divisor for each frequency",
        }
    }

    /// The context of training, where the kind has one of its own.
    pub fn original(&self) -> Option<usize> {
        match self {
            RopeScaling::Dynamic { original, .. }
            | RopeScaling::Llama3 { original, .. }
            | RopeScaling::LongRope { original, .. } => Some(*original),
            RopeScaling::Yarn(yarn) => Some(yarn.original),
            _ => None,
        }
    }
}

impl RopeSpec {
    /// Radians a position for each pair of features, and the factor on sines and cosines, for texts of at most
    /// `length` tokens (which only dynamic NTK and longrope look at).
    pub fn frequencies(&self, length: usize) -> (Vec<f32>, f32) {
        let d = self.rotary_dim;
        let plain = || inverse_frequencies(self.theta, d);
        match &self.scaling {
            RopeScaling::None => (plain(), 1.0),
            RopeScaling::Linear { factor } => (plain().iter().map(|f| f / factor).collect(), 1.0),
            RopeScaling::Ntk { factor } => (self.stretched_base(f64::from(*factor)), 1.0),
            RopeScaling::Dynamic { factor, original } => {
                let (factor, original) = (f64::from(*factor), *original as f64);
                let length = (length as f64).max(original);
                (self.stretched_base(factor * length / original - (factor - 1.0)), 1.0)
            }
            RopeScaling::Yarn(yarn) => (self.yarn(yarn), yarn.attention_factor),
            RopeScaling::Llama3 { factor, low, high, original } => {
                let (low, high, original) = (f64::from(*low), f64::from(*high), *original as f64);
                let scaled = |f: &f32| {
                    let turns = original * f64::from(*f) / TAU;
                    let keep = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    (f64::from(*f) * (keep + (1.0 - keep) / f64::from(*factor))) as f32
                };
                (plain().iter().map(scaled).collect(), 1.0)
            }
            RopeScaling::LongRope { short, long, original, attention_factor } => {
                let divisors = if length > *original { long } else { short };
                (plain().iter().zip(divisors).map(|(f, d)| f / d).collect(), *attention_factor)
            }
            RopeScaling::Divisors(divisors) => (plain().iter().zip(divisors).map(|(f, d)| f / d).collect(), 1.0),
        }
    }

    /// Frequencies of the base times `stretch^(d / (d - 2))`.
    fn stretched_base(&self, stretch: f64) -> Vec<f32> {
        let d = self.rotary_dim as f64;
        let theta = f64::from(self.theta) * stretch.powf(d / (d - 2.0));
        (0..self.rotary_dim / 2).map(|i| theta.powf(-2.0 * i as f64 / d) as f32).collect()
    }

    fn yarn(&self, yarn: &Yarn) -> Vec<f32> {
        let (d, base) = (self.rotary_dim as f64, f64::from(self.theta));
        // The (fractional) pair that turns so often within the original context.
        let pair = |turns: f32| d * (yarn.original as f64 / (f64::from(turns) * TAU)).ln() / (2.0 * base.ln());
        let (mut low, mut high) = (pair(yarn.beta_fast), pair(yarn.beta_slow));
        if yarn.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, high) = (low.max(0.0), high.min(d - 1.0));
        // A ramp of no length would divide by zero.
        let high = if high == low { high + 0.001 } else { high };
        inverse_frequencies(self.theta, self.rotary_dim)
            .iter()
            .enumerate()
            .map(|(i, &f)| {
                let stretch = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                (f64::from(f) * (1.0 - stretch + stretch / f64::from(yarn.factor))) as f32
            })
            .collect()
    }
}
