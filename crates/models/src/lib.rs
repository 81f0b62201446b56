//! One forward pass, two executors.
//!
//! A model is a description ([`Decoder`]) written in [`Steps`]; the CPU executor ([`cpu`]) runs it on
//! planned buffers through the kernels, the tape executor ([`tape`]) on candle tensors with gradients.

pub mod batch;
pub mod convert;
pub mod cpu;
pub mod decoder;
mod error;
pub mod inspect;
pub mod linear;
pub mod load;
pub mod names;
pub mod observe;
pub mod site;
pub mod source;
pub mod state;
pub mod steps;
pub mod tape;

pub use batch::{Batch, Input, Span};
pub use decoder::{Decoder, DecoderConfig};
pub use error::{Error, Result};
pub use linear::{AdapterId, Delta, DeltaKind, Linear};
pub use load::load_decoder;
pub use site::{BlockSite, ProbeGroup, Site, SlotSite};
pub use source::ModelSource;
pub use state::{Mark, SequenceState};
pub use steps::{HeadOutput, HeadRequest, Steps};
