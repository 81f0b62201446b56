//! `rank_pattern` and `alpha_pattern`: regular expressions of module paths, each with a number.

use fancy_regex::{Regex, RegexBuilder};
use serde_json::Value;

use crate::hf::JsonFile;
use crate::{Error, Result};

/// Patterns, patterns times modules, and steps of one match: what a hostile file can make us do is bounded by them.
const MOST_PATTERNS: usize = 1 << 12;
const MOST_MATCHES: usize = 1 << 20;
const MOST_STEPS: usize = 10_000;
const MOST_BYTES: usize = 1 << 10;

/// Patterns in the file's order, which decides where several fit.
#[derive(Clone, Debug)]
pub(super) struct Patterns<T> {
    entries: Vec<(Regex, T)>,
    key: &'static str,
    file: String,
}

impl<T: Copy> Patterns<T> {
    /// The patterns under a key; `number` turns a value into what it must be, described by `expected`.
    pub(super) fn read(
        json: &JsonFile,
        key: &'static str,
        expected: &str,
        modules: usize,
        number: impl Fn(&Value) -> Option<T>,
    ) -> Result<Patterns<T>> {
        let file = json.name().to_owned();
        let object = json.find_object(key)?;
        let object = object.as_ref().map(JsonFile::root);
        let count = object.map_or(0, |o| o.len());
        if count > MOST_PATTERNS || count.saturating_mul(modules) > MOST_MATCHES {
            let problem = format!("`{key}` has {count} patterns for {modules} modules, more than any model has");
            return Err(Error::invalid(&file, problem));
        }
        let mut entries = Vec::with_capacity(count);
        for (text, value) in object.into_iter().flatten() {
            let shown = text.chars().take(60).collect::<String>();
            let shown = shown.escape_debug();
            let bad = |what: String| Error::invalid(&file, format!("`{key}`: the pattern \"{shown}\" {what}"));
            let value = number(value).ok_or_else(|| bad(format!("should have {expected}, but has {value}")))?;
            entries.push((compile(text).map_err(bad)?, value));
        }
        Ok(Patterns { entries, key, file })
    }

    /// The number of the first pattern that fits a module.
    pub(super) fn find(&self, module: &str) -> Result<Option<T>> {
        for (regex, value) in &self.entries {
            let fits = regex.is_match(module).map_err(|e| {
                Error::invalid(&self.file, format!("`{}`: a pattern cannot be tried on `{module}`: {e}", self.key))
            })?;
            if fits {
                return Ok(Some(*value));
            }
        }
        Ok(None)
    }
}

/// A pattern as PEFT asks it: of a whole path, or of its end behind a dot.
pub(super) fn compile(text: &str) -> std::result::Result<Regex, String> {
    if text.len() > MOST_BYTES {
        return Err(format!("is longer than {MOST_BYTES} bytes"));
    }
    RegexBuilder::new(&format!(r"^(?:(.*\.)?({text})$)"))
        .backtrack_limit(MOST_STEPS)
        .delegate_size_limit(1 << 20)
        .build()
        .map_err(|e| format!("is no regular expression: {e}"))
}
