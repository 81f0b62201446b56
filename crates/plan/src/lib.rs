//! What a model costs before it is run or trained: parameters, operations, bytes, steps, days.
//!
//! Arithmetic only. Facts about files and machines come in as numbers ([`Dimensions`], [`memory::File`],
//! [`Machine`]); nothing is read, measured or remembered here. Each question has a module and gives an [`Answer`]:
//! parts of lines, and each line has the formula, the formula with the numbers put in, and the value. The value is
//! computed from that very formula ([`formula`]), so that what is shown and what is computed cannot differ.
//!
//! Whole numbers stay whole ([`Amount`]); what the book prints is held against these answers in `tests/book.rs`.

mod amount;
mod answer;
pub mod attention;
pub mod cache;
mod dimensions;
mod error;
pub mod formula;
mod given;
mod machine;
pub mod memory;
pub mod parameters;
pub mod precision;
pub mod presets;
pub mod serve;
pub mod speculate;
pub mod train;
pub mod tune;
pub mod units;

pub use amount::Amount;
pub use answer::{Answer, Given, Line, Part, Unit};
pub use cache::KvType;
pub use dimensions::{Dimensions, Experts, FeedForward, Norms, QueryKeyNorm};
pub use error::{Error, Result};
pub use formula::Symbols;
pub use given::GivenDimensions;
pub use machine::Machine;
