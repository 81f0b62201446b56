//! The dimensions of a decoder: what its costs follow from.

use crate::formula::Symbols;
use crate::{Answer, Error, Result};

/// The feed-forward network of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedForward {
    /// Features between its projections.
    pub width: u64,
    /// Whether there is a gate beside them: three projections, not two.
    pub gated: bool,
}

/// A mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Experts {
    /// Experts of a layer.
    pub count: u64,
    /// Those that work on a token.
    pub used: u64,
    /// Features between the projections of an expert.
    pub width: u64,
    /// Features of the expert that works on every token; 0: there is none.
    pub shared: u64,
    /// Layers with experts; the others have the plain feed-forward network.
    pub layers: u64,
}

/// The norms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Norms {
    /// Norms of the width in a layer: two, or four where branches are normed before and after.
    pub in_layer: u64,
    /// Numbers a feature: a factor, and in LayerNorm a summand too.
    pub numbers: u64,
}

/// What queries and keys are normed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryKeyNorm {
    /// One head's features.
    Head,
    /// All heads' features.
    Row,
}

/// The dimensions of a decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Dimensions {
    /// What it is called.
    pub name: String,
    /// Layers.
    pub layers: u64,
    /// Features of the residual stream.
    pub width: u64,
    /// Query heads.
    pub heads: u64,
    /// Key and value heads.
    pub kv_heads: u64,
    /// Features a head.
    pub head_dim: u64,
    /// The feed-forward network.
    pub ffn: FeedForward,
    /// The mixture of experts, if there is one.
    pub experts: Option<Experts>,
    /// Rows of the embedding table; 0: not counted.
    pub vocab: u64,
    /// Whether the head is the embedding table.
    pub tied: bool,
    /// Positions that it was trained for.
    pub context: Option<u64>,
    /// Rows of a learned table of positions; 0: there is none.
    pub positions: u64,
    /// The norms.
    pub norms: Norms,
    /// Norms of queries and keys.
    pub query_key_norm: Option<QueryKeyNorm>,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Whether the attention's output and the feed-forward network have.
    pub other_bias: bool,
    /// Positions that the windowed layers see.
    pub window: Option<u64>,
    /// Layers with that window.
    pub windowed_layers: u64,
}

/// Beyond these a dimension is a slip; products of three of them fit 64 bits.
const MOST: u64 = 1 << 24;
const MOST_LAYERS: u64 = 1 << 16;
const MOST_TOKENS: u64 = 1 << 28;

impl Dimensions {
    /// Checks that the dimensions make a model.
    ///
    /// # Errors
    /// They do not; the words say which and what to do.
    pub fn checked(self) -> Result<Dimensions> {
        let wrong = |text: String| Err(Error::Dimensions(text));
        let ffn = self.experts.map_or(self.ffn.width, |e| e.width);
        let sizes = [
            (self.layers, "layers"),
            (self.width, "features of width"),
            (self.heads, "attention heads"),
            (self.kv_heads, "key and value heads"),
            (self.head_dim, "features a head"),
            (ffn, "features of the feed-forward network"),
        ];
        for (size, what) in sizes {
            if size == 0 {
                return wrong(format!("0 {what}: a model has at least 1"));
            }
        }
        let tokens = (self.vocab, "tokens in the vocabulary", MOST_TOKENS);
        let layers = (self.layers, "layers", MOST_LAYERS);
        let experts = (self.experts.map_or(0, |e| e.count), "experts", MOST_LAYERS);
        let shared = (self.experts.map_or(0, |e| e.shared), "features of the shared expert", MOST);
        let features = sizes.map(|(size, what)| (size, what, MOST));
        for (size, what, most) in features.into_iter().chain([tokens, layers, experts, shared]) {
            if size > most {
                return wrong(format!("{size} {what}: more than {most} is taken for a slip"));
            }
        }
        let (heads, kv) = (self.heads, self.kv_heads);
        if kv > heads || !heads.is_multiple_of(kv) {
            return wrong(format!(
                "{heads} attention heads do not share {kv} key and value heads evenly: these can be {}",
                divisors(heads)
            ));
        }
        if let Some(e) = self.experts {
            let (count, used) = (e.count, e.used);
            if used == 0 || used > count {
                return wrong(format!("{used} of {count} experts for a token: it has to be from 1 to {count}"));
            }
            if e.layers == 0 || e.layers > self.layers {
                return wrong(format!("experts in {} of {} layers", e.layers, self.layers));
            }
        }
        if self.window == Some(0) {
            return wrong("a window of 0: a token would not even see itself; leave the window out".into());
        }
        Ok(self)
    }

    /// The features of a head of `heads` that together have the width.
    ///
    /// # Errors
    /// The heads do not divide it.
    pub(crate) fn even_heads(width: u64, heads: u64) -> Result<u64> {
        if let Some(size) = [width, heads].into_iter().find(|&size| size > MOST) {
            return Err(Error::Dimensions(format!("{size} features or heads: more than {MOST} is taken for a slip")));
        }
        match width.checked_div(heads) {
            None => Err(Error::Dimensions("0 attention heads: a model has at least 1".into())),
            Some(dim) if dim * heads == width => Ok(dim),
            Some(_) => Err(Error::Dimensions(format!(
                "{heads} attention heads do not divide a width of {width}: choose a multiple of {heads}, such as {}, \
                 or give the features a head",
                width.next_multiple_of(heads)
            ))),
        }
    }

    /// Layers with a plain feed-forward network.
    pub fn plain_layers(&self) -> u64 {
        self.layers - self.experts.map_or(0, |e| e.layers)
    }

    /// Projections of a feed-forward network.
    pub fn ffn_projections(&self) -> u64 {
        if self.ffn.gated { 3 } else { 2 }
    }

    /// The letters that formulas have for the dimensions.
    pub fn symbols(&self) -> Symbols {
        let mut symbols = Symbols::new()
            .with("L", self.layers)
            .with("d", self.width)
            .with("h", self.heads)
            .with("g", self.kv_heads)
            .with("k", self.head_dim)
            .with("f", self.ffn.width)
            .with("V", self.vocab)
            .with("P", self.positions);
        if let Some(e) = self.experts {
            symbols = symbols
                .with("E", e.count)
                .with("top", e.used)
                .with("e", e.width)
                .with("s", e.shared)
                .with("M", e.layers);
        }
        if let Some(window) = self.window {
            symbols.set("W", window);
        }
        symbols
    }

    /// Says in an answer what its letters stand for.
    pub fn give(&self, answer: &mut Answer) {
        answer.give("L", "layers", self.layers);
        answer.give("d", "width", self.width);
        answer.give("h", "heads", self.heads);
        if self.kv_heads != self.heads {
            answer.give("g", "key and value heads", self.kv_heads);
        } else {
            answer.give("g", "key and value heads (as many)", self.kv_heads);
        }
        answer.give("k", "features a head", self.head_dim);
        let gated = if self.ffn.gated { "gated" } else { "plain" };
        if self.plain_layers() > 0 {
            answer.give("f", format!("feed-forward ({gated})"), self.ffn.width);
        }
        if let Some(e) = self.experts {
            answer.give("E", "experts", e.count);
            answer.give("top", "experts a token", e.used);
            answer.give("e", format!("features of an expert ({gated})"), e.width);
            if e.shared > 0 {
                answer.give("s", "features of the shared expert", e.shared);
            }
            if e.layers != self.layers {
                answer.give("M", "layers with experts", e.layers);
            }
        }
        if self.vocab > 0 {
            answer.give("V", "vocabulary", self.vocab);
        }
        if self.positions > 0 {
            answer.give("P", "learned positions", self.positions);
        }
        if let Some(window) = self.window {
            let all = self.windowed_layers == self.layers;
            let of = if all { String::new() } else { format!(" in {} layers", self.windowed_layers) };
            answer.give("W", format!("window{of}"), window);
        }
    }
}

/// The divisors of a number of heads, for messages.
fn divisors(heads: u64) -> String {
    let all: Vec<String> =
        (1..=heads.min(1 << 16)).filter(|n| heads.is_multiple_of(*n)).map(|n| n.to_string()).collect();
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets;

    fn refused(change: impl Fn(&mut Dimensions)) -> String {
        let mut dimensions = presets::find("mixtral-8x7b").expect("a preset");
        change(&mut dimensions);
        dimensions.checked().expect_err("refused").to_string()
    }

    #[test]
    fn dimensions_that_make_no_model_are_refused() {
        assert!(refused(|d| d.layers = 0).contains("0 layers: a model has at least 1"));
        assert!(refused(|d| d.heads = 0).contains("0 attention heads"));
        assert!(refused(|d| d.kv_heads = 5).contains("1, 2, 4, 8, 16, 32"));
        assert!(refused(|d| d.kv_heads = 64).contains("evenly"));
        assert!(refused(|d| d.width = 1 << 40).contains("slip"));
        assert!(refused(|d| d.window = Some(0)).contains("not even see itself"));
        assert!(refused(|d| d.experts.as_mut().expect("experts").used = 9).contains("from 1 to 8"));
        assert!(refused(|d| d.experts.as_mut().expect("experts").layers = 33).contains("33 of 32 layers"));
        let message = Dimensions::even_heads(4097, 12).expect_err("refused").to_string();
        assert!(message.contains("12 attention heads do not divide a width of 4097") && message.contains("4104"));
        assert_eq!(Dimensions::even_heads(4096, 32), Ok(128));
        assert!(Dimensions::even_heads(u64::MAX, 3).expect_err("refused").to_string().contains("slip"));
        assert!(refused(|d| d.layers = 1 << 17).contains("131072 layers"));
        assert!(refused(|d| d.experts.as_mut().expect("experts").count = 1 << 20).contains("1048576 experts"));
        assert!(refused(|d| d.vocab = u64::MAX).contains("in the vocabulary"));
    }
}
