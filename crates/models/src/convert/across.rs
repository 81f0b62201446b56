//! What converts from one world to the other, and what the other format cannot say of a model: refused, not dropped.

use super::OutputFormat;
use crate::config::ModelConfig;
use crate::rope::RopeScaling;
use crate::source::ModelSource;
use crate::{Error, Result};

/// What the two formats say of a model in words of their own is written for these alone.
const CONVERTED: [&str; 3] = ["llama", "qwen2", "qwen3"];

/// Refuses what does not convert.
pub(super) fn refuse(source: &ModelSource, config: &ModelConfig, _format: OutputFormat) -> Result<()> {
    let plain = CONVERTED.contains(&config.architecture.as_str())
        && config.moe.is_none()
        && config.layer_specs.iter().all(|l| l.window.is_none() && l.rope == Some(0))
        && config.rope().is_some_and(|r| r.scaling == RopeScaling::None);
    if plain {
        return Ok(());
    }
    Err(Error::Convert(format!(
        "{} is a {} model: this build converts {} models without windows, experts or a stretched rotary embedding",
        source.name(),
        config.architecture,
        CONVERTED.join(", "),
    )))
}
