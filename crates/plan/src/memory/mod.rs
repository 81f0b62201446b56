//! `plan memory`: weights, cache and activations; running, tuning and training; what fits.

mod fit;
mod run;
mod training;
mod weights;

pub use run::{Engine, File, Run, Tokenizer, run};
pub use training::{Training, training};
pub use weights::{WeightType, ideal, weight_types};

use crate::cache::{CacheShape, KvType};
use crate::{Answer, Dimensions, Machine, Result, Unit};

/// What memory is asked about.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// The model.
    pub model: &'a Dimensions,
    /// Its file, if there is one.
    pub file: Option<&'a File>,
    /// How this program computes.
    pub engine: Engine,
    /// Tokens in the cache.
    pub tokens: u64,
    /// How the cache keeps keys and values.
    pub kv: KvType,
    /// The weights' type, where there is no file.
    pub weights: WeightType,
    /// The machine.
    pub machine: Machine,
    /// Tokens of a training step that are worked on at a time.
    pub batch_tokens: u64,
    /// The rank of an adapter.
    pub rank: u64,
}

/// The weights alone, of so many parameters: what the book tabulates, and the block formats as they are.
///
/// # Errors
/// The numbers are beyond all bounds.
pub fn of_parameters(parameters: u64, ram: Option<u64>) -> Result<Answer> {
    let mut answer = Answer::new("weights");
    answer.give("N", "parameters", parameters);
    if let Some(ram) = ram {
        answer.give_in("R", "memory", ram, Unit::Bytes);
    }
    weights::lines(parameters, ram, &mut answer)?;
    answer.note("the cache and activations come on top: give the dimensions or a model to have them counted");
    Ok(answer)
}

/// The answer of `plan memory`.
///
/// # Errors
/// The numbers are beyond all bounds.
pub fn answer(question: &Question<'_>) -> Result<Answer> {
    let d = question.model;
    let mut answer = Answer::new(format!("memory of {}", d.name));
    d.give(&mut answer);
    let parameters = match question.file {
        Some(file) => file.parameters,
        None => crate::parameters::total(d)?.rounded(),
    };
    answer.give("N", "parameters", parameters);
    answer.give("n", "tokens in the cache", question.tokens);
    let ram = question.machine.ram;
    if let Some(ram) = ram {
        answer.give_in("R", "memory", ram, Unit::Bytes);
    }
    weights::lines(parameters, ram, &mut answer)?;

    let cache = CacheShape::of(d);
    cache.lines(answer.part("key and value cache"), question.tokens)?;

    let how = match question.file {
        Some(_) => "as its file is".to_string(),
        None => format!("with {} weights", question.weights.name()),
    };
    let part = answer.part(format!("porism run, {how}, {} cache", question.kv.name()));
    let peak = run::lines(question, parameters, part)?;
    part.known("run_peak", "peak", peak.total, Unit::Bytes);
    part.mark(ram);

    let training = training::lines(question, parameters, &mut answer)?;
    if let Some(ram) = ram {
        fit::lines(question, parameters, &training, ram, answer.part("what fits"))?;
    }
    notes(question, &mut answer);
    Ok(answer)
}

fn notes(question: &Question<'_>, answer: &mut Answer) {
    if question.file.is_none() {
        answer.note("there is no file: its tokenizer and its mix of types are taken to be as usual");
    }
    answer.note(
        "weights of a file are mapped: the system may give them back under pressure, and speed then falls to the disk's",
    );
    answer.note(
        "training: f32 weights, gradients and two moments of AdamW, 16 bytes for each parameter that learns; \
         the book's 28 GB for 7 B are the f32 weights alone, its 6 GB for LoRA take a base in 4 bits",
    );
    let head_dim = question.model.head_dim;
    if !question.kv.fits(head_dim) {
        answer.note(format!("heads of {head_dim} features are no whole blocks of {}", question.kv.name()));
    }
}
