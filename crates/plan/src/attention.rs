//! `plan attention`: operations and bytes of attention, and what tiles, windows and shared heads save.

use porism_kernels::attention::paged::PAGE;

use crate::cache::CacheShape;
use crate::formula::Symbols;
use crate::{Answer, Dimensions, Error, Result, Unit};

/// Query rows, times the heads that share a key head, that a tile holds: as this program's kernels have it.
const TILE_ROWS: u64 = 96;

/// What attention is asked about.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// Tokens.
    pub tokens: u64,
    /// Query heads.
    pub heads: u64,
    /// Key and value heads.
    pub kv_heads: u64,
    /// Features a head.
    pub head_dim: u64,
    /// Layers.
    pub layers: u64,
    /// Positions that a token sees.
    pub window: Option<u64>,
    /// Layers with that window.
    pub windowed_layers: u64,
    /// The side of an image and of its patches, where these are the tokens.
    pub image: Option<(u64, u64)>,
    /// The model, for the title.
    pub name: String,
}

impl Attention {
    /// The attention of a model over so many tokens.
    pub fn of(d: &Dimensions, tokens: u64) -> Attention {
        Attention {
            tokens,
            heads: d.heads,
            kv_heads: d.kv_heads,
            head_dim: d.head_dim,
            layers: d.layers,
            window: d.window,
            windowed_layers: if d.window.is_some() { d.windowed_layers } else { 0 },
            image: None,
            name: d.name.clone(),
        }
    }

    /// Checks that the numbers are an attention.
    ///
    /// # Errors
    /// They are not.
    pub fn checked(self) -> Result<Attention> {
        let wrong = |text: String| Err(Error::Dimensions(text));
        for (size, what) in [
            (self.tokens, "tokens"),
            (self.heads, "attention heads"),
            (self.kv_heads, "key and value heads"),
            (self.head_dim, "features a head"),
            (self.layers, "layers"),
            (self.window.unwrap_or(1), "positions in the window"),
        ] {
            if size == 0 || size > 1 << 40 {
                return wrong(format!("{size} {what}: it has to be from 1 to 2^40"));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let (heads, kv) = (self.heads, self.kv_heads);
            return wrong(format!("{heads} attention heads do not share {kv} key and value heads evenly"));
        }
        if let Some((side, patch)) = self.image
            && (patch == 0 || !side.is_multiple_of(patch))
        {
            return wrong(format!("patches of {patch} pixels do not fill an image of {side}: choose a divisor"));
        }
        Ok(self)
    }
}

/// Tokens of a square image that is cut into square patches.
pub fn patches(side: u64, patch: u64) -> u64 {
    side.checked_div(patch).map_or(0, |n| n.saturating_mul(n))
}

/// The answer of `plan attention`.
///
/// # Errors
/// The numbers are no attention.
pub fn answer(attention: &Attention) -> Result<Answer> {
    let a = attention.clone().checked()?;
    let mut answer = Answer::new(format!("attention of {}", a.name));
    answer.give("n", "tokens", a.tokens);
    answer.give("h", "heads", a.heads);
    answer.give("g", "key and value heads", a.kv_heads);
    answer.give("k", "features a head", a.head_dim);
    answer.give("L", "layers", a.layers);
    let mut symbols = Symbols::new()
        .with("n", a.tokens)
        .with("h", a.heads)
        .with("g", a.kv_heads)
        .with("k", a.head_dim)
        .with("L", a.layers)
        .with("tile", TILE_ROWS)
        .with("page", PAGE as u64);
    if let Some(window) = a.window {
        answer.give("W", format!("window, in {} layers", a.windowed_layers), window);
        symbols.set("W", window.min(a.tokens));
    }
    if let Some((side, patch)) = a.image {
        let symbols = Symbols::new().with("side", side).with("patch", patch);
        let part = answer.part("image");
        part.line("patches", "patches, the tokens", "(side / patch)^2", &symbols, Unit::Count(""))?;
    }

    let part = answer.part("one head, all pairs of tokens");
    part.line("qk_flops", "Q K^T", "2 * n^2 * k", &symbols, Unit::Flop)?;
    part.line("av_flops", "A V", "2 * n^2 * k", &symbols, Unit::Flop)?;
    part.line("entries", "entries of the matrix", "n^2", &symbols, Unit::Count(""))?;
    part.line("matrix_f16", "the matrix in f16", "2 * n^2", &symbols, Unit::Bytes)?;
    part.line("causal_share", "of it seen, causal", "(n + 1) / (2 * n)", &symbols, Unit::Percent)?;

    let part = answer.part("all heads and layers");
    part.line("layer_matrix_f16", "matrices of a layer, f16", "h * 2 * n^2", &symbols, Unit::Bytes)?;
    part.line("flops", "both products", "L * h * 4 * n^2 * k", &symbols, Unit::Flop)?;
    part.line("causal_flops", "the same, causal", "L * h * 2 * n * (n + 1) * k", &symbols, Unit::Flop)?;

    let part = answer.part("in tiles, never the whole matrix");
    part.line("tile_bytes", "a tile of scores, f32", "4 * tile * page", &symbols, Unit::Bytes)?;
    part.line("tile_state", "maxima, sums, outputs", "4 * h * n * (k + 2)", &symbols, Unit::Bytes)?;
    let share = "(4 * tile * page + 4 * h * n * (k + 2)) / (h * 2 * n^2)";
    part.line("tile_share", "of the matrices' bytes", share, &symbols, Unit::Percent)?;

    if a.window.is_some() {
        let part = answer.part("with the window");
        part.line("window_share", "of all pairs", "W / n", &symbols, Unit::Percent)?;
        let seen = "(W * n - W * (W - 1) / 2) / (n * (n + 1) / 2)";
        part.line("window_causal_share", "of the causal pairs", seen, &symbols, Unit::Percent)?;
        // The field is of the window itself, however short the text.
        let field = symbols.clone().with("W", a.window.unwrap_or(0)).with("L", a.windowed_layers);
        part.line("receptive_field", "receptive field, L x W", "L * W", &field, Unit::Count("tokens"))?;
    }

    let cache = CacheShape {
        layers: a.layers,
        kv_heads: a.kv_heads,
        head_dim: a.head_dim,
        window: a.window.filter(|_| a.windowed_layers > 0),
        windowed_layers: a.windowed_layers,
    };
    let part = answer.part("key and value cache");
    cache.lines(part, a.tokens)?;
    if a.kv_heads != a.heads {
        part.line("grouped_share", "of a cache of all heads", "g / h", &symbols, Unit::Percent)?;
    }
    notes(&a, &mut answer);
    Ok(answer)
}

fn notes(a: &Attention, answer: &mut Answer) {
    answer.note(format!(
        "a tile is {TILE_ROWS} rows by a page of {PAGE} entries, as this program has it; the cache has whole pages"
    ));
    answer.note("tiles change the memory, not the operations: these stay 4 n^2 k a head");
    if a.window.is_some() {
        answer.note("a layer with a window keeps W rows and 320 more: some slack, and those of one pass");
        answer.note("W / n sets the window against all n^2 pairs; a causal model sees about half of these");
        if a.windowed_layers < a.layers {
            answer.note("the receptive field counts the layers with a window; the others see everything at once");
        }
    }
    if a.tokens == 128_000 {
        answer.note("128K is 128,000 here, as in the book's 16.4 billion entries; 128k is 131,072: 17.2 billion");
    } else if a.tokens == 131_072 {
        answer.note("128k is 131,072 here; the book's 16.4 billion entries are for 128,000");
    }
    if !a.head_dim.is_multiple_of(32) {
        answer.note("q8_0 and q4_0 keep blocks of 32 features: these heads do not fill them");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Amount, presets};

    fn value(answer: &Answer, key: &str) -> f64 {
        answer.find(key).unwrap_or_else(|| panic!("{key}")).value.real()
    }

    #[test]
    fn windows_share_what_is_seen() {
        let mistral = presets::find("mistral-7b").expect("a preset");
        let long = answer(&Attention::of(&mistral, 32_768)).expect("an answer");
        // Counted: row i of n sees min(i + 1, W).
        let (n, w) = (32_768u64, 4096u64);
        let seen: u64 = (0..n).map(|i| (i + 1).min(w)).sum();
        let all: u64 = (0..n).map(|i| i + 1).sum();
        let share = value(&long, "window_causal_share");
        assert!((share - 100.0 * seen as f64 / all as f64).abs() < 1e-9, "{share}");
        // A text that fits into the window sees everything.
        let short = answer(&Attention::of(&mistral, 100)).expect("an answer");
        assert_eq!(value(&short, "window_causal_share"), 100.0);
        assert_eq!(value(&short, "receptive_field"), 131_072.0);
    }

    #[test]
    fn shared_heads_make_the_cache_smaller() {
        let llama = presets::find("llama-2-70b").expect("a preset");
        let answer = answer(&Attention::of(&llama, 4096)).expect("an answer");
        assert_eq!(value(&answer, "grouped_share"), 12.5);
        assert_eq!(answer.find("cache_f16").map(|l| l.value), Some(Amount::Whole(80 * 8 * 128 * 2 * 2 * 4096)));
    }

    #[test]
    fn what_is_no_attention_is_refused() {
        let good = Attention::of(&presets::find("llama-7b").expect("a preset"), 10);
        let refused = |a: Attention| answer(&a).expect_err("refused").to_string();
        assert!(refused(Attention { tokens: 0, ..good.clone() }).contains("0 tokens"));
        assert!(refused(Attention { kv_heads: 3, ..good.clone() }).contains("evenly"));
        assert!(refused(Attention { image: Some((224, 15)), ..good.clone() }).contains("do not fill"));
        assert_eq!(patches(224, 0), 0);
    }
}
