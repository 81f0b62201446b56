//! Arithmetic on plain slices: block codecs, matrix products, attention, norms, the thread pool.
//!
//! No tensor type lives here. Each operation is a file with a scalar reference, its SIMD versions,
//! its backward where it has one, and the tests that hold them to the reference. What the processor
//! can do is an [`Isa`] value, found once and passed in; threads are a [`Pool`] handle, passed in.
//!
//! **Batch invariance.** The bits of an output row depend on that row's inputs only: not on how many
//! rows stand beside it, nor on the number of threads. Sums are cut by length, never by batch or
//! thread; threads share output tiles, never a sum.

pub mod attention;
pub mod block;
pub mod isa;
pub mod linear;
pub mod pool;

pub use block::BlockType;
pub use isa::Isa;
pub use pool::Pool;
