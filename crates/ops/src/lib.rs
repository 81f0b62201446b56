//! The kernels as candle custom operations, each with a tested gradient.
//!
//! candle keeps the tape; every fine step of a model on it is one of the operations here. Tensors are
//! f32 `[rows, width]` on the CPU; an input may be strided or lie anywhere in its storage. A frozen
//! weight is captured by its operation and is no input of it, so no gradient is computed for it; of
//! the inputs, only those that something trainable hangs on get a gradient.
//!
//! `Tensor::backward` seeds every element with one: call it on a loss of one element.

mod act_mul;
mod add;
mod attention;
mod columns;
mod dropout;
mod error;
mod feed_forward;
mod layer_norm;
mod likelihood;
mod linear;
mod loss;
mod low_rank;
mod map;
mod norm;
mod quiet;
mod rope;
mod rows;
mod softmax;
mod sum;
mod tensor;

use std::sync::Arc;

use porism_kernels::{Isa, Pool};

pub use act_mul::act_mul;
pub use add::add_scaled;
pub use attention::attention;
pub use columns::{add_columns, scale_columns};
pub use dropout::dropout;
pub use error::{Error, Result};
pub use feed_forward::{FrozenGated, frozen_gated};
pub use layer_norm::layer_norm;
pub use likelihood::{frozen_likelihood, likelihood_into};
pub use linear::{frozen_linear, linear, linear_into};
pub use loss::{cross_entropy, inner_product, kl, log_prob_of};
pub use low_rank::frozen_low_rank;
pub use map::{act, softcap};
pub use norm::{rms_norm, rms_norm_frozen};
pub use quiet::quietly;
pub use rope::rope;
pub use rows::{embed_frozen, replace_rows, select_rows, select_rows_into};
pub use softmax::{gather, log_softmax};
pub use sum::GradientSum;
pub use tensor::in_place;

/// What an operation runs on: threads and instructions. Cloning shares the threads.
#[derive(Clone, Debug)]
pub struct OpContext {
    /// The threads.
    pub pool: Arc<Pool>,
    /// What the processor can do.
    pub isa: Isa,
}

impl OpContext {
    /// The machine's best instructions on `threads` threads.
    pub fn new(threads: usize) -> OpContext {
        OpContext { pool: Arc::new(Pool::new(threads)), isa: Isa::detect() }
    }
}
