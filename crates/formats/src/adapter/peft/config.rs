//! `adapter_config.json`: the numbers behind the scales, and what is refused.

use serde_json::Value;

use super::pattern::Patterns;
use crate::hf::JsonFile;
use crate::{Error, Result};

/// Ranks beyond this are mistakes: no matrix has more rows.
const MOST_RANK: usize = 1 << 20;

/// Ways to begin that take the first B A out of the base when the adapter is loaded.
const CHANGES_BASE: [&str; 5] = ["pissa", "olora", "corda", "loftq", "lora_ga"];

/// Keys that ask for more than LoRA and DoRA when they are set, and what they ask for.
const REFUSED: [(&str, &str); 11] = [
    ("lora_bias", "gives B a bias"),
    ("modules_to_save", "holds whole modules beside the low-rank pairs"),
    ("trainable_token_indices", "holds rows of the embedding table"),
    ("target_parameters", "adapts parameters that are no module's"),
    ("layer_replication", "runs layers of the base several times"),
    ("alora_invocation_tokens", "sets in behind certain tokens only (aLoRA)"),
    ("use_qalora", "pools the inputs of A (QALoRA)"),
    ("use_bdlora", "has block-diagonal matrices (BD-LoRA)"),
    ("arrow_config", "chooses among several adapters (Arrow)"),
    ("kasa_config", "changes the base when it is loaded (KaSA)"),
    ("monteclora_config", "draws its weights at random (MonteCLoRA)"),
];

/// What is read of a configuration.
pub(super) struct Config {
    pub(super) base_model: Option<String>,
    pub(super) rslora: bool,
    pub(super) dora: bool,
    pub(super) dropout: f32,
    pub(super) fan_in_fan_out: bool,
    /// Names; `None` for a pattern.
    pub(super) target_modules: Option<Vec<String>>,
    rank: usize,
    alpha: f64,
    rank_pattern: Patterns<usize>,
    alpha_pattern: Patterns<f64>,
}

impl Config {
    /// Reads a configuration that is not [refused](refuse) for a file of so many modules.
    pub(super) fn read(json: &JsonFile, modules: usize) -> Result<Config> {
        let on = |key: &str| -> Result<bool> { Ok(json.find_bool(key)?.unwrap_or(false)) };
        let rank = |v: &Value| usize::try_from(v.as_u64()?).ok().filter(|r| (1..=MOST_RANK).contains(r));
        let rank_text = "a rank of 1 or more";
        // PEFT's own defaults stand for keys that are missing.
        let whole = match json.get("r") {
            None => 8,
            Some(value) => rank(value)
                .ok_or_else(|| Error::invalid(json.name(), format!("`r` should be {rank_text}, but is {value}")))?,
        };
        Ok(Config {
            base_model: json.find_str("base_model_name_or_path")?.map(str::to_owned),
            rslora: on("use_rslora")?,
            dora: on("use_dora")?,
            dropout: json.find_f64("lora_dropout")?.unwrap_or(0.0) as f32,
            fan_in_fan_out: on("fan_in_fan_out")?,
            target_modules: names(json.get("target_modules")),
            rank: whole,
            alpha: json.find_f64("lora_alpha")?.unwrap_or(8.0),
            rank_pattern: Patterns::read(json, "rank_pattern", rank_text, modules, rank)?,
            alpha_pattern: Patterns::read(json, "alpha_pattern", "a number", modules, Value::as_f64)?,
        })
    }

    /// The rank of a module's pair.
    pub(super) fn rank_of(&self, module: &str) -> Result<usize> {
        Ok(self.rank_pattern.find(module)?.unwrap_or(self.rank))
    }

    /// The factor on a module's B A.
    pub(super) fn scale_of(&self, module: &str) -> Result<f32> {
        let alpha = self.alpha_pattern.find(module)?.unwrap_or(self.alpha);
        Ok((alpha / divisor(self.rank_of(module)?, self.rslora)) as f32)
    }
}

/// What alpha is divided by.
pub(super) fn divisor(rank: usize, rslora: bool) -> f64 {
    if rslora { (rank as f64).sqrt() } else { rank as f64 }
}

/// A list of names; nothing for a pattern in one string.
fn names(value: Option<&Value>) -> Option<Vec<String>> {
    value?.as_array()?.iter().map(|v| v.as_str().map(str::to_owned)).collect()
}

/// Refuses what is not LoRA or DoRA on modules of an unchanged base.
pub(super) fn refuse(json: &JsonFile) -> Result<()> {
    let invalid = |problem: String| Err(Error::invalid(json.name(), problem));
    match json.find_str("peft_type")? {
        Some("LORA") => {}
        Some(other) => {
            let other = other.chars().take(40).collect::<String>();
            let problem = format!(
                "an adapter of type {} is not read; LORA is, with use_rslora and use_dora",
                other.escape_debug()
            );
            return invalid(problem);
        }
        None => return invalid("there is no `peft_type`: this is no adapter of PEFT".into()),
    }
    match json.find_str("bias")? {
        None | Some("none") => {}
        Some(other) => {
            return invalid(format!(
                "`bias` is \"{}\": adapters that train biases of the base are not read, only \"none\"",
                other.escape_debug()
            ));
        }
    }
    for (key, what) in REFUSED {
        let set = match json.get(key) {
            None | Some(Value::Bool(false)) => false,
            Some(Value::Array(items)) => !items.is_empty(),
            Some(Value::Object(map)) => !map.is_empty(),
            Some(_) => true,
        };
        if set {
            return invalid(format!("`{key}` is set: the adapter {what}, which is not read"));
        }
    }
    let begin = json.get("init_lora_weights").and_then(Value::as_str).unwrap_or_default().to_lowercase();
    if let Some(method) = CHANGES_BASE.iter().find(|m| begin.starts_with(*m)) {
        return invalid(format!(
            "`init_lora_weights` is {method}: PEFT changes the base for such an adapter; save it as an ordinary LoRA \
             (save_pretrained with path_initial_model_for_weight_conversion) and give that"
        ));
    }
    Ok(())
}
