//! Which model a plan is about: flags that name or describe it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use porism_hub::Resolved;
use porism_plan::{Dimensions, GivenDimensions, presets, units};

use super::asked;
use super::facts::{Facts, read};
use crate::context::{Context, usage};

/// A model, or dimensions.
#[derive(Args, Clone, Debug)]
pub(super) struct SourceArgs {
    /// A GGUF file, a Hugging Face folder or its config.json, a model of the cache, or a preset such as llama-7b
    #[arg(value_name = "MODEL")]
    model: Option<String>,
    #[command(flatten)]
    dimensions: DimensionArgs,
}

/// Dimensions that stand for a model, or change one.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Dimensions, instead of MODEL or to change it")]
pub(super) struct DimensionArgs {
    /// Layers
    #[arg(long, value_name = "N", value_parser = dimension)]
    pub(super) layers: Option<u64>,
    /// Features of the residual stream
    #[arg(long, value_name = "N", value_parser = dimension)]
    width: Option<u64>,
    /// Query heads
    #[arg(long, value_name = "N", value_parser = dimension)]
    pub(super) heads: Option<u64>,
    /// Key and value heads [default: as many as query heads]
    #[arg(long, value_name = "N", value_parser = dimension)]
    pub(super) kv_heads: Option<u64>,
    /// Features a head [default: the width shared by the heads]
    #[arg(long, value_name = "N", value_parser = dimension)]
    pub(super) head_dim: Option<u64>,
    /// Features of the feed-forward network, or of an expert [default: four times the width]
    #[arg(long, value_name = "N", value_parser = dimension)]
    ffn: Option<u64>,
    /// The feed-forward network has a gate: three projections, not two
    #[arg(long)]
    gated: bool,
    /// Rows of the embedding table [default: not counted]
    #[arg(long, value_name = "N", value_parser = dimension)]
    vocab: Option<u64>,
    /// The head is the embedding table
    #[arg(long)]
    tied: bool,
    /// Experts of a layer
    #[arg(long, value_name = "N", value_parser = dimension)]
    experts: Option<u64>,
    /// Experts that work on a token [default: 2]
    #[arg(long, value_name = "N", value_parser = dimension)]
    experts_used: Option<u64>,
    /// Positions that a layer sees; k is 1024
    #[arg(long, value_name = "N", value_parser = window)]
    pub(super) window: Option<u64>,
}

/// A dimension; whether it makes sense is for the plan to say.
fn dimension(text: &str) -> Result<u64, String> {
    let digits: String = text.chars().filter(|c| !matches!(c, ',' | '_')).collect();
    digits.parse().map_err(|_| format!("`{text}` is no whole number"))
}

/// A window, which may be 0 for the plan to refuse.
fn window(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(0) } else { length(text) }
}

/// A length in tokens.
pub(super) fn length(text: &str) -> Result<u64, String> {
    units::parse_length(text).map_err(|e| e.to_string())
}

/// A size in bytes.
pub(super) fn size(text: &str) -> Result<u64, String> {
    units::parse_bytes(text).map_err(|e| e.to_string())
}

/// A count by thousands.
pub(super) fn count(text: &str) -> Result<u64, String> {
    units::parse_count(text).map_err(|e| e.to_string())
}

/// Operations a second.
pub(super) fn speed(text: &str) -> Result<u64, String> {
    units::parse_speed(text).map_err(|e| e.to_string())
}

/// Bytes a second.
pub(super) fn bandwidth(text: &str) -> Result<u64, String> {
    units::parse_bandwidth(text).map_err(|e| e.to_string())
}

/// A share above 0 and at most 1.
pub(super) fn share(text: &str) -> Result<f64, String> {
    units::parse_share(text).map_err(|e| e.to_string())
}

impl DimensionArgs {
    fn given(&self) -> GivenDimensions {
        GivenDimensions {
            layers: self.layers,
            width: self.width,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            ffn: self.ffn,
            gated: self.gated,
            vocab: self.vocab,
            tied: self.tied,
            experts: self.experts,
            experts_used: self.experts_used,
            window: self.window,
        }
    }
}

impl SourceArgs {
    /// The dimensions by themselves.
    pub(super) fn dimensions(&self) -> &DimensionArgs {
        &self.dimensions
    }

    /// Whether a model was named.
    pub(super) fn is_named(&self) -> bool {
        self.model.is_some()
    }

    /// The model, with what its file says if it is one and nothing was changed.
    pub(super) fn find(&self, context: &Context) -> Result<Facts> {
        let given = self.dimensions.given();
        let Some(name) = &self.model else {
            if given.is_empty() {
                return usage(
                    "no model: name a file, a folder or a preset such as llama-7b, or give --layers, --width and --heads",
                );
            }
            return Ok(Facts::of(asked(given.alone())?));
        };
        let facts = named(name, context)?;
        if given.is_empty() {
            return Ok(facts);
        }
        Ok(Facts::of(asked(given.change(facts.model))?))
    }
}

/// The model of a name.
pub(super) fn named(name: &str, context: &Context) -> Result<Facts> {
    let path = Path::new(name);
    if path.exists() {
        return read(path);
    }
    let unknown = match presets::find(name) {
        Ok(model) => return Ok(Facts::of(model)),
        Err(error) => error,
    };
    match cached(name, context) {
        Some(path) => read(&path),
        None if name.contains(['/', '\\']) || name.ends_with(".gguf") || name.ends_with(".json") => {
            anyhow::bail!("{name}: there is no such file, and no model of that name in the cache")
        }
        None => asked(Err(unknown)),
    }
}

/// A model that is in the cache; nothing is fetched for a plan.
fn cached(name: &str, context: &Context) -> Option<PathBuf> {
    let offline = porism_hub::Network { offline: true, ..context.network.clone() };
    match porism_hub::resolve(name, &context.cache, &offline) {
        Ok(Resolved::Present(path)) => Some(path),
        _ => None,
    }
}

/// The model's context, or a usual one.
pub(super) fn context_of(model: &Dimensions, wanted: Option<u64>) -> u64 {
    wanted.or(model.context).unwrap_or(4096)
}
