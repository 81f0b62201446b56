//! What results are worth and look like: [intervals and tests](interval), and [plots](plot) as SVG.
//!
//! Nothing is read, written or measured here; a command passes numbers in and gets text out.

mod error;
pub mod interval;
pub mod plot;

pub use error::{Error, Result};
