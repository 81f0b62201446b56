//! Fine-tuning: full, LoRA and QLoRA, from a file of examples to an adapter that the ecosystem loads.
//!
//! A [`Recipe`] says what is done, [`Data`] holds the examples as tokens, [`Course`] puts them in order, [`passes`] turns a few of
//! them into a loss and gradients, an [`optimizer`] makes a step of these, and the [`Trainer`] does so until the end, with
//! checkpoints that a run goes on from bit for bit.

pub mod adapter;
mod checkpoint;
mod course;
mod data;
mod error;
mod goal;
mod log;
pub mod memory;
pub mod optimizer;
pub mod passes;
pub mod pissa;
pub mod recipe;
mod schedule;
pub mod scratch;
mod trainer;
mod watchdog;

pub use checkpoint::{Checkpoint, State, refuse_used};
pub use course::{Batching, Course};
pub use data::{Counts, Data, Reading, Split};
pub use error::{Error, Result};
pub use goal::{Goal, Teacher};
pub use log::{Log, Record, read_log};
pub use recipe::Recipe;
pub use schedule::Schedule;
pub use trainer::{Event, Outcome, Trainer};
pub use watchdog::{Alarm, Watchdog};
