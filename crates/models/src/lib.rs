//! One forward pass, two executors.
//!
//! A model is a description ([`Decoder`]) written in [`Steps`]; the CPU executor ([`cpu`]) runs it on
//! planned buffers through the kernels, the tape executor ([`tape`]) on candle tensors with gradients.

pub mod batch;
pub mod cpu;
pub mod decoder;
mod error;
pub mod linear;
pub mod load;
pub mod names;
pub mod site;
pub mod state;
pub mod steps;
pub mod tape;

pub use batch::{Batch, Input, Span};
pub use decoder::{Decoder, DecoderConfig};
pub use error::{Error, Result};
pub use linear::{AdapterId, Delta, DeltaKind, Linear};
pub use site::{BlockSite, ProbeGroup, Site, SlotSite};
pub use state::{Mark, SequenceState};
pub use steps::{HeadOutput, HeadRequest, Steps};
