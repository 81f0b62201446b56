//! What a model's metadata says of its rotary embedding, in either kind of file and in the words of several years.

use porism_formats::hf::JsonFile;

use super::{Facts, numbers};
use crate::Result;
use crate::rope::{RopeScaling, RopeSpec, Yarn};

impl Facts<'_> {
    /// The rotary embedding of heads of `head_dim` features.
    pub fn rope(&self, head_dim: usize) -> Result<RopeSpec> {
        match &self.json {
            Some(json) => {
                let parameters = json.find_object("rope_parameters")?;
                let scaling = json.find_object("rope_scaling")?;
                self.rope_of(head_dim, json, parameters.as_ref().or(scaling.as_ref()))
            }
            None => self.gguf_rope(head_dim),
        }
    }

    /// A rotary embedding whose numbers stand in an object of `config.json` (transformers 5), or beside the others.
    pub fn rope_of(&self, head_dim: usize, json: &JsonFile, rope: Option<&JsonFile>) -> Result<RopeSpec> {
        let find = |key: &str| -> Result<Option<f64>> {
            match rope.map(|r| r.find_f64(key)).transpose()?.flatten() {
                Some(v) => Ok(Some(v)),
                None => Ok(json.find_f64(key)?),
            }
        };
        let mut theta = find("rope_theta")?;
        if theta.is_none() {
            theta = json.find_f64("rotary_emb_base")?;
        }
        let part = match find("partial_rotary_factor")? {
            Some(part) => part,
            None => json.find_f64("rope_pct")?.unwrap_or(1.0),
        };
        let rotary_dim = (head_dim as f64 * part) as usize;
        let scaling = match rope {
            None => RopeScaling::None,
            Some(rope) => self.json_scaling(json, rope, rotary_dim)?,
        };
        Ok(RopeSpec { theta: theta.unwrap_or(10_000.0) as f32, rotary_dim, scaling })
    }

    fn json_scaling(&self, json: &JsonFile, rope: &JsonFile, rotary_dim: usize) -> Result<RopeScaling> {
        let kind = rope.find_str("rope_type")?.or(rope.find_str("type")?).unwrap_or("default");
        let number = |key: &str| -> Result<Option<f32>> { Ok(rope.find_f64(key)?.map(|v| v as f32)) };
        let factor = || number("factor")?.ok_or_else(|| self.problem(format!("RoPE scaling {kind} has no factor")));
        let context = json.find_usize("max_position_embeddings")?;
        // The context of training, unless the file says that it is another.
        let mut original = rope.find_usize("original_max_position_embeddings")?;
        if original.is_none() {
            original = json.find_usize("original_max_position_embeddings")?;
        }
        let original = original.or(context).unwrap_or(0);
        Ok(match kind {
            "default" | "mrope" => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor: factor()? },
            "dynamic" => RopeScaling::Dynamic { factor: factor()?, original: context.unwrap_or(original) },
            "yarn" => {
                let factor = factor()?;
                let m = (number("mscale")?, number("mscale_all_dim")?);
                let attention_factor = match (number("attention_factor")?, m) {
                    (Some(given), _) => given,
                    (None, (Some(m), Some(all))) => Yarn::temperature(factor, m) / Yarn::temperature(factor, all),
                    _ => Yarn::temperature(factor, 1.0),
                };
                RopeScaling::Yarn(Yarn {
                    factor,
                    original,
                    beta_fast: number("beta_fast")?.unwrap_or(32.0),
                    beta_slow: number("beta_slow")?.unwrap_or(1.0),
                    attention_factor,
                    truncate: rope.find_bool("truncate")?.unwrap_or(true),
                })
            }
            "llama3" => {
                let need =
                    |key: &str| number(key)?.ok_or_else(|| self.problem(format!("RoPE scaling llama3: no {key}")));
                let (low, high) = (need("low_freq_factor")?, need("high_freq_factor")?);
                RopeScaling::Llama3 { factor: factor()?, low, high, original }
            }
            "longrope" | "su" => {
                let list = |key: &str| -> Result<Vec<f32>> {
                    let list = numbers(rope, key).map_err(|what| self.problem(what))?.unwrap_or_default();
                    if list.len() != rotary_dim / 2 {
                        let (got, pairs) = (list.len(), rotary_dim / 2);
                        return Err(self.problem(format!("{key} has {got} numbers for {pairs} pairs of features")));
                    }
                    Ok(list.iter().map(|&v| v as f32).collect())
                };
                // The stretch is that of the two contexts, where both are known.
                let own = json.find_usize("original_max_position_embeddings")?;
                let stretch = match (own, context) {
                    (Some(own), Some(context)) if own > 0 => context as f64 / own as f64,
                    _ => rope.find_f64("factor")?.unwrap_or(1.0),
                };
                let attention_factor = match number("attention_factor")? {
                    Some(given) => given,
                    None => longrope_temperature(stretch, original),
                };
                RopeScaling::LongRope {
                    short: list("short_factor")?,
                    long: list("long_factor")?,
                    original,
                    attention_factor,
                }
            }
            other => {
                return Err(self.problem(format!(
                    "RoPE scaling is of type \"{other}\"; this build knows default, linear, dynamic, yarn, llama3 and \
                     longrope"
                )));
            }
        })
    }

    fn gguf_rope(&self, head_dim: usize) -> Result<RopeSpec> {
        let rotary_dim = self.usize("rope.dimension_count", "")?.unwrap_or(head_dim);
        let theta = self.f32("rope.freq_base", "")?.unwrap_or(10_000.0);
        let context = self.usize("context_length", "")?.unwrap_or(0);
        let original = self.usize("rope.scaling.original_context_length", "")?.unwrap_or(context);
        let factor = self.f32("rope.scaling.factor", "")?;
        let kind = match self.gguf() {
            Some(gguf) => gguf.find_str(&self.key("rope.scaling.type", ""))?,
            None => None,
        };
        let pairs = |name: &str| -> Result<Option<Vec<f32>>> {
            match self.tensor(name)? {
                Some(list) if list.len() != rotary_dim / 2 => Err(self.problem(format!(
                    "{name} has {} numbers for {} pairs of features",
                    list.len(),
                    rotary_dim / 2
                ))),
                other => Ok(other),
            }
        };
        let long = (pairs("rope_factors_short.weight")?, pairs("rope_factors_long.weight")?);
        let scaling = match (kind, factor, long) {
            (_, _, (Some(short), Some(long))) => {
                let attention_factor = match self.f32("rope.scaling.attn_factor", "")? {
                    Some(given) => given,
                    None if original == 0 => 1.0,
                    None => longrope_temperature(context as f64 / original as f64, original),
                };
                RopeScaling::LongRope { short, long, original, attention_factor }
            }
            (Some("yarn"), Some(factor), _) => {
                let mut yarn = Yarn::new(factor, original);
                if let Some(given) = self.f32("rope.scaling.attn_factor", "")? {
                    yarn.attention_factor *= given;
                }
                yarn.beta_fast = self.f32("rope.scaling.yarn_beta_fast", "")?.unwrap_or(yarn.beta_fast);
                yarn.beta_slow = self.f32("rope.scaling.yarn_beta_slow", "")?.unwrap_or(yarn.beta_slow);
                RopeScaling::Yarn(yarn)
            }
            (Some("linear") | None, Some(factor), _) if factor != 1.0 => RopeScaling::Linear { factor },
            (Some("none" | "linear" | "longrope") | None, ..) => match pairs("rope_freqs.weight")? {
                Some(divisors) => RopeScaling::Divisors(divisors),
                None => match self.f32("rope.scale_linear", "")?.filter(|&f| f != 1.0) {
                    Some(factor) => RopeScaling::Linear { factor },
                    None => RopeScaling::None,
                },
            },
            (Some(other), ..) => {
                return Err(self.problem(format!(
                    "RoPE scaling is of type \"{other}\"; this build knows none, linear, yarn and longrope in GGUF files"
                )));
            }
        };
        Ok(RopeSpec { theta, rotary_dim, scaling })
    }
}

/// `sqrt(1 + ln(stretch) / ln(original))` (longrope, as transformers has it).
fn longrope_temperature(stretch: f64, original: usize) -> f32 {
    if stretch <= 1.0 || original < 2 {
        return 1.0;
    }
    (1.0 + stretch.ln() / (original as f64).ln()).sqrt() as f32
}
