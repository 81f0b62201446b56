//! What results look like: today, [plots](plot) as SVG.
//!
//! Nothing is read, written or measured here; a command passes numbers in and gets text out.

mod error;
pub mod plot;

pub use error::{Error, Result};
