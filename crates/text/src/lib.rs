//! Text to tokens and back: tokenizers, chat templates, streaming.
//!
//! - [`Tokenizer`]: BPE on bytes, SentencePiece (BPE and unigram) and WordPiece from a GGUF file or a Hugging
//!   Face folder, and as either again.
//! - [`Utf8Stream`]: tokens to text while they come, whole characters only.
//! - [`ChatTemplate`]: a model's own Jinja template over [`Message`]s, as transformers renders it.
//!
//! ```no_run
//! use porism_text::{ChatTemplate, Message, Tokenizer};
//!
//! # fn main() -> porism_text::Result<()> {
//! let gguf = porism_formats::Gguf::open("model.gguf".as_ref())?;
//! let tokenizer = Tokenizer::from_gguf(&gguf)?;
//! let template = ChatTemplate::of(&tokenizer)?.expect("a model for chats");
//! let prompt = template.render(&[Message::new("user", "Hello")], true, None)?;
//! let ids = tokenizer.encode(&prompt, false, true)?; // the template brings its own BOS
//! # Ok(()) }
//! ```

mod bpe;
mod byte_level;
mod charsmap;
mod chat;
mod conversion;
mod engine;
mod error;
pub mod examples;
mod gguf;
mod hf;
mod pre_tokenizer;
mod prefixes;
mod sentence_piece;
mod source;
mod special;
mod stream;
mod template;
mod tokenizer;
pub mod train;
mod unicode;
mod unigram;
mod vocab;
mod word_piece;

pub use chat::{Chat, Message, parse_chat};
pub use error::{Error, Result};
pub use gguf::TokenizerOptions;
pub use hf::HfFiles;
pub use source::{
    Charsmap, MAX_TOKENS, NamedTemplate, SpacePrefix, SpecialIds, Strip, TokenType, VocabModel, VocabSource, WordRules,
};
pub use stream::Utf8Stream;
pub use template::{ChatTemplate, LocalTime, RenderOptions};
pub use tokenizer::Tokenizer;
