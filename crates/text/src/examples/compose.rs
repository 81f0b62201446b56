//! Rows to tokens, with the model's own tokenizer and template.
//!
//! A text is tokenized as a whole, as a model meets it: what is put together from tokenized parts has other tokens where the parts
//! meet, and in SentencePiece a space in the middle. Which tokens count is found by tokenizing what is given too: the two lists
//! begin alike, and where a word goes on over the border, a token counts if it has any byte of what is to be learned.

use porism_formats::rows::Row;
use serde_json::Value;

use super::{Dialogue, Example};
use crate::{ChatTemplate, Error, Message, Result, Tokenizer};

/// Turns rows into tokens.
///
/// A template that asks for the time should have it fixed ([`ChatTemplate::with_time`]), or the same row gives other tokens
/// tomorrow.
#[derive(Clone, Copy, Debug)]
pub struct Composer<'a> {
    tokenizer: &'a Tokenizer,
    template: Option<&'a ChatTemplate>,
}

/// The messages of a row, all of which the model sees.
struct Conversation<'r> {
    at: &'r str,
    messages: &'r [Message],
    tools: Option<&'r Value>,
}

/// A chat as tokens, and the answers in it that the template shows as the model would have to say them.
struct Shown {
    text: String,
    ids: Vec<u32>,
}

impl<'a> Composer<'a> {
    /// With a model's tokenizer and its template, if it has one.
    pub fn new(tokenizer: &'a Tokenizer, template: Option<&'a ChatTemplate>) -> Composer<'a> {
        Composer { tokenizer, template }
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &'a Tokenizer {
        self.tokenizer
    }

    /// A row as tokens.
    ///
    /// # Errors
    /// The row has none of the shapes, there is no template and it needs one, the template refuses the messages, or it shows an
    /// answer in another way when more follows (some leave out an earlier answer's thoughts): see [`Composer::compose_all`].
    pub fn compose(&self, row: &Row) -> Result<Example> {
        let (mut examples, apart) = self.examples(row)?;
        match (apart.first(), examples.pop()) {
            (None, Some(example)) => Ok(example),
            (answer, _) => Err(Error::Row {
                at: row.at.clone(),
                what: format!(
                    "the model's template shows message {} in another way when more follows; give each answer a row of its own, \
                     with what stands before it",
                    answer.unwrap_or(&0) + 1
                ),
            }),
        }
    }

    /// A row as tokens; several examples where a template shows an answer in another way when more follows. Each such answer is
    /// then the end of an example of its own, and counts there only.
    ///
    /// # Errors
    /// As for [`Composer::compose`], but for the last of them.
    pub fn compose_all(&self, row: &Row) -> Result<Vec<Example>> {
        Ok(self.examples(row)?.0)
    }

    /// The examples of a row, the one of the whole row last, and the answers that are examples of their own.
    fn examples(&self, row: &Row) -> Result<(Vec<Example>, Vec<usize>)> {
        let (_, dialogue) = Dialogue::read(row)?;
        match dialogue {
            Dialogue::Chat { messages, given, tools } => {
                self.chat(&Conversation { at: &row.at, messages: &messages, tools: tools.as_ref() }, given)
            }
            Dialogue::Continued { prompt, completion } => {
                Ok((vec![self.continued(&row.at, &prompt, &completion)?], Vec::new()))
            }
        }
    }

    fn continued(&self, at: &str, prompt: &str, completion: &str) -> Result<Example> {
        let mut ids = self.plain(&format!("{prompt}{completion}"))?;
        let given = if prompt.is_empty() { 0 } else { self.border(&self.plain(prompt)?, &ids) };
        let mut scored: Vec<bool> = (0..ids.len()).map(|i| i >= given).collect();
        self.end(&mut ids, &mut scored);
        Ok(example(at, ids, scored))
    }

    /// A text with the BOS that the model wants before it, unless it begins with one.
    fn plain(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.tokenizer.encode(text, false, true)?;
        let bos = self.tokenizer.bos().filter(|_| self.tokenizer.adds_bos());
        if let Some(bos) = bos.filter(|bos| ids.first() != Some(bos)) {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    fn chat(&self, chat: &Conversation<'_>, given: usize) -> Result<(Vec<Example>, Vec<usize>)> {
        let mut examples = Vec::new();
        let whole = self.show(chat, chat.messages.len())?;
        let mut scored = vec![false; whole.ids.len()];
        let mut apart = Vec::new();
        for answer in (given..chat.messages.len()).filter(|&i| chat.messages[i].role == "assistant") {
            let last = answer + 1 == chat.messages.len();
            if self.mark(chat, answer, &whole, &mut scored)? {
                continue;
            }
            if last {
                return Err(
                    chat.wrong("the model's template does not show the last answer behind what comes before it")
                );
            }
            apart.push(answer);
            let alone = self.show(chat, answer + 1)?;
            let mut scored = vec![false; alone.ids.len()];
            if !self.mark(chat, answer, &alone, &mut scored)? {
                let what =
                    format!("the model's template shows message {} in another place than a prompt's end", answer + 1);
                return Err(chat.wrong(&what));
            }
            examples.push(self.finish(chat, answer, alone.ids, scored));
        }
        examples.push(self.finish(chat, chat.messages.len() - 1, whole.ids, scored));
        Ok((examples, apart))
    }

    fn show(&self, chat: &Conversation<'_>, count: usize) -> Result<Shown> {
        let text = self.render(chat, count, false)?;
        // A rendered template brings its own BOS.
        let ids = self.tokenizer.encode(&text, false, true)?;
        Ok(Shown { text, ids })
    }

    fn render(&self, chat: &Conversation<'_>, count: usize, prompt: bool) -> Result<String> {
        let template = self.template.ok_or_else(|| {
            chat.wrong(
                "the model has no chat template for messages; give rows with prompt and completion, or with text",
            )
        })?;
        template.render(&chat.messages[..count], prompt, chat.tools).map_err(|e| chat.wrong(&e.to_string()))
    }

    /// Marks the tokens of an answer, up to the one that ends it; false if `shown` does not have the answer as the model would
    /// have to say it.
    fn mark(&self, chat: &Conversation<'_>, answer: usize, shown: &Shown, scored: &mut [bool]) -> Result<bool> {
        if answer == 0 {
            return Err(chat.wrong("the first message is the assistant's: put what it answers before it"));
        }
        let behind = self.render(chat, answer + 1, false)?;
        if !shown.text.starts_with(&behind) {
            return Ok(false);
        }
        let mut before = self.render(chat, answer, true)?;
        if !behind.starts_with(&before) {
            // Some prompts end with more than an answer is shown with, such as the beginning of thoughts.
            let plain = self.render(chat, answer, false)?;
            let alike = before.char_indices().zip(behind.chars()).find(|((_, a), b)| a != b);
            before.truncate(alike.map_or(behind.len(), |((at, _), _)| at));
            if before.len() < plain.len() {
                return Ok(false);
            }
        }
        let place = |text: &str| Ok::<_, Error>(self.border(&self.tokenizer.encode(text, false, true)?, &shown.ids));
        let (start, mut end) = (place(&before)?, place(&behind)?);
        // Behind the token that ends an answer nothing is said any more.
        if let Some(last) = (start..end).rev().find(|&i| self.tokenizer.end_of_generation(shown.ids[i])) {
            end = last + 1;
        }
        if start < end {
            scored[start..end].fill(true);
        }
        Ok(true)
    }

    /// The example of a chat whose last message is `last`, with an EOS if the template ends an answer with nothing.
    fn finish(&self, chat: &Conversation<'_>, last: usize, mut ids: Vec<u32>, mut scored: Vec<bool>) -> Example {
        let unended = scored
            .iter()
            .rposition(|&scored| scored)
            .is_some_and(|from| !ids[from..].iter().any(|&id| self.tokenizer.end_of_generation(id)));
        if unended && chat.messages[last].role == "assistant" {
            self.end(&mut ids, &mut scored);
        }
        example(chat.at, ids, scored)
    }

    /// Puts the token behind a text that ends it, where there is one, unless the text has ended, white space aside.
    fn end(&self, ids: &mut Vec<u32>, scored: &mut Vec<bool>) {
        let blank =
            |id: u32| self.tokenizer.token_bytes(id).is_some_and(|bytes| bytes.iter().all(u8::is_ascii_whitespace));
        let last = ids.iter().rev().find(|&&id| !blank(id));
        if let Some(eos) =
            self.tokenizer.eos().filter(|_| !last.is_some_and(|&id| self.tokenizer.end_of_generation(id)))
        {
            ids.push(eos);
            scored.push(true);
        }
    }

    /// How many of the whole text's tokens lie within a part that it begins with, whose own tokens are given.
    fn border(&self, part: &[u32], whole: &[u32]) -> usize {
        let size = |id: u32| self.tokenizer.token_bytes(id).map_or(0, |bytes| bytes.len());
        let same = part.iter().zip(whole).take_while(|(a, b)| a == b).count();
        let mut left: usize = part[same..].iter().map(|&id| size(id)).sum();
        let within = whole[same..].iter().take_while(|&&id| {
            let fits = left > 0 && size(id) <= left;
            left = left.saturating_sub(size(id));
            fits
        });
        same + within.count()
    }
}

impl Conversation<'_> {
    fn wrong(&self, what: &str) -> Error {
        Error::Row { at: self.at.to_owned(), what: what.to_owned() }
    }
}

fn example(at: &str, ids: Vec<u32>, mut scored: Vec<bool>) -> Example {
    if let Some(first) = scored.first_mut() {
        *first = false;
    }
    Example { at: at.to_owned(), ids, scored }
}
