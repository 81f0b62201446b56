//! What fits into a memory, and the best of it.

use porism_kernels::attention::paged::PAGE;

use super::run::run;
use super::{Question, Training, WeightType, weight_types};
use crate::{Part, Result, Unit};

/// The lines about what fits.
pub(super) fn lines(
    question: &Question<'_>,
    parameters: u64,
    training: &[Training],
    ram: u64,
    part: &mut Part,
) -> Result<()> {
    let fits = |bytes: f64| bytes <= ram as f64;
    // The most exact weights with which a run fits, whatever the file has.
    let mut best = None;
    for weights in weight_types().into_iter().filter(|w| matches!(w, WeightType::Block(_))) {
        let with = Question { file: None, weights, ..question.clone() };
        let peak = run(&with, parameters)?;
        if fits(peak.total.real()) {
            best = Some((weights, peak));
            break;
        }
    }
    match best {
        Some((weights, peak)) => {
            let what = format!("best to run: {}", weights.name());
            part.known("best_run", what, peak.total, Unit::Bytes);
            part.mark(Some(ram));
        }
        None => part.known("best_run", "to run: nothing fits", 0u64, Unit::Bytes),
    }
    // The longest context with the file, or else with those weights.
    let weights = best.map_or(question.weights, |(weights, _)| weights);
    let longest = longest(&Question { weights, ..question.clone() }, parameters, ram)?;
    let what = match question.file {
        Some(_) => "longest context, this file".to_string(),
        None => format!("longest context, {}", weights.name()),
    };
    part.known("longest_context", what, longest, Unit::Count("tokens"));
    match training.iter().find(|way| fits(way.total.real())) {
        Some(way) => {
            part.known("best_training", format!("best to train: {}", way.name), way.total, Unit::Bytes);
            part.mark(Some(ram));
        }
        None => part.known("best_training", "to train: nothing fits", 0u64, Unit::Bytes),
    }
    Ok(())
}

/// The longest context whose run fits, in whole pages; at most what the model was trained for.
fn longest(question: &Question<'_>, parameters: u64, ram: u64) -> Result<u64> {
    let most = question.model.context.unwrap_or(1 << 20);
    let fits = |tokens: u64| -> Result<bool> {
        let peak = run(&Question { tokens, ..question.clone() }, parameters)?;
        Ok(peak.total.real() <= ram as f64)
    };
    if fits(most)? {
        return Ok(most);
    }
    let page = PAGE as u64;
    let (mut good, mut bad) = (0, most.div_ceil(page));
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if fits(middle * page)? { good = middle } else { bad = middle }
    }
    Ok(good * page)
}
