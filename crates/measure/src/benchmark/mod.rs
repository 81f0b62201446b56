//! Benchmarks: tasks that a model is put to, with lm-evaluation-harness's prompts, tokens and scores.
//!
//! A [`Task`] is a small file: where its rows are, what the model is shown, what is right. [`prepare`] makes items of
//! it, [`run`] puts them to a model and gives a [`LogRow`] for each, [`outcome()`] says what they come to.

mod builtin;
mod data;
mod document;
mod encode;
mod fingerprint;
mod item;
mod judge;
mod log;
mod math;
mod mersenne;
mod outcome;
mod requests;
mod run;
mod score;
mod task;
mod template;

pub use builtin::{names, source, task};
pub use data::{Fetch, Source};
pub use fingerprint::fingerprint;
pub use item::{Item, Target, Wording};
pub use judge::Metrics;
pub use log::{Log, LogRow};
pub use outcome::{Mean, Outcome, group, outcome};
pub use requests::{Requests, read_requests};
pub use run::{Candidate, Exam, Progress, prepare, run};
pub use score::Likelihood;
pub use task::{Counted, Data, Examples, Filter, Generate, Kind, Measure, Output, Prompt, Rule, Select, Shape, Task};
