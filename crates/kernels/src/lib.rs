//! Arithmetic on plain slices: block codecs, matrix products, attention, norms, the thread pool.
//!
//! No tensor type lives here. Each operation is a file with a scalar reference, its SIMD versions,
//! its backward where it has one, and the tests that hold them to the reference. What the processor
//! can do is an [`Isa`] value, found once and passed in; threads are a [`Pool`] handle, passed in.
//!
//! **Batch invariance.** The bits of an output row depend on that row's inputs only: not on how many
//! rows stand beside it, nor on the number of threads. Sums are cut by length, never by batch or
//! thread; threads share output tiles, never a sum.

pub mod activation;
pub mod add;
pub mod affinity;
pub mod arena;
pub mod attention;
pub mod block;
mod disjoint;
pub mod embedding;
mod erf;
mod exp;
mod gemm;
pub mod heap;
pub mod isa;
mod lanes;
pub mod layer_norm;
pub mod linear;
pub mod loss;
pub mod norm;
pub mod optimizer;
pub mod peak;
pub mod pool;
pub mod rope;
pub mod softcap;
pub mod softmax;
#[cfg(test)]
mod testing;
#[cfg(target_arch = "x86_64")]
mod transpose;

pub use block::BlockType;
pub use isa::Isa;
pub use pool::Pool;
