//! Models from nothing: a small decoder of the Llama family with random weights, as a Hugging Face folder that every command
//! and every other program loads.
//!
//! Weights begin as in GPT-2 (Radford et al. 2019, section 2.3): normal with a deviation of 0.02, the projections back into the
//! residual stream divided by the root of their number. The tokenizer is a BPE trained on the run's own text, or a given one.

use std::f64::consts::TAU;
use std::path::{Path, PathBuf};

use porism_formats::hf::{HfTensor, HfWriter, MAX_SHARD_BYTES};
use porism_kernels::BlockType;
use porism_text::Tokenizer;
use porism_text::train::{TrainOptions, WordCounts, learn};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Error, Result};

/// The token that ends a text.
const END: &str = "<|endoftext|>";

/// What a model is to be: the keys of its file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scratch {
    /// Blocks.
    pub layers: usize,
    /// Features of the residual stream.
    pub width: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values; 0: as many as of queries.
    pub kv_heads: usize,
    /// Features inside the gated feed-forward network; 0: 8/3 of the width, in 32s (Shazeer 2020).
    pub ffn: usize,
    /// Tokens that it will see at most.
    pub context: usize,
    /// Whether the head is the embedding table.
    pub tied: bool,
    /// The base of RoPE.
    pub rope_theta: f64,
    /// Tokens of the vocabulary that is trained on the text: 256 bytes, one that ends a text, merged ones.
    pub vocab_size: usize,
    /// A tokenizer.json, or a folder with one, instead.
    pub tokenizer: Option<PathBuf>,
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch {
            layers: 4,
            width: 128,
            heads: 4,
            kv_heads: 0,
            ffn: 0,
            context: 256,
            tied: true,
            rope_theta: 10_000.0,
            vocab_size: 512,
            tokenizer: None,
        }
    }
}

impl Scratch {
    /// Reads a model's file.
    ///
    /// # Errors
    /// It cannot be read, a key is unknown (its line is named), or the numbers do not fit each other.
    pub fn read(path: &Path) -> Result<Scratch> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let mut scratch: Scratch = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            Error::Recipe(format!("{}, line {line}: {}", path.display(), error.message().trim()))
        })?;
        // What a file names stands beside it.
        if let (Some(tokenizer), Some(folder)) = (&scratch.tokenizer, path.parent()) {
            scratch.tokenizer = Some(folder.join(tokenizer));
        }
        scratch.checked().map_err(|what| Error::Recipe(format!("{}: {what}", path.display())))
    }

    /// Fills in what follows from the rest.
    fn checked(mut self) -> std::result::Result<Scratch, String> {
        let sizes = [
            ("layers", self.layers, 256),
            ("width", self.width, 16_384),
            ("heads", self.heads, 256),
            ("context", self.context, 1 << 20),
        ];
        for (name, value, most) in sizes {
            if !(1..=most).contains(&value) {
                return Err(format!("{name} is {value}; it is from 1 to {most}"));
            }
        }
        if !self.width.is_multiple_of(2 * self.heads) {
            return Err(format!(
                "a width of {} cannot be shared by {} heads in pairs of features, which RoPE turns: make it a multiple of {}",
                self.width,
                self.heads,
                2 * self.heads
            ));
        }
        if self.kv_heads == 0 {
            self.kv_heads = self.heads;
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(format!("{} heads of queries cannot share {} heads of keys", self.heads, self.kv_heads));
        }
        if self.ffn == 0 {
            self.ffn = (self.width * 8 / 3).next_multiple_of(32);
        }
        if self.ffn > 1 << 17 {
            return Err(format!("ffn is {}; it is at most {}", self.ffn, 1 << 17));
        }
        if !(self.rope_theta.is_finite() && self.rope_theta >= 1.0) {
            return Err(format!("rope_theta is {}; it is 1 or more", self.rope_theta));
        }
        Ok(self)
    }

    /// The tensors: name, shape, and the deviation of its numbers (`None`: all ones).
    fn tensors(&self, vocab: usize) -> Vec<(String, Vec<usize>, Option<f64>)> {
        let (width, inner) = (self.width, self.width / self.heads);
        let plain = Some(0.02);
        let back = Some(0.02 / ((2 * self.layers) as f64).sqrt());
        let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![vocab, width], plain)];
        for i in 0..self.layers {
            let mut add = |name: &str, shape: &[usize], deviation| {
                tensors.push((format!("model.layers.{i}.{name}.weight"), shape.to_vec(), deviation));
            };
            add("input_layernorm", &[width], None);
            add("self_attn.q_proj", &[width, width], plain);
            add("self_attn.k_proj", &[self.kv_heads * inner, width], plain);
            add("self_attn.v_proj", &[self.kv_heads * inner, width], plain);
            add("self_attn.o_proj", &[width, width], back);
            add("post_attention_layernorm", &[width], None);
            add("mlp.gate_proj", &[self.ffn, width], plain);
            add("mlp.up_proj", &[self.ffn, width], plain);
            add("mlp.down_proj", &[width, self.ffn], back);
        }
        tensors.push(("model.norm.weight".into(), vec![width], None));
        if !self.tied {
            tensors.push(("lm_head.weight".into(), vec![vocab, width], plain));
        }
        tensors
    }

    fn config(&self, vocab: usize, end: Option<u32>) -> Value {
        json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.width,
            "intermediate_size": self.ffn,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.width / self.heads,
            "hidden_act": "silu",
            "max_position_embeddings": self.context,
            "rms_norm_eps": 1e-5,
            "rope_theta": self.rope_theta,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
            "tie_word_embeddings": self.tied,
            "attention_bias": false,
            "mlp_bias": false,
            "vocab_size": vocab,
            "bos_token_id": end,
            "eos_token_id": end,
            "dtype": "float32",
            "torch_dtype": "float32",
        })
    }

    /// Writes the model with random weights; a vocabulary that is not given is learned from the text in `data`. Gives the number
    /// of its weights.
    ///
    /// # Errors
    /// The text or the tokenizer cannot be read, or the folder cannot be written; it exists already.
    pub fn create(&self, data: &Path, out: &Path, seed: u64) -> Result<usize> {
        let words = self.vocabulary(data)?;
        let tensors = self.tensors(words.size);
        let described: Vec<HfTensor> = tensors
            .iter()
            .map(|(name, shape, _)| HfTensor { name: name.clone(), shape: shape.clone(), block: BlockType::F32 })
            .collect();
        let mut writer = HfWriter::create(out, &described, MAX_SHARD_BYTES)?;
        let config = serde_json::to_vec_pretty(&self.config(words.size, words.end)).unwrap_or_default();
        writer.write_file("config.json", &config)?;
        for (name, bytes) in &words.files {
            writer.write_file(name, bytes)?;
        }
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut total = 0;
        for (name, shape, deviation) in &tensors {
            let count: usize = shape.iter().product();
            total += count;
            let bytes: Vec<u8> = match deviation {
                None => 1.0f32.to_le_bytes().repeat(count),
                Some(deviation) => {
                    (0..count).flat_map(|_| ((normal(&mut random) * deviation) as f32).to_le_bytes()).collect()
                }
            };
            writer.write(name, &bytes)?;
        }
        writer.commit()?;
        Ok(total)
    }

    fn vocabulary(&self, data: &Path) -> Result<Words> {
        if let Some(path) = &self.tokenizer {
            return given(path);
        }
        let mut words = WordCounts::new(false);
        let file = std::fs::File::open(data).map_err(Error::io("read", data))?;
        words.read(&data.display().to_string(), file, &mut |_| {})?;
        let options = TrainOptions { vocab_size: self.vocab_size, min_frequency: 2, special: vec![END.into()] };
        let trained = learn(&words, &options, &mut |_, _| {})?;
        let source = trained.source();
        let json = |value: &Value| serde_json::to_vec_pretty(value).unwrap_or_default();
        let files = vec![
            ("tokenizer.json", json(&source.to_tokenizer_json()?)),
            ("tokenizer_config.json", json(&source.to_tokenizer_config())),
        ];
        Ok(Words { size: trained.tokens().len(), end: Some(0), files })
    }
}

/// A vocabulary as files.
struct Words {
    size: usize,
    end: Option<u32>,
    files: Vec<(&'static str, Vec<u8>)>,
}

/// The files of a tokenizer that is there.
fn given(path: &Path) -> Result<Words> {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new(".")) };
    let tokenizer = Tokenizer::from_hf(folder)?;
    let mut files = Vec::new();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        let file = folder.join(name);
        if file.is_file() {
            files.push((name, std::fs::read(&file).map_err(Error::io("read", &file))?));
        }
    }
    Ok(Words { size: tokenizer.vocab_size(), end: tokenizer.eos(), files })
}

/// A standard normal number (Box and Muller 1958).
fn normal(random: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
    radius * (TAU * random.random::<f64>()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_is_filled_in() {
        let scratch = Scratch { width: 96, heads: 6, ..Scratch::default() }.checked().unwrap();
        assert_eq!((scratch.kv_heads, scratch.ffn), (6, 256));
    }

    #[test]
    fn numbers_that_do_not_fit_are_named() {
        let table = [
            (Scratch { width: 100, heads: 8, ..Scratch::default() }, "a width of 100"),
            (Scratch { layers: 0, ..Scratch::default() }, "layers is 0"),
            (Scratch { heads: 4, kv_heads: 3, ..Scratch::default() }, "cannot share 3"),
            (Scratch { rope_theta: f64::NAN, ..Scratch::default() }, "rope_theta"),
        ];
        for (scratch, words) in table {
            let what = scratch.checked().unwrap_err();
            assert!(what.contains(words), "{what}");
        }
    }

    #[test]
    fn random_numbers_are_normal() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let numbers: Vec<f64> = (0..40_000).map(|_| normal(&mut random)).collect();
        let n = numbers.len() as f64;
        let moment = |k: i32| numbers.iter().map(|v| v.powi(k)).sum::<f64>() / n;
        assert!(moment(1).abs() < 0.02 && (moment(2) - 1.0).abs() < 0.03 && (moment(4) - 3.0).abs() < 0.2);
    }
}
