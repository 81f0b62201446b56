//! Generation and embedding: samplers, stopping, sessions over a sequence state, texts to vectors.
//!
//! A [`Session`] keeps the tokens that its cache holds, so that a prompt which continues the last one is
//! not computed again. [`Session::generate`] runs one request and reports every token as it comes.

mod constrain;
mod embed;
mod error;
mod many;
mod sample;
mod session;
mod stop;

pub use constrain::{Allowed, Constrainer, Constraint, Grammar};
pub use embed::{Embedded, Embedder, Hidden};
pub use error::{Error, Result};
pub use many::{Answered, Many, Prompt};
pub use sample::{Draw, Sampling, TokenMask};
pub use session::{Event, Outcome, Overflow, PROMPT_CHUNK, Request, Session, StopReason, Timings, Token};
