//! The flags that say how a text is cut and scored, of every command that reads one with a model.

use anyhow::Result;
use clap::{Args, ValueEnum};
use porism_measure::perplexity::Protocol;

use super::words::positive;
use crate::context::{say, usage};

/// How a text is cut.
#[derive(Args)]
pub struct ProtocolArgs {
    /// Which tokens are scored, and what the model sees before them
    #[arg(long, value_enum, default_value_t = ProtocolArg::LlamaCpp)]
    protocol: ProtocolArg,
    /// Tokens that the model sees at a time [default: 512, or 1024 with sliding]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub context: Option<usize>,
    /// Tokens that a sliding window moves by [default: 512]
    #[arg(long, value_name = "N", value_parser = positive)]
    stride: Option<usize>,
    /// Score the first N chunks or windows only
    #[arg(long, value_name = "N", value_parser = positive)]
    pub chunks: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ProtocolArg {
    /// Chunks of 512 tokens, the second half of each is scored
    #[value(name = "llama.cpp")]
    LlamaCpp,
    /// Overlapping windows, each token is scored once
    Sliding,
}

impl ProtocolArgs {
    /// The protocol, if the flags fit together.
    pub fn protocol(&self) -> Result<Protocol> {
        let protocol = match (self.protocol, self.context, self.stride) {
            (ProtocolArg::LlamaCpp, _, Some(_)) => return usage("--stride goes with --protocol sliding only"),
            (ProtocolArg::LlamaCpp, context, None) => {
                Protocol::LlamaCpp { context: context.unwrap_or(Protocol::LLAMA_CPP.context()) }
            }
            (ProtocolArg::Sliding, context, stride) => Protocol::Sliding {
                context: context.unwrap_or(Protocol::SLIDING.context()),
                stride: stride.or(Protocol::SLIDING.stride()).unwrap_or(1),
            },
        };
        protocol.check().or_else(|error| usage(format!("--context, --stride: {error}")))?;
        Ok(protocol)
    }
}

/// Says that a context is longer than what a model was trained with, if it is.
pub fn note_context(protocol: Protocol, trained: usize) {
    let asked = protocol.context();
    if asked > trained {
        say(&format!("note: the model was trained for a context of {trained} tokens, --context {asked} goes beyond"));
    }
}
