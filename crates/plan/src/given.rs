//! Dimensions that a person gives, alone or as changes to a model.

use crate::{Dimensions, Error, Experts, FeedForward, Norms, Result};

/// What was given; the rest is the model's, or follows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GivenDimensions {
    /// Layers.
    pub layers: Option<u64>,
    /// Features of the residual stream.
    pub width: Option<u64>,
    /// Query heads.
    pub heads: Option<u64>,
    /// Key and value heads.
    pub kv_heads: Option<u64>,
    /// Features a head.
    pub head_dim: Option<u64>,
    /// Features of the feed-forward network.
    pub ffn: Option<u64>,
    /// Whether the feed-forward network has a gate.
    pub gated: bool,
    /// Rows of the embedding table.
    pub vocab: Option<u64>,
    /// Whether the head is the embedding table.
    pub tied: bool,
    /// Experts of a layer.
    pub experts: Option<u64>,
    /// Experts that work on a token.
    pub experts_used: Option<u64>,
    /// Positions that a layer sees.
    pub window: Option<u64>,
}

impl GivenDimensions {
    /// Whether nothing was given.
    pub fn is_empty(&self) -> bool {
        *self == GivenDimensions::default()
    }

    /// The dimensions of a model of its own: with four times the width in a feed-forward network of two projections,
    /// and one key and value head a query head, where nothing else was given.
    ///
    /// # Errors
    /// Layers, width or heads are missing, or the numbers make no model.
    pub fn alone(&self) -> Result<Dimensions> {
        let missing = [(self.layers, "layers"), (self.width, "width"), (self.heads, "heads")]
            .iter()
            .filter(|(value, _)| value.is_none())
            .map(|(_, name)| *name)
            .collect::<Vec<_>>();
        let (Some(layers), Some(width), Some(heads)) = (self.layers, self.width, self.heads) else {
            return Err(Error::Dimensions(format!(
                "a model's dimensions need at least layers, width and heads; not given: {}",
                missing.join(", ")
            )));
        };
        let bare = Dimensions {
            name: "the given dimensions".into(),
            layers,
            width,
            heads,
            kv_heads: heads,
            head_dim: 0,
            ffn: FeedForward { width: 4 * width.min(1 << 32), gated: false },
            experts: None,
            vocab: 0,
            tied: false,
            context: None,
            positions: 0,
            norms: Norms { in_layer: 2, numbers: 1 },
            query_key_norm: None,
            qkv_bias: false,
            other_bias: false,
            window: None,
            windowed_layers: 0,
        };
        self.applied(bare)
    }

    /// A model with these changes.
    ///
    /// # Errors
    /// The result makes no model.
    pub fn change(&self, model: Dimensions) -> Result<Dimensions> {
        if self.is_empty() {
            return model.checked();
        }
        let name = format!("{}, changed", model.name);
        self.applied(Dimensions { name, ..model })
    }

    fn applied(&self, mut d: Dimensions) -> Result<Dimensions> {
        let (layers, all_windowed) = (d.layers, d.windowed_layers == d.layers);
        let as_many = d.kv_heads == d.heads;
        if self.width.is_some() || self.heads.is_some() {
            d.head_dim = 0;
        }
        let set = |to: &mut u64, from: Option<u64>| *to = from.unwrap_or(*to);
        set(&mut d.layers, self.layers);
        set(&mut d.width, self.width);
        set(&mut d.heads, self.heads);
        d.kv_heads = self.kv_heads.unwrap_or(if as_many { d.heads } else { d.kv_heads });
        set(&mut d.head_dim, self.head_dim);
        if d.head_dim == 0 && self.head_dim.is_none() {
            d.head_dim = Dimensions::even_heads(d.width, d.heads)?;
        }
        set(&mut d.ffn.width, self.ffn);
        d.ffn.gated |= self.gated;
        set(&mut d.vocab, self.vocab);
        d.tied |= self.tied;
        if self.experts.is_some() || self.experts_used.is_some() || d.experts.is_some() {
            let known = d.experts;
            let count = self
                .experts
                .or(known.map(|e| e.count))
                .ok_or_else(|| Error::Dimensions("experts a token need a number of experts: give that too".into()))?;
            d.experts = Some(Experts {
                count,
                used: self.experts_used.or(known.map(|e| e.used)).unwrap_or(2),
                width: self.ffn.unwrap_or(known.map_or(d.ffn.width, |e| e.width)),
                shared: known.map_or(0, |e| e.shared),
                layers: known.filter(|e| e.layers != layers).map_or(d.layers, |e| e.layers),
            });
        }
        if self.window.is_some() {
            (d.window, d.windowed_layers) = (self.window, d.layers);
        } else if all_windowed {
            d.windowed_layers = d.layers;
        }
        d.windowed_layers = d.windowed_layers.min(d.layers);
        d.checked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets;

    #[test]
    fn three_numbers_are_a_model() {
        let given =
            GivenDimensions { layers: Some(32), width: Some(4096), heads: Some(32), ..GivenDimensions::default() };
        let d = given.alone().expect("a model");
        assert_eq!((d.head_dim, d.kv_heads, d.ffn.width, d.ffn.gated), (128, 32, 16_384, false));
        let message = GivenDimensions { layers: Some(3), ..Default::default() }.alone().expect_err("too little");
        assert!(message.to_string().ends_with("not given: width, heads"), "{message}");
        let odd = GivenDimensions { heads: Some(12), width: Some(4097), ..given };
        assert!(odd.alone().expect_err("odd").to_string().contains("do not divide"));
    }

    #[test]
    fn a_model_is_changed_in_one_thing() {
        let mistral = presets::find("mistral-7b").expect("a preset");
        let deeper = GivenDimensions { layers: Some(40), ..Default::default() }.change(mistral.clone()).expect("fine");
        assert_eq!((deeper.layers, deeper.windowed_layers, deeper.head_dim), (40, 40, 128));
        assert_eq!(deeper.name, "mistral-7b, changed");
        let wider = GivenDimensions { heads: Some(64), ..Default::default() }.change(mistral.clone()).expect("fine");
        assert_eq!((wider.head_dim, wider.kv_heads), (64, 8));
        let none = GivenDimensions::default().change(mistral.clone()).expect("fine");
        assert_eq!(none, mistral);
        let mixture =
            GivenDimensions { experts: Some(64), ..Default::default() }.change(mistral).expect("fine").experts;
        assert_eq!(mixture.map(|e| (e.count, e.used, e.width, e.layers)), Some((64, 2, 14_336, 32)));
        let used = GivenDimensions { experts_used: Some(2), ..Default::default() };
        assert!(used.change(presets::find("llama-7b").expect("a preset")).is_err());
    }
}
