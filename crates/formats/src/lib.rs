//! Model files: GGUF and Hugging Face folders, read safely and written atomically.
//!
//! Every file is taken to be hostile: each length, count, offset, string and nesting is checked
//! against what the file really holds before anything is allocated for it, and weights are views into
//! the mapped file. What is written appears under its name only when it is complete.

pub mod adapter;
mod atomic;
mod error;
pub mod gguf;
pub mod hf;
mod mapping;
pub mod rows;
mod weight;

pub use atomic::{AtomicFile, remove_unfinished};
pub use error::{Error, Result};
pub use gguf::Gguf;
pub use hf::HfFolder;
pub use weight::{Storage, Weight};
