//! Writing a folder: what PEFT itself would save.

use std::io::Write;
use std::path::Path;

use porism_kernels::BlockType;
use serde_json::{Map, Value, json};

use super::config::divisor;
use super::pattern::compile;
use super::{CONFIG, PREFIX, PeftAdapter, TENSORS};
use crate::adapter::{LowRankPair, alpha_of, most_common};
use crate::atomic::{self, AtomicFile, folder_of, sync_folder};
use crate::{Error, Result, Weight};

impl PeftAdapter {
    /// Writes a folder, which appears under its name when it is whole. The target must not exist, or be an empty folder.
    ///
    /// # Errors
    /// The adapter cannot be said in PEFT's words (some pairs have magnitudes and some not, a scale of no rank), the target is
    /// used, or the disk refuses.
    pub fn write(&self, target: &Path) -> Result<()> {
        refuse_used(target)?;
        let folder = atomic::temporary_folder()
            .tempdir_in(folder_of(target))
            .map_err(Error::io("create a folder beside", target))?;
        self.write_into(folder.path())?;
        refuse_used(target)?;
        // Renaming replaces an empty folder and fails on one that was filled meanwhile.
        std::fs::rename(folder.path(), target).map_err(Error::io("rename the finished folder to", target))?;
        // What the guard would remove now has another name.
        let _ = folder.keep();
        sync_folder(folder_of(target))
    }

    /// Writes the two files into a folder that is there, each of which appears when it is whole: for callers that rename a
    /// folder with more in it.
    ///
    /// # Errors
    /// As [`PeftAdapter::write`].
    pub fn write_into(&self, folder: &Path) -> Result<()> {
        let unwritable = |problem: String| Error::unwritable(&folder.display().to_string(), problem);
        let config = self.config().map_err(unwritable)?;
        let path = folder.join(TENSORS);
        let mut file = AtomicFile::create(&path)?;
        self.write_tensors(&mut file).map_err(Error::io("write", &path))?;
        file.commit()?;
        let path = folder.join(CONFIG);
        let text = serde_json::to_vec_pretty(&config).map_err(|e| unwritable(format!("the configuration: {e}")))?;
        let mut file = AtomicFile::create(&path)?;
        file.write_all(&text).map_err(Error::io("write", &path))?;
        file.commit()
    }

    /// The configuration: the commonest rank and alpha as such, others by a pattern that is the module's path.
    fn config(&self) -> std::result::Result<Value, String> {
        let dora = self.pairs.iter().any(|p| p.magnitude.is_some());
        for pair in &self.pairs {
            if let Some(problem) = pair.problem() {
                return Err(problem);
            }
            if pair.magnitude.is_some() != dora {
                return Err(format!("some pairs have magnitudes (DoRA) and `{}` has none", pair.name));
            }
        }
        let alpha = |p: &LowRankPair| alpha_of(p.scale, divisor(p.rank(), self.rslora));
        let rank = most_common(self.pairs.iter().map(LowRankPair::rank)).ok_or("there are no low-rank pairs")?;
        let usual = most_common(self.pairs.iter().map(|p| alpha(p).to_bits())).map_or(0.0, f64::from_bits);
        let others = |differs: &dyn Fn(&LowRankPair) -> Option<Value>| {
            let mut others: Vec<(String, Value)> =
                self.pairs.iter().filter_map(|p| Some((p.name.clone(), differs(p)?))).collect();
            others.sort_by(|a, b| a.0.cmp(&b.0));
            others.into_iter().collect::<Map<String, Value>>()
        };
        let ranks = others(&|p| (p.rank() != rank).then(|| json!(p.rank())));
        let alphas = others(&|p| (alpha(p).to_bits() != usual.to_bits()).then(|| number(alpha(p))));
        self.check_patterns(&ranks)?;
        self.check_patterns(&alphas)?;
        let targets: Vec<&str> = match self.target_modules.is_empty() {
            true => self.pairs.iter().map(|p| p.name.as_str()).collect(),
            false => self.target_modules.iter().map(String::as_str).collect(),
        };
        // Sorted, as PEFT sorts them. Keys that later versions added and that say "no" are left out: versions before them
        // refuse what they do not know.
        Ok(json!({
            "alpha_pattern": alphas,
            "auto_mapping": null,
            "base_model_name_or_path": self.base_model,
            "bias": "none",
            "fan_in_fan_out": self.fan_in_fan_out,
            "inference_mode": true,
            "init_lora_weights": true,
            "layer_replication": null,
            "layers_pattern": null,
            "layers_to_transform": null,
            "loftq_config": {},
            "lora_alpha": number(usual),
            "lora_dropout": number_of(self.dropout),
            "megatron_config": null,
            "megatron_core": "megatron.core",
            "modules_to_save": null,
            "peft_type": "LORA",
            "r": rank,
            "rank_pattern": ranks,
            "revision": null,
            "target_modules": targets,
            "task_type": "CAUSAL_LM",
            "use_dora": dora,
            "use_rslora": self.rslora,
        }))
    }

    /// A path is taken as a regular expression: it must fit its own module and no other.
    fn check_patterns(&self, patterns: &Map<String, Value>) -> std::result::Result<(), String> {
        for pattern in patterns.keys() {
            let regex = compile(pattern).map_err(|e| format!("`{pattern}` as a pattern {e}"))?;
            let fits = |p: &&LowRankPair| regex.is_match(&p.name).unwrap_or(true);
            let mut fitting = self.pairs.iter().filter(fits).map(|p| p.name.as_str());
            if fitting.next() != Some(pattern) || fitting.next().is_some() {
                return Err(format!("`{pattern}` as a pattern does not mean that module alone"));
            }
        }
        Ok(())
    }

    /// The safetensors file.
    fn write_tensors(&self, out: &mut impl Write) -> std::io::Result<()> {
        let mut tensors: Vec<(String, Vec<usize>, Weight)> = Vec::new();
        for pair in &self.pairs {
            let (a, b) = match pair.embedding {
                true => ("lora_embedding_A", "lora_embedding_B"),
                false => ("lora_A.weight", "lora_B.weight"),
            };
            let name = |kind: &str| format!("{PREFIX}{}.{kind}", pair.name);
            tensors.push((name(a), vec![pair.a.rows(), pair.a.cols()], dense(&pair.a)?));
            tensors.push((name(b), vec![pair.b.rows(), pair.b.cols()], dense(&pair.b)?));
            if let Some(m) = &pair.magnitude {
                tensors.push((name("lora_magnitude_vector"), vec![m.len()], dense(m)?));
            }
        }
        // Larger elements first, so that all data are aligned to their element.
        tensors.sort_by(|a, b| b.2.block().block_bytes().cmp(&a.2.block().block_bytes()).then(a.0.cmp(&b.0)));
        let mut header = Map::new();
        header.insert("__metadata__".into(), json!({"format": "pt"}));
        let mut end = 0;
        for (name, shape, weight) in &tensors {
            let start = end;
            end += weight.bytes().len();
            let entry = json!({"dtype": weight.block().name(), "shape": shape, "data_offsets": [start, end]});
            header.insert(name.clone(), entry);
        }
        let mut text = Value::Object(header).to_string().into_bytes();
        text.resize(text.len().next_multiple_of(8), b' ');
        out.write_all(&(text.len() as u64).to_le_bytes())?;
        out.write_all(&text)?;
        tensors.iter().try_for_each(|(_, _, weight)| out.write_all(weight.bytes()))
    }
}

/// The weight in a type that safetensors have.
fn dense(weight: &Weight) -> std::io::Result<Weight> {
    match weight.block() {
        BlockType::F32 | BlockType::F16 | BlockType::BF16 => Ok(weight.clone()),
        _ => Weight::from_f32(&weight.to_f32(), weight.rows(), weight.cols()).map_err(std::io::Error::other),
    }
}

/// Whole numbers without a point, as PEFT's own are.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
}

/// A single-precision number with the digits that it was given by.
fn number_of(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, |v| json!(v))
}

fn refuse_used(target: &Path) -> Result<()> {
    let used =
        |what: &str| Err(Error::unwritable(&target.display().to_string(), format!("{what}: choose another name")));
    match std::fs::symlink_metadata(target) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io("open", target)(e)),
        Ok(found) if !found.is_dir() => used("a file of that name exists"),
        Ok(_) => match std::fs::read_dir(target).map_err(Error::io("open", target))?.next() {
            None => Ok(()),
            Some(_) => used("the folder is not empty"),
        },
    }
}
