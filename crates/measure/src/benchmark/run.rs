//! Running a benchmark: items to tokens, tokens to rows of the log.

use std::collections::BTreeMap;

use porism_generate::{Many, Prompt, Sampling};
use porism_models::Decoder;
use porism_models::cpu::{CpuExecutor, KvType};
use porism_text::Tokenizer;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use super::data::{Source, split_rows};
use super::document::documents;
use super::encode;
use super::item::{Item, Target, Wording, items};
use super::judge::{Judge, Metrics, largest};
use super::log::{Log, LogRow};
use super::score::{ChoiceScorer, Likelihood, Question};
use super::task::{Output, Rule, Task};
use super::template::Engine;
use crate::{Error, Result};

/// A part of a task, ready to be put to a model.
#[derive(Debug)]
pub struct Exam {
    /// Its name in reports and logs.
    pub name: String,
    /// The group that its score goes into, if any.
    pub group: Option<String>,
    /// Worked examples before each question.
    pub fewshot: usize,
    items: Vec<Item>,
    output: Output,
    until: Vec<String>,
    max_tokens: usize,
    judge: Judge,
    fingerprint: String,
}

impl Exam {
    /// One of items that were made elsewhere.
    pub(crate) fn ready_made(name: String, items: Vec<Item>, output: Output, judge: Judge) -> Exam {
        let fingerprint = format!("{name} {judge:?}");
        Exam { name, group: None, fewshot: 0, items, output, until: Vec::new(), max_tokens: 0, judge, fingerprint }
    }

    /// Its questions.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// What an item counts for, from what its choices are worth.
    pub fn score_choices(&self, item: usize, likelihoods: &[Likelihood]) -> Metrics {
        self.judge.choices(&self.items[item], likelihoods)
    }

    /// A row of an earlier run with what the item counts for today: the right answer may have been corrected since.
    fn judged_again(&self, number: usize, mut row: LogRow) -> Result<LogRow> {
        let item = &self.items[number];
        let refused = |what: &str| {
            let what = format!("{what}; name another file with --log");
            Err(Error::Log { at: format!("item {} of {}", item.id, self.name), what })
        };
        if row.prompt != item.prompt || row.choices != item.choices {
            return refused("the log has another prompt for it");
        }
        row.target = item.right();
        match (self.output, row.response.take()) {
            (Output::MultipleChoice, None) => {
                if [row.loglikelihoods.len(), row.greedy.len()] != [item.choices.len(); 2] {
                    return refused("its row has not as many log-likelihoods as choices");
                }
                let each = row.loglikelihoods.iter().zip(&row.greedy);
                let each: Vec<Likelihood> = each.map(|(&log, &greedy)| Likelihood { log, greedy }).collect();
                self.judge_choices(number, &each, &mut row);
            }
            (Output::GenerateUntil, Some(response)) => self.judge_text(number, response, &mut row)?,
            _ => return refused("its row is of another kind of task"),
        }
        Ok(row)
    }

    fn judge_choices(&self, number: usize, likelihoods: &[Likelihood], row: &mut LogRow) {
        row.loglikelihoods = likelihoods.iter().map(|l| l.log).collect();
        row.greedy = likelihoods.iter().map(|l| l.greedy).collect();
        row.answer = json!(largest(&row.loglikelihoods));
        row.metrics = self.score_choices(number, likelihoods);
    }

    fn judge_text(&self, number: usize, response: String, row: &mut LogRow) -> Result<()> {
        let (answers, metrics) = self.score_text(number, &response)?;
        row.answer = match answers.len() {
            1 => answers.into_values().next().map(Json::String).unwrap_or_default(),
            _ => json!(answers),
        };
        row.metrics = metrics;
        row.response = Some(response);
        Ok(())
    }

    /// What each filter takes out of an answer to an item, and what that counts for.
    ///
    /// # Errors
    /// A pattern of the task file gives up on the answer.
    pub fn score_text(&self, item: usize, response: &str) -> Result<(BTreeMap<String, String>, Metrics)> {
        match &self.items[item].target {
            Target::Text(target) => self.judge.text(response, target),
            Target::Choice { .. } => Ok(Default::default()),
        }
    }
}

/// Reads a task's data and makes its items, for each of its parts.
///
/// # Errors
/// Data is missing or does not have the task's form, or there are fewer worked examples than wanted.
pub fn prepare(task: &Task, source: &mut Source<'_>, wording: &Wording<'_>) -> Result<Vec<Exam>> {
    let engine = Engine::new();
    let grouped = !task.data.configs.is_empty();
    let exams = task.parts().into_iter().map(|config| {
        let rows = split_rows(source, task, config, &task.data.split)?;
        let own = documents(&engine, task, config, rows)?;
        let same = task.data.fewshot_split.as_ref() == Some(&task.data.split);
        let pool = match &task.data.fewshot_split {
            Some(split) if wording.fewshot > 0 && task.examples.rule != Rule::Fixed && !same => {
                documents(&engine, task, config, split_rows(source, task, config, split)?)?
            }
            _ => Vec::new(),
        };
        let items = items(&engine, task, &own, if same { &own } else { &pool }, same, wording)?;
        distinct(&task.part_name(config), &items)?;
        Ok(Exam {
            name: task.part_name(config),
            group: grouped.then(|| task.name.clone()),
            fewshot: wording.fewshot,
            items,
            output: task.output,
            until: task.generate.until.clone(),
            max_tokens: task.generate.max_tokens,
            judge: Judge::new(task)?,
            fingerprint: format!("{task:?}"),
        })
    });
    exams.collect()
}

/// Names must tell items apart: the log and comparisons go by them.
fn distinct(task: &str, items: &[Item]) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    match items.iter().find(|item| !seen.insert(&item.id)) {
        Some(item) => Err(Error::Options(format!("{task}: two items have the id \"{}\"", item.id))),
        None => Ok(()),
    }
}

/// A model and how it runs.
#[derive(Debug)]
pub struct Candidate<'a> {
    /// The model.
    pub decoder: &'a Decoder,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// What runs it.
    pub steps: CpuExecutor,
    /// How keys and values are kept.
    pub kv: KvType,
    /// The most tokens that it sees at a time.
    pub context: usize,
    /// Generated answers that are worked on together.
    pub width: usize,
    /// Tells this model and these settings from others, in logs.
    pub fingerprint: String,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The task.
    pub task: &'a str,
    /// Its items that are done.
    pub done: usize,
    /// Its items.
    pub items: usize,
}

/// Puts an exam to a model; rows come in the order of the items. With a log, what it holds already is not done again, and what
/// is new goes there as soon as it is known.
///
/// # Errors
/// The forward pass fails or gives no finite number, a choice is longer than the context, or the log cannot be used.
pub fn run(
    exam: &Exam,
    candidate: &mut Candidate<'_>,
    log: Option<&mut Log>,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Vec<LogRow>> {
    let run = fingerprint(exam, candidate);
    let mut rows = BTreeMap::new();
    if let Some(log) = &log {
        for (number, item) in exam.items.iter().enumerate() {
            // The fingerprint does not know the data: prompts are compared, and what is right is read anew.
            if let Some(row) = log.row(&exam.name, &item.id, &run)? {
                rows.insert(number, exam.judged_again(number, row)?);
            }
        }
    }
    let mut sheet = Sheet { exam, run, log, rows, progress };
    sheet.tell();
    match exam.output {
        Output::MultipleChoice => choose(&mut sheet, candidate)?,
        Output::GenerateUntil => write(&mut sheet, candidate)?,
    }
    Ok(sheet.rows.into_values().collect())
}

fn fingerprint(exam: &Exam, candidate: &Candidate<'_>) -> String {
    let mut hash = Sha256::new();
    for part in [&exam.fingerprint, &candidate.fingerprint, &format!("{} {}", exam.fewshot, candidate.context)] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The rows as they come in.
struct Sheet<'a, 'b> {
    exam: &'a Exam,
    run: String,
    log: Option<&'b mut Log>,
    /// By the number of the item.
    rows: BTreeMap<usize, LogRow>,
    progress: &'b mut dyn FnMut(Progress<'_>),
}

impl Sheet<'_, '_> {
    /// Numbers of items that are not done.
    fn open(&self) -> Vec<usize> {
        (0..self.exam.items.len()).filter(|number| !self.rows.contains_key(number)).collect()
    }

    fn add(&mut self, new: Vec<(usize, LogRow)>) -> Result<()> {
        if let Some(log) = &mut self.log {
            let rows: Vec<LogRow> = new.iter().map(|(_, row)| row.clone()).collect();
            log.write(&rows)?;
        }
        self.rows.extend(new);
        self.tell();
        Ok(())
    }

    fn tell(&mut self) {
        let (task, done, items) = (self.exam.name.as_str(), self.rows.len(), self.exam.items.len());
        (self.progress)(Progress { task, done, items });
    }

    /// A row without its numbers.
    fn row(&self, number: usize, prompt_tokens: Vec<u32>, truncated: bool) -> LogRow {
        let item = &self.exam.items[number];
        LogRow {
            task: self.exam.name.clone(),
            id: item.id.clone(),
            prompt: item.prompt.clone(),
            choices: item.choices.clone(),
            prompt_tokens,
            tokens: Vec::new(),
            loglikelihoods: Vec::new(),
            greedy: Vec::new(),
            truncated,
            stop_reason: None,
            response: None,
            answer: Json::Null,
            target: item.right(),
            metrics: BTreeMap::new(),
            run: self.run.clone(),
        }
    }
}

/// Rows of choices that one token tree holds at most: what rows see of it grows with their square.
const TREE_ROWS: usize = 2048;

/// An item's questions: one, or one a choice where the prompt has to be cut to a different length for each, or where choices
/// are too long for a tree.
struct Asked {
    number: usize,
    row: LogRow,
    questions: Vec<Question>,
}

fn choose(sheet: &mut Sheet<'_, '_>, candidate: &mut Candidate<'_>) -> Result<()> {
    let open = sheet.open();
    let asked = open.into_iter().map(|number| ask(sheet, candidate, number)).collect::<Result<Vec<_>>>()?;
    let mut scorer = ChoiceScorer::new(candidate.decoder, &mut candidate.steps, candidate.kv);
    scorer.share(asked.iter().filter(|a| !a.row.truncated).map(|a| a.questions[0].prompt.as_slice()))?;
    let mut questions = Vec::new();
    let mut owners = Vec::new();
    for asked in asked {
        owners.push((asked.number, asked.row, asked.questions.len()));
        questions.extend(asked.questions);
    }
    let mut owners = owners.into_iter().peekable();
    let mut scores: std::collections::VecDeque<Vec<Likelihood>> = Default::default();
    let mut next = 0;
    while next < questions.len() {
        let count = scorer.together(&questions[next..]);
        scores.extend(scorer.score(&questions[next..next + count])?);
        next += count;
        let mut done = Vec::new();
        while let Some((number, mut row, parts)) = owners.next_if(|(_, _, parts)| *parts <= scores.len()) {
            let likelihoods: Vec<Likelihood> = scores.drain(..parts).flatten().collect();
            likelihoods.iter().try_for_each(|l| finite(&row, l.log))?;
            sheet.exam.judge_choices(number, &likelihoods, &mut row);
            done.push((number, row));
        }
        sheet.add(done)?;
    }
    Ok(())
}

fn finite(row: &LogRow, log: f64) -> Result<()> {
    if log.is_finite() {
        return Ok(());
    }
    Err(Error::Options(format!(
        "{}, item {}: the model gives a log-likelihood of {log}; the weights may be damaged",
        row.task, row.id
    )))
}

fn ask(sheet: &Sheet<'_, '_>, candidate: &Candidate<'_>, number: usize) -> Result<Asked> {
    let item = &sheet.exam.items[number];
    let encoded = encode::choices(candidate.tokenizer, &item.prompt, &item.choices)?;
    let bad = |what: String| Error::Options(format!("{}, item {}: {what}", sheet.exam.name, item.id));
    let longest = encoded.choices.iter().map(Vec::len).max().unwrap_or(0);
    if encoded.prompt.is_empty() {
        return Err(bad("the prompt has no tokens".into()));
    }
    if let Some(empty) = encoded.choices.iter().position(Vec::is_empty) {
        return Err(bad(format!("the choice {:?} has no tokens of its own behind the prompt", item.choices[empty])));
    }
    if longest > candidate.context {
        let context = candidate.context;
        return Err(bad(format!("a choice has {longest} tokens, and the context holds {context}; see --context")));
    }
    // The model sees all but the last token of a choice.
    let truncated = encoded.prompt.len() + longest > candidate.context + 1;
    let mut row = sheet.row(number, encoded.prompt.clone(), truncated);
    row.tokens = encoded.choices.clone();
    let rows: usize = encoded.choices.iter().map(Vec::len).sum();
    let questions = if truncated || (rows > TREE_ROWS && encoded.choices.len() > 1) {
        let cut = |choice: Vec<u32>| {
            let keep = candidate.context + 1 - choice.len();
            let from = encoded.prompt.len().saturating_sub(keep);
            Question { prompt: encoded.prompt[from..].to_vec(), choices: vec![choice] }
        };
        let questions: Vec<Question> = encoded.choices.into_iter().map(cut).collect();
        // What all choices saw at least.
        let least = questions.iter().map(|q| q.prompt.len()).min().unwrap_or(0);
        row.prompt_tokens.drain(..row.prompt_tokens.len() - least);
        questions
    } else {
        vec![Question { prompt: encoded.prompt, choices: encoded.choices }]
    };
    Ok(Asked { number, row, questions })
}

fn write(sheet: &mut Sheet<'_, '_>, candidate: &mut Candidate<'_>) -> Result<()> {
    let open = sheet.open();
    let room = candidate.context.saturating_sub(sheet.exam.max_tokens);
    if room == 0 {
        return Err(Error::Options(format!(
            "{}: answers of {} tokens leave no room for a prompt in a context of {}; see --context",
            sheet.exam.name, sheet.exam.max_tokens, candidate.context
        )));
    }
    let mut rows = Vec::with_capacity(open.len());
    let mut prompts = Vec::with_capacity(open.len());
    for &number in &open {
        let mut tokens = encode::encode(candidate.tokenizer, &sheet.exam.items[number].prompt)?;
        let cut = tokens.len().saturating_sub(room);
        tokens.drain(..cut);
        rows.push(Some((number, sheet.row(number, tokens.clone(), cut > 0))));
        prompts.push(Prompt { tokens, max_tokens: sheet.exam.max_tokens, stop: sheet.exam.until.clone() });
    }
    let many =
        Many { width: candidate.width, context: candidate.context, kv: candidate.kv, sampling: Sampling::GREEDY };
    many.answer(candidate.decoder, candidate.tokenizer, &mut candidate.steps, &prompts, |index, answered| {
        let Some((number, mut row)) = rows[index].take() else { return Ok(()) };
        finite(&row, answered.log_prob)?;
        // As the harness does: control tokens are no part of an answer, and each stop text ends what is left.
        let mut response = candidate.tokenizer.decode_text(&answered.tokens, true)?;
        for stop in sheet.exam.until.iter().filter(|stop| !stop.is_empty()) {
            response.truncate(response.find(stop.as_str()).unwrap_or(response.len()));
        }
        sheet.exam.judge_text(number, response, &mut row)?;
        row.tokens = vec![answered.tokens];
        row.loglikelihoods = vec![answered.log_prob];
        row.greedy = vec![answered.greedy];
        row.stop_reason = Some(answered.stop_reason.name().to_owned());
        sheet.add(vec![(number, row)])
    })
}
