//! One command a file: its flags with their help, and what it says.

pub mod bench;
pub mod benchmark;
pub mod book;
mod chat;
mod constrain;
pub mod convert;
pub mod detokenize;
mod diff;
mod divergence;
pub mod embed;
mod figures;
mod input;
pub mod inspect;
pub mod long_context;
pub mod measure;
pub mod metric;
pub mod models;
pub mod plan;
mod precision;
mod protocol;
pub mod pull;
pub mod run;
pub mod template;
pub mod tokenize;
pub mod tokenizer;
pub mod tune;
pub mod words;
