//! The key and value cache, as this program's executor keeps it: in pages of 256 entries, the layers with a window
//! no more than that.

use porism_kernels::attention::paged::{KV_BLOCK, PAGE};

use crate::formula::Symbols;
use crate::{Amount, Dimensions, Part, Result, Unit};

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvType {
    /// Four bytes a number.
    F32,
    /// Two bytes a number.
    F16,
    /// Blocks of 32 numbers in 34 bytes.
    Q8_0,
    /// Blocks of 32 numbers in 18 bytes.
    Q4_0,
}

impl KvType {
    /// Every type.
    pub const ALL: [KvType; 4] = [KvType::F32, KvType::F16, KvType::Q8_0, KvType::Q4_0];

    /// The name in flags.
    pub const fn name(self) -> &'static str {
        match self {
            KvType::F32 => "f32",
            KvType::F16 => "f16",
            KvType::Q8_0 => "q8_0",
            KvType::Q4_0 => "q4_0",
        }
    }

    /// Bytes of a number, as a formula's end.
    const fn factor(self) -> &'static str {
        match self {
            KvType::F32 => "4",
            KvType::F16 => "2",
            KvType::Q8_0 => "34 / 32",
            KvType::Q4_0 => "18 / 32",
        }
    }

    /// Whether heads of so many features can be kept.
    pub const fn fits(self, head_dim: u64) -> bool {
        matches!(self, KvType::F32 | KvType::F16) || head_dim.is_multiple_of(KV_BLOCK as u64)
    }
}

/// What a cache is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheShape {
    /// Layers.
    pub layers: u64,
    /// Key and value heads.
    pub kv_heads: u64,
    /// Features a head.
    pub head_dim: u64,
    /// Positions that the windowed layers see.
    pub window: Option<u64>,
    /// Layers with that window.
    pub windowed_layers: u64,
}

/// Rows that a layer with a window keeps beyond it, so that drafts can be taken back.
pub const SLACK: u64 = 64;

impl CacheShape {
    /// The cache of a model.
    pub fn of(d: &Dimensions) -> CacheShape {
        CacheShape {
            layers: d.layers,
            kv_heads: d.kv_heads,
            head_dim: d.head_dim,
            window: d.window.filter(|_| d.windowed_layers > 0),
            windowed_layers: d.windowed_layers,
        }
    }

    fn symbols(&self, tokens: u64) -> Symbols {
        let page = PAGE as u64;
        let kept = |tokens: u64| tokens.div_ceil(page) * page;
        Symbols::new()
            .with("L", self.layers)
            .with("g", self.kv_heads)
            .with("k", self.head_dim)
            .with("n", tokens)
            .with("rows", kept(tokens))
            .with("Lw", self.windowed_layers)
            .with("kept", kept(tokens.min(self.window.unwrap_or(tokens) + SLACK + page)))
    }

    /// Bytes that a token takes.
    ///
    /// # Errors
    /// The numbers are beyond all bounds.
    pub fn per_token(&self, kind: KvType) -> Result<Amount> {
        let formula = format!("2 * L * g * k * {}", kind.factor());
        crate::formula::compute(&formula, &self.symbols(1)).map(|c| c.value)
    }

    /// The formula of the bytes at a number of tokens.
    fn formula(&self, kind: KvType) -> String {
        let factor = kind.factor();
        match self.window {
            None => format!("2 * L * g * k * rows * {factor}"),
            Some(_) if self.windowed_layers == self.layers => format!("2 * L * g * k * kept * {factor}"),
            Some(_) => format!("2 * g * k * ((L - Lw) * rows + Lw * kept) * {factor}"),
        }
    }

    /// Bytes at a number of tokens.
    ///
    /// # Errors
    /// The numbers are beyond all bounds.
    pub fn bytes(&self, kind: KvType, tokens: u64) -> Result<Amount> {
        crate::formula::compute(&self.formula(kind), &self.symbols(tokens)).map(|c| c.value)
    }

    /// A line with the bytes at a number of tokens.
    ///
    /// # Errors
    /// The numbers are beyond all bounds.
    pub fn line(&self, part: &mut Part, key: &str, what: &str, kind: KvType, tokens: u64) -> Result<Amount> {
        part.line(key, what, &self.formula(kind), &self.symbols(tokens), Unit::Bytes)
    }

    /// Lines with the bytes a token and at a number of tokens, for each type that heads can be kept in.
    ///
    /// # Errors
    /// The numbers are beyond all bounds.
    pub fn lines(&self, part: &mut Part, tokens: u64) -> Result<()> {
        for kind in KvType::ALL.into_iter().filter(|kind| kind.fits(self.head_dim)) {
            let name = kind.name();
            let formula = format!("2 * L * g * k * {}", kind.factor());
            part.line(
                &format!("cache_{name}_token"),
                format!("{name}, a token"),
                &formula,
                &self.symbols(tokens),
                Unit::Bytes,
            )?;
            let what = format!("{name}, at {} tokens", crate::units::grouped(tokens.into()));
            self.line(part, &format!("cache_{name}"), &what, kind, tokens)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets;

    #[test]
    fn caches_are_those_of_the_engine() {
        let of = |name: &str| CacheShape::of(&presets::find(name).expect(name));
        let smol = of("smollm2-135m");
        // As `porism inspect` gives them for the model's file.
        let token: Vec<u64> = KvType::ALL.iter().map(|&k| smol.per_token(k).expect("a size").rounded()).collect();
        assert_eq!(token, [46_080, 23_040, 12_240, 6_480]);
        assert_eq!(smol.bytes(KvType::F16, 8192), Ok(Amount::Whole(188_743_680)));
        // Pages are whole.
        assert_eq!(smol.bytes(KvType::F16, 1), smol.bytes(KvType::F16, 256));
        // 3 layers keep all, 15 the window of 512, 64 of slack and the rows of one pass.
        let gemma = of("gemma-3-270m");
        assert_eq!(gemma.bytes(KvType::F16, 32_768), Ok(Amount::Whole((3 * 32_768 + 15 * 1024) * 2 * 256 * 2)));
        let mistral = of("mistral-7b");
        assert_eq!(mistral.bytes(KvType::F16, 1 << 20), Ok(Amount::Whole(32 * 4608 * 2 * 8 * 128 * 2)));
        assert!(!KvType::Q8_0.fits(80) && KvType::F16.fits(80));
    }
}
