//! Examples to learn from: rows of a data file as tokens, with a mark on those that count.
//!
//! A row has one of the shapes that the common trainers read:
//!
//! | shape | fields | what counts |
//! | --- | --- | --- |
//! | chat | `messages`, a list of `{role, content}`, perhaps `tools` | the assistant's turns |
//! | prompt and completion | `prompt`, `completion`, both texts or both lists of messages | the completion |
//! | instruction | `instruction`, `output`, perhaps `input` | the output |
//! | text | `text` | everything |
//!
//! Chats and instructions go through the model's own template. A text and a completion end with the EOS token, so that the model
//! learns to end. The spelling of a control token, such as `<|im_end|>`, is that token in all of them: the data's author is trusted
//! with it, as transformers does.

mod compose;
mod shape;

pub use compose::Composer;
pub use shape::{Dialogue, Shape};

/// A row as tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// Where it stood, for messages.
    pub at: String,
    /// Its tokens.
    pub ids: Vec<u32>,
    /// For each token whether the model is to learn it from what stands before. Never true for the first, which has nothing
    /// before it.
    pub scored: Vec<bool>,
}

impl Example {
    /// Tokens that count.
    pub fn targets(&self) -> usize {
        self.scored.iter().filter(|&&scored| scored).count()
    }

    /// Leaves out what is behind the first so many tokens; tells whether there was anything.
    pub fn truncate(&mut self, length: usize) -> bool {
        let cut = self.ids.len() > length;
        self.ids.truncate(length);
        self.scored.truncate(length);
        cut
    }
}
