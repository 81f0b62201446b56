//! One command a file: its flags with their help, and what it says.

mod chat;
pub mod models;
pub mod pull;
pub mod run;
pub mod words;
