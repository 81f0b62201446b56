//! From an item's text to tokens, with the harness's rule for where a prompt ends and a choice begins.
//!
//! A tokenizer may join the end of a prompt with the beginning of a choice, so the two are encoded together, and what lies
//! beyond the prompt's own number of tokens is the choice. Whitespace at the prompt's end belongs to the choice, since
//! vocabularies have it at the beginning of words.

use porism_text::Tokenizer;

use crate::Result;
use crate::metric::python::strip_end;

/// Tokens of a text, with a BOS where the model adds one and the text does not begin with it; special tokens that
/// are spelt out are read as such.
pub(crate) fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    let spelt = tokenizer.bos().and_then(|id| tokenizer.token_text(id)).filter(|bos| !bos.is_empty());
    let begins = spelt.is_some_and(|bos| text.starts_with(bos));
    Ok(tokenizer.encode(text, !begins, true)?)
}

/// Tokens of a prompt and of each of its choices.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Encoded {
    pub(crate) prompt: Vec<u32>,
    pub(crate) choices: Vec<Vec<u32>>,
}

/// Encodes a prompt with its choices. An empty prompt is a BOS, or an EOS where there is none.
pub(crate) fn choices(tokenizer: &Tokenizer, prompt: &str, choices: &[String]) -> Result<Encoded> {
    if prompt.is_empty() {
        let begin = tokenizer.bos().or(tokenizer.eos()).into_iter().collect();
        let choices = choices.iter().map(|choice| Ok(tokenizer.encode(choice, false, true)?));
        return Ok(Encoded { prompt: begin, choices: choices.collect::<Result<_>>()? });
    }
    let kept = strip_end(prompt);
    let moved = &prompt[kept.len()..];
    let prompt = encode(tokenizer, kept)?;
    let choices = choices.iter().map(|choice| {
        let mut whole = encode(tokenizer, &format!("{kept}{moved}{choice}"))?;
        whole.drain(..prompt.len().min(whole.len()));
        Ok(whole)
    });
    let choices = choices.collect::<Result<_>>()?;
    Ok(Encoded { prompt, choices })
}
