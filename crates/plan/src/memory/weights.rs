//! Bytes of weights: bits alone, and block formats with their scales.

use porism_kernels::BlockType;

use crate::formula::{Symbols, compute};
use crate::{Amount, Answer, Error, Result, Unit};

/// How weights are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightType {
    /// A type of blocks, as GGUF files and bitsandbytes have them.
    Block(BlockType),
    /// nf4 in blocks of 64 with scales of 8 bits, these in blocks of 256 with one of 32 (Dettmers et al. 2023).
    NormalFloat,
}

/// The types that are shown, the largest first.
const SHOWN: [BlockType; 17] = [
    BlockType::F32,
    BlockType::BF16,
    BlockType::Q8_0,
    BlockType::Q6K,
    BlockType::Q5_1,
    BlockType::Q5K,
    BlockType::Q4_1,
    BlockType::Q4K,
    BlockType::Q4_0,
    BlockType::IQ4XS,
    BlockType::Q3K,
    BlockType::IQ3XXS,
    BlockType::Q2K,
    BlockType::IQ2XS,
    BlockType::IQ2XXS,
    BlockType::IQ1M,
    BlockType::IQ1S,
];

/// The types that are shown, by falling size.
pub fn weight_types() -> Vec<WeightType> {
    let mut types: Vec<WeightType> = SHOWN.into_iter().map(WeightType::Block).collect();
    types.push(WeightType::NormalFloat);
    types.sort_by(|a, b| b.bits().total_cmp(&a.bits()));
    types
}

impl WeightType {
    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            WeightType::Block(block) => block.name(),
            WeightType::NormalFloat => "NF4",
        }
    }

    /// The type of a name, upper and lower case alike.
    ///
    /// # Errors
    /// There is none; the error lists the types.
    pub fn named(name: &str) -> Result<WeightType> {
        // nf4 is what its files are: with scales in 8 bits.
        let blocks = || BlockType::ALL.into_iter().filter(|&block| block != BlockType::NF4);
        let known = || blocks().map(WeightType::Block).chain([WeightType::NormalFloat]);
        known().find(|t| t.name().eq_ignore_ascii_case(name)).ok_or_else(|| {
            let names: Vec<&str> = known().map(WeightType::name).collect();
            Error::Range(format!("there is no type of weights `{name}`; there are {}", names.join(", ")))
        })
    }

    /// Bits of a weight, scales included.
    pub fn bits(self) -> f64 {
        match self {
            WeightType::Block(block) => 8.0 * block.block_bytes() as f64 / block.block_len() as f64,
            WeightType::NormalFloat => 4.0 + 8.0 / 64.0 + 32.0 / (64.0 * 256.0),
        }
    }

    /// The formula of the bytes of N weights.
    pub(super) fn formula(self) -> String {
        match self {
            WeightType::Block(block) if block.block_len() == 1 => format!("N * {}", block.block_bytes()),
            WeightType::Block(block) => format!("N * {} / {}", block.block_bytes(), block.block_len()),
            WeightType::NormalFloat => "N * (4 + 8 / 64 + 32 / (64 * 256)) / 8".into(),
        }
    }

    /// Bytes of so many weights.
    ///
    /// # Errors
    /// The number is beyond all bounds.
    pub fn bytes(self, parameters: u64) -> Result<Amount> {
        compute(&self.formula(), &Symbols::new().with("N", parameters)).map(|c| c.value)
    }
}

/// The book's table, "Memory Savings": the name, the key and the bits of a parameter.
pub fn ideal() -> [(&'static str, &'static str, u64); 5] {
    [
        ("fp32", "fp32_ideal", 32),
        ("fp16, bf16", "fp16_ideal", 16),
        ("int8", "int8_ideal", 8),
        ("int4", "int4_ideal", 4),
        ("2 bits", "2bit_ideal", 2),
    ]
}

/// The parts of an answer about weights.
pub(super) fn lines(parameters: u64, ram: Option<u64>, answer: &mut Answer) -> Result<()> {
    let symbols = Symbols::new().with("N", parameters);
    let part = answer.part("weights, their bits alone");
    for (name, key, bits) in ideal() {
        part.line(key, name, &format!("N * {bits} / 8"), &symbols, Unit::Bytes)?;
    }
    let part = answer.part("weights, blocks with their scales");
    for kind in weight_types() {
        let key = format!("weights_{}", kind.name().to_lowercase());
        let what = format!("{}, {} bits", kind.name(), crate::units::plain(kind.bits()));
        part.line(&key, what, &kind.formula(), &symbols, Unit::Bytes)?;
        part.mark(ram);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_their_exact_size() {
        let bits = |name: &str| WeightType::named(name).expect(name).bits();
        assert_eq!(bits("q8_0"), 8.5);
        assert_eq!(bits("Q6_K"), 6.5625);
        assert_eq!(bits("q4_k"), 4.5);
        assert_eq!(bits("IQ1_S"), 1.5625);
        // 0.127 bits of scales, as Dettmers et al. 2023, section 3, has it.
        assert!((bits("nf4") - 4.127).abs() < 1e-3);
        let q4k = WeightType::named("Q4_K").expect("a type");
        assert_eq!(q4k.bytes(256), Ok(Amount::Whole(144)));
        let unknown = WeightType::named("q9").expect_err("unknown").to_string();
        assert!(unknown.contains("Q4_K") && unknown.contains("NF4"), "{unknown}");
        let bits: Vec<f64> = weight_types().iter().map(|t| t.bits()).collect();
        assert!(bits.is_sorted_by(|a, b| a >= b), "{bits:?}");
    }
}
