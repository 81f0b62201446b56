//! One forward pass, two executors.
//!
//! A model is a description ([`Decoder`], [`Encoder`]) written in [`Steps`]; the CPU executor ([`cpu`]) runs it on
//! planned buffers through the kernels, the tape executor ([`tape`]) on candle tensors with gradients.

pub mod adapter;
pub mod arch;
pub mod batch;
pub mod config;
pub mod convert;
pub mod cpu;
pub mod decoder;
pub mod encoder;
mod error;
pub mod facts;
pub mod inspect;
pub mod linear;
pub mod load;
pub mod moe;
pub mod names;
pub mod observe;
pub mod parts;
mod requantize;
pub mod rope;
mod settle;
pub mod site;
pub mod source;
pub mod stack;
pub mod state;
pub mod steps;
pub mod tape;

pub use adapter::Adapter;
pub use batch::{Batch, Input, Span};
pub use config::ModelConfig;
pub use decoder::Decoder;
pub use encoder::{Encoder, Pooling};
pub use error::{Error, Result};
pub use linear::{AdapterId, Delta, DeltaKind, Linear};
pub use load::{LoadOptions, load_decoder, load_decoder_with, load_encoder};
pub use site::{BlockSite, ProbeGroup, Site, SlotSite};
pub use source::ModelSource;
pub use stack::Stack;
pub use state::{Mark, SequenceState};
pub use steps::{HeadOutput, HeadRequest, Score, Steps};
