//! The one projection: a frozen base and a list of deltas that are applied unfused behind it.
//!
//! LoRA, QLoRA, DoRA, IA3, merging, quantizing, healing and hot-swapping are all operations on a
//! [`Linear`]. A delta belongs to one adapter, or to every row when it names none; rows carry their
//! adapter in their batch span, so one pass can serve several adapters.

use porism_formats::Weight;

use crate::site::Site;

/// Names an adapter within a model; spans of a batch refer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AdapterId(pub u32);

/// `y = base(x)`, then each delta in turn. Shapes: x `[tokens, in]`, y `[tokens, out]`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// Which weight of the model this is.
    pub site: Site,
    /// The frozen base, `[out, in]`, dense or in any block format.
    pub weight: Weight,
    /// What is applied on top of the base, in order.
    pub deltas: Vec<Delta>,
}

impl Linear {
    /// A projection without deltas.
    pub fn new(site: Site, weight: Weight) -> Linear {
        Linear { site, weight, deltas: Vec::new() }
    }

    /// Output features.
    pub fn out_features(&self) -> usize {
        self.weight.rows()
    }

    /// Input features.
    pub fn in_features(&self) -> usize {
        self.weight.cols()
    }
}

/// One change of a projection's result.
#[derive(Clone, Debug)]
pub struct Delta {
    /// Whose rows it applies to; `None`: all rows (a model's own bias, a merged scale).
    pub adapter: Option<AdapterId>,
    /// What it does.
    pub kind: DeltaKind,
}

/// What a delta does, for x `[tokens, in]` and y `[tokens, out]`.
#[derive(Clone, Debug)]
pub enum DeltaKind {
    /// `y += scale * (x A^T) B^T` with A `[rank, in]`, B `[out, rank]` (LoRA, section 4.1 of the paper).
    LowRank {
        /// `[rank, in]`.
        a: Weight,
        /// `[out, rank]`.
        b: Weight,
        /// Usually alpha / rank.
        scale: f32,
    },
    /// `x *= s` before the base and every other delta; one row of `in` factors (IA3 on a feed-forward input).
    InputScale(Weight),
    /// `y *= s`; one row of `out` factors (IA3, DoRA's magnitude).
    OutputScale(Weight),
    /// `y += b`; one row of `out` numbers.
    Bias(Weight),
}
