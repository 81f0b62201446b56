//! What the metrics' files and common flags are.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use porism_measure::metric::Corpus;
use porism_report::interval::Resampling;

use super::super::input;
use super::super::words::thread_count;
use crate::context::{say, usage};

/// How the interval is drawn, and what is printed.
#[derive(Args)]
pub struct Output {
    /// Resamples of the segments for the 95 % interval; 0 for none
    #[arg(long, value_name = "N", default_value_t = Resampling::default().resamples)]
    pub resamples: usize,
    /// What the resamples follow from
    #[arg(long, value_name = "N", default_value_t = Resampling::default().seed)]
    pub seed: u64,
    /// Threads [default: usable cores]
    #[arg(long, value_name = "N", value_parser = thread_count)]
    pub threads: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// The texts to compare.
#[derive(Args)]
pub struct Texts {
    /// References, one segment a line; each further file holds another reference for each segment
    #[arg(long = "ref", value_name = "FILE", num_args = 1.., required = true)]
    references: Vec<PathBuf>,
    /// Hypotheses, one segment a line (- is standard input)
    #[arg(long = "hyp", value_name = "FILE")]
    hypotheses: PathBuf,
    /// Give each segment's own score too, one a line
    #[arg(long)]
    pub sentence: bool,
}

/// The segments of the files.
pub struct Loaded {
    hypotheses: Vec<String>,
    references: Vec<Vec<String>>,
}

/// The lines of a text; the last one may end without a break.
fn lines(text: &str, line_break: Option<&str>) -> Vec<String> {
    let mut lines: Vec<&str> = text.split('\n').collect();
    if lines.last().is_some_and(|last| last.is_empty()) {
        lines.pop();
    }
    let bare = |line: &str| {
        let line = line.strip_suffix('\r').unwrap_or(line);
        line_break.map_or_else(|| line.to_string(), |mark| line.replace(mark, "\n"))
    };
    lines.into_iter().map(bare).collect()
}

fn texts(lines: &[String]) -> Vec<&str> {
    lines.iter().map(String::as_str).collect()
}

fn counted(n: usize) -> String {
    if n == 1 { "1 line".into() } else { format!("{n} lines") }
}

impl Texts {
    /// Reads the files; a mark may stand for a line break within a segment.
    pub fn load(&self, line_break: Option<&str>) -> Result<Loaded> {
        if line_break == Some("") {
            return usage("--line-break: an empty mark stands everywhere");
        }
        let name = input::name_of(&self.hypotheses);
        let hypotheses = lines(&input::text_of(&self.hypotheses)?, line_break);
        if hypotheses.is_empty() {
            anyhow::bail!("{name} has no lines: there is nothing to score");
        }
        let mut references = Vec::new();
        for file in &self.references {
            let set = lines(&input::text_of(file)?, line_break);
            let (file, own, theirs) = (input::name_of(file), hypotheses.len(), set.len());
            if set.iter().all(|line| line.trim().is_empty()) {
                anyhow::bail!("{file} has no references, only {}: there is nothing to compare with", counted(theirs));
            }
            if own != theirs {
                let (own, theirs) = (counted(own), counted(theirs));
                anyhow::bail!(
                    "{name} has {own} and {file} has {theirs}: each hypothesis needs a reference in each file"
                );
            }
            let empty = set.iter().filter(|line| line.trim().is_empty()).count();
            if empty > 0 {
                say(&format!("note: {empty} of {theirs} references in {file} are empty"));
            }
            references.push(set);
        }
        Ok(Loaded { hypotheses, references })
    }
}

impl Loaded {
    /// The segments side by side.
    pub fn corpus(&self) -> Result<Corpus<'_>> {
        Ok(Corpus::new(texts(&self.hypotheses), self.references.iter().map(|set| texts(set)).collect())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_break_at_the_end_makes_no_line() {
        assert_eq!(lines("a\r\nb<n>c\n", Some("<n>")), ["a", "b\nc"]);
        assert_eq!(lines("a\n\n", None), ["a", ""]);
        assert!(lines("", None).is_empty());
    }
}
