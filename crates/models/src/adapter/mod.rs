//! Adapters: low-rank pairs (LoRA, DoRA) by site, read from PEFT's folders and llama.cpp's files, written back, attached to a
//! decoder as deltas, and merged into its weights.
//!
//! An [`Adapter`] lies in memory as the base that it is for: rows of B in that base's order ([`Base`]), a projection that a file
//! fuses with others in parts. [`attach`] puts it before a projection's own biases; [`merged`] makes the dense weight.

mod attach;
mod base;
mod files;
mod fused;
mod merge;
mod norms;
mod rows;
mod table;
mod targets;

use std::collections::BTreeMap;
use std::path::Path;

use porism_formats::Weight;
use porism_formats::adapter::{GgufLora, PeftAdapter};
use porism_kernels::linear::MatrixRef;

use crate::site::Site;
use crate::{Error, Result};

pub use attach::{Attached, attach, attach_to_all, detach};
pub use base::{Base, Layout};
pub use files::PeftOptions;
pub use merge::{Merge, merged};
pub use norms::DoraNorms;
pub use targets::{ALL_LINEAR, targets};

/// What is added to one weight W `[out, in]`: `W + scale * B A` (Hu et al. 2021), or with a magnitude m that sum with row i
/// brought to the length `m_i` (Liu et al. 2024, section 4.1). Of the token embedding W is the transposed table: `in` is the
/// vocabulary.
#[derive(Clone, Debug)]
pub struct LowRank {
    /// A, `[rank, in]`.
    pub a: Weight,
    /// B, `[out, rank]`.
    pub b: Weight,
    /// The factor on B A.
    pub scale: f32,
    /// One row of `out` numbers; `None` without DoRA.
    pub magnitude: Option<Weight>,
}

impl LowRank {
    /// The rank.
    pub fn rank(&self) -> usize {
        self.a.rows()
    }

    /// Why it does not fit a weight of `out` x `inputs`, or is of no use.
    fn problem(&self, out: usize, inputs: usize) -> Option<String> {
        let LowRank { a, b, scale, magnitude } = self;
        if a.is_empty() || b.is_empty() {
            return Some("its rank is 0".into());
        }
        if (b.rows(), a.cols()) != (out, inputs) || b.cols() != a.rows() {
            return Some(format!(
                "A of {} x {} and B of {} x {} do not fit {out} x {inputs}: it is of another base",
                a.rows(),
                a.cols(),
                b.rows(),
                b.cols()
            ));
        }
        if let Some(m) = magnitude.as_ref().filter(|m| m.len() != out) {
            return Some(format!("{} magnitudes for {out} features", m.len()));
        }
        let finite =
            scale.is_finite() && [Some(a), Some(b), magnitude.as_ref()].into_iter().flatten().all(rows::finite);
        (!finite).then(|| "it holds numbers that are infinite or NaN: its training has failed".into())
    }
}

/// An adapter in the layout of the base that it was read for.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// The file or folder, for messages.
    pub name: String,
    /// The model that it was made for, where the file says so.
    pub base_model: Option<String>,
    /// The pairs.
    pub low_ranks: BTreeMap<Site, LowRank>,
}

impl Adapter {
    /// Reads a folder as PEFT's, a file as llama.cpp's. The weights are views into the mapping, which must not be changed or
    /// cut meanwhile.
    ///
    /// # Errors
    /// The file is damaged or says what is not read; the adapter is of another base (a module that this one has not, a shape
    /// that does not fit); numbers are not finite.
    pub fn open(path: &Path, base: &Base<'_>) -> Result<Adapter> {
        let name = path.display().to_string();
        if path.is_dir() {
            Adapter::from_peft(&PeftAdapter::open(path)?, &name, base)
        } else {
            Adapter::from_gguf(&GgufLora::open(path)?, &name, base)
        }
    }

    /// Whether it has magnitudes.
    pub fn is_dora(&self) -> bool {
        self.low_ranks.values().any(|l| l.magnitude.is_some())
    }

    /// How many numbers it holds.
    pub fn parameters(&self) -> usize {
        let magnitude = |l: &LowRank| l.magnitude.as_ref().map_or(0, Weight::len);
        self.low_ranks.values().map(|l| l.a.len() + l.b.len() + magnitude(l)).sum()
    }

    /// An error of this adapter.
    fn error(&self, what: impl Into<String>) -> Error {
        problem(&self.name, what)
    }
}

fn problem(name: &str, what: impl Into<String>) -> Error {
    Error::Config { file: name.to_owned(), what: what.into() }
}

fn matrix(weight: &Weight) -> MatrixRef<'_> {
    MatrixRef { bytes: weight.bytes(), block: weight.block(), rows: weight.rows(), cols: weight.cols() }
}
