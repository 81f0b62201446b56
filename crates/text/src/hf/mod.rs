//! Hugging Face's side: `tokenizer.json` and the files beside it, read and written.

mod json;
mod library;
mod models;
mod pre;
mod proto;
mod read;
mod settings;
mod write;

pub(crate) use library::{Library, nfc};
#[cfg(test)]
pub(crate) use pre::pre_tokenizer_json;
pub use read::HfFiles;
