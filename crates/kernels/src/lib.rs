//! Arithmetic on plain slices: block codecs, matrix products, attention, norms, the thread pool.
//!
//! No tensor type lives here. Each operation is a file with a scalar reference, its SIMD versions
//! and the tests that hold them to the reference.

pub mod block;

pub use block::BlockType;
