//! llama.cpp's adapter files: a GGUF file with `general.type` "adapter" and `adapter.type` "lora".
//!
//! The pair of the tensor `blk.0.attn_q.weight` is `blk.0.attn_q.weight.lora_a` (`ne = [in, rank]`: row-major `[rank, in]`)
//! and `.lora_b` (`ne = [rank, out]`); the rows of B are in the GGUF model's order. `token_embd.weight` has A as
//! `[vocabulary, rank]` and B as `[width, rank]`. One `adapter.lora.alpha` serves all: a pair's scale is `alpha / rank`, or 1
//! where alpha is 0. Read in llama.cpp's `llama-adapter.cpp` and `convert_lora_to_gguf.py`.

use std::collections::BTreeMap;
use std::path::Path;

use super::{LowRankPair, alpha_of, most_common};
use crate::gguf::{Gguf, GgufHeader, GgufWriter, TensorInfo};
use crate::{Error, Result, Weight};

const ALPHA: &str = "adapter.lora.alpha";
const INVOCATION: &str = "adapter.alora.invocation_tokens";
const TABLE: &str = "token_embd.weight";

/// A LoRA adapter as llama.cpp keeps it.
#[derive(Clone, Debug, Default)]
pub struct GgufLora {
    /// `general.architecture` of the models that it fits.
    pub architecture: String,
    /// `general.name`.
    pub name: Option<String>,
    /// The pairs; their names are those of the model's tensors (`blk.0.attn_q.weight`).
    pub pairs: Vec<LowRankPair>,
    /// Tensors of the file that were passed over: norms, which llama.cpp passes over too.
    pub ignored: Vec<String>,
}

impl GgufLora {
    /// Opens a file. The weights are views into the mapping, which must not be changed or cut meanwhile.
    ///
    /// # Errors
    /// The file is damaged, is no adapter of this kind, or has incomplete pairs.
    pub fn open(path: &Path) -> Result<GgufLora> {
        GgufLora::read(&Gguf::open(path)?)
    }

    /// Reads an opened file.
    ///
    /// # Errors
    /// As [`GgufLora::open`].
    pub fn read(file: &Gguf) -> Result<GgufLora> {
        let invalid = |problem: String| Error::invalid(file.name(), problem);
        for (key, wanted) in [("general.type", "adapter"), ("adapter.type", "lora")] {
            let found = file.find_str(key)?;
            if found != Some(wanted) {
                let found = found.map_or("missing".into(), |v| format!("\"{}\"", v.escape_debug()));
                return Err(invalid(format!("no LoRA adapter: `{key}` is {found}, not \"{wanted}\"")));
            }
        }
        if file.find_array(INVOCATION)?.is_some_and(|tokens| !tokens.is_empty()) {
            return Err(invalid(format!("`{INVOCATION}` is set: adapters that set in later (aLoRA) are not read")));
        }
        let alpha = file.find_f32(ALPHA)?.unwrap_or(0.0);
        let mut found: BTreeMap<&str, (Option<Weight>, Option<Weight>)> = BTreeMap::new();
        let mut ignored = Vec::new();
        for tensor in file.tensors() {
            let name = tensor.name();
            if let Some(base) = name.strip_suffix(".lora_a") {
                found.entry(base).or_default().0 = Some(matrix(file, tensor)?);
            } else if let Some(base) = name.strip_suffix(".lora_b") {
                found.entry(base).or_default().1 = Some(matrix(file, tensor)?);
            } else if name.ends_with("_norm.weight") {
                ignored.push(name.to_owned());
            } else {
                return Err(invalid(format!("the tensor `{name}` is no part of a LoRA")));
            }
        }
        let mut pairs = Vec::with_capacity(found.len());
        for (name, pair) in found {
            let (Some(a), Some(b)) = pair else {
                return Err(invalid(format!("`{name}` has not both of A and B: the file is incomplete")));
            };
            let embedding = name.ends_with(TABLE);
            let a = if embedding { transposed(&a)? } else { a };
            let scale = if alpha == 0.0 { 1.0 } else { alpha / a.rows() as f32 };
            let pair = LowRankPair { name: name.to_owned(), a, b, scale, magnitude: None, embedding };
            if let Some(problem) = pair.problem() {
                return Err(invalid(problem));
            }
            pairs.push(pair);
        }
        if pairs.is_empty() {
            return Err(invalid("there are no low-rank pairs".into()));
        }
        let name = file.find_str("general.name")?.map(str::to_owned);
        Ok(GgufLora { architecture: file.get_str("general.architecture")?.to_owned(), name, pairs, ignored })
    }

    /// Writes the file, which appears under its name when it is whole. Nothing that exists is replaced.
    ///
    /// The commonest `scale * rank` becomes alpha, which is what rsLoRA's `alpha * sqrt(rank)` folds into; pairs with another
    /// have the rest multiplied into B.
    ///
    /// # Errors
    /// The adapter has magnitudes (DoRA), which the format cannot say; the target exists, or the disk refuses.
    pub fn write(&self, path: &Path) -> Result<()> {
        let unwritable = |problem: String| Error::unwritable(&path.display().to_string(), problem);
        if std::fs::symlink_metadata(path).is_ok() {
            return Err(unwritable("it exists already: choose another name".into()));
        }
        let mut header = GgufHeader::new();
        header.set("general.architecture", self.architecture.as_str());
        header.set("general.type", "adapter");
        header.set("adapter.type", "lora");
        if let Some(name) = &self.name {
            header.set("general.name", name.as_str());
        }
        let alpha = self.alpha().map_err(unwritable)?;
        header.set(ALPHA, alpha);
        let mut tensors = Vec::with_capacity(2 * self.pairs.len());
        for pair in &self.pairs {
            let a = if pair.embedding { transposed(&pair.a)? } else { pair.a.clone() };
            tensors.push((format!("{}.lora_a", pair.name), a));
            tensors.push((format!("{}.lora_b", pair.name), folded(pair, alpha)?));
        }
        for (name, weight) in &tensors {
            header.tensor(name, &[weight.cols() as u64, weight.rows() as u64], weight.block());
        }
        let mut writer = GgufWriter::create(path, &header)?;
        for (name, weight) in &tensors {
            writer.write(name, weight.bytes())?;
        }
        writer.commit()
    }

    /// The alpha that most pairs have. Not 0, which would stand for a scale of 1.
    fn alpha(&self) -> std::result::Result<f32, String> {
        for pair in &self.pairs {
            if let Some(problem) = pair.problem() {
                return Err(problem);
            }
            if pair.magnitude.is_some() {
                return Err(format!(
                    "`{}` has magnitudes (DoRA), which llama.cpp's adapters cannot say: merge it into the model instead",
                    pair.name
                ));
            }
        }
        let alphas = self.pairs.iter().map(own_alpha);
        match most_common(alphas.filter(|alpha| *alpha != 0.0 && alpha.is_finite()).map(f32::to_bits)) {
            Some(bits) => Ok(f32::from_bits(bits)),
            None if self.pairs.is_empty() => Err("there are no low-rank pairs".into()),
            None => Ok(1.0),
        }
    }
}

/// The alpha that gives a pair's scale.
fn own_alpha(pair: &LowRankPair) -> f32 {
    alpha_of(pair.scale, pair.rank() as f64) as f32
}

/// B with what alpha does not say of the scale.
fn folded(pair: &LowRankPair, alpha: f32) -> Result<Weight> {
    if own_alpha(pair) == alpha {
        return Ok(pair.b.clone());
    }
    let factor = f64::from(pair.scale) * pair.rank() as f64 / f64::from(alpha);
    let values: Vec<f32> = pair.b.to_f32().iter().map(|b| (f64::from(*b) * factor) as f32).collect();
    Weight::from_f32(&values, pair.b.rows(), pair.b.cols())
}

/// A tensor of two dimensions, of which ggml leaves out a last one of 1.
fn matrix(file: &Gguf, tensor: &TensorInfo) -> Result<Weight> {
    let (name, dims) = (tensor.name(), tensor.dims());
    if dims.is_empty() || dims.iter().skip(2).any(|d| *d != 1) {
        let problem = format!("the tensor `{name}` has the dimensions {dims:?}; two are read");
        return Err(Error::invalid(file.name(), problem));
    }
    file.weight(name)
}

/// Rows and columns exchanged, in f32.
fn transposed(weight: &Weight) -> Result<Weight> {
    let (rows, cols) = (weight.rows(), weight.cols());
    let values = weight.to_f32();
    let turned: Vec<f32> =
        (0..cols).flat_map(|c| (0..rows).map(move |r| (r, c))).map(|(r, c)| values[r * cols + c]).collect();
    Weight::from_f32(&turned, cols, rows)
}
