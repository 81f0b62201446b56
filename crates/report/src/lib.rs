//! What results are worth and look like: [intervals and tests](interval), [plots](plot) as SVG, [tables](Table), and one
//! [page](Page) of HTML.
//!
//! Nothing is read, written or measured here; a command passes numbers in and gets text out.

mod error;
pub mod interval;
mod page;
pub mod plot;
mod table;

pub use error::{Error, Result};
pub use page::Page;
pub use table::{Cell, Column, Table};
