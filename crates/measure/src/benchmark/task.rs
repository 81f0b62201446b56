//! A benchmark's description: a small file that a person can copy and change.
//!
//! A task file says where the data is, what its rows look like, what the model is shown, what counts as right and how that
//! is counted. The files of the built-in tasks stand in `tasks/`; `porism measure run --show TASK` prints one.

use std::collections::BTreeMap;
use std::path::Path;

use fancy_regex::Regex;
use serde::Deserialize;

use super::template::Engine;
use crate::{Error, Result};

/// A task as its file says it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// The name in reports and logs.
    pub name: String,
    /// What it asks of a model, in a line.
    pub about: String,
    /// How an answer is had.
    pub output: Output,
    /// Worked examples before each question, unless the person says otherwise.
    #[serde(default)]
    pub fewshot: usize,
    /// Where the rows are.
    pub data: Data,
    /// What rows look like: the first shape that a row has is used.
    pub rows: Vec<Shape>,
    /// What the model is shown, and what is right.
    pub prompt: Prompt,
    /// Where worked examples come from.
    #[serde(default)]
    pub examples: Examples,
    /// When a generated answer ends.
    #[serde(default)]
    pub generate: Generate,
    /// What is taken out of a generated answer; each filter is scored for itself. None takes the whole.
    #[serde(default)]
    pub filters: Vec<Filter>,
    /// What is counted.
    pub metrics: Vec<Counted>,
}

/// How an answer is had.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// The likeliest of given continuations.
    MultipleChoice,
    /// What the model writes, greedily, until a stop string.
    GenerateUntil,
}

/// Where the rows are.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// The hub's dataset, `owner/name`.
    pub hub: Option<String>,
    /// The dataset's configuration.
    pub config: Option<String>,
    /// Configurations that are tasks of their own, and whose scores are also put together, weighted by their size.
    #[serde(default)]
    pub configs: Vec<String>,
    /// The split that is measured.
    pub split: String,
    /// The split that worked examples come from.
    pub fewshot_split: Option<String>,
    /// Names that the dataset's folder may have under the person's data folder.
    #[serde(default)]
    pub folders: Vec<String>,
    /// By split: names that the publisher gave the file. `{config}` stands for the configuration, `*` for anything.
    #[serde(default)]
    pub files: BTreeMap<String, Vec<String>>,
    /// The file in the hub's repository; `{config}` and `{split}` stand for themselves.
    #[serde(default = "hub_file")]
    pub hub_file: String,
    /// Names of the columns of CSV files that have no header.
    pub columns: Option<Vec<String>>,
    /// Where a person gets the data, in a line.
    pub get: Option<String>,
}

fn hub_file() -> String {
    "{config}/{split}-00000-of-00001.parquet".into()
}

/// What a row must have to be one of this shape, and what its parts are called from here on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Fields, with dots for those within others, and what they hold.
    pub fields: BTreeMap<String, Kind>,
    /// Names for the prompt's templates, as expressions over the row.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// An expression for the item's name in logs. Default: its number, from 0.
    pub id: Option<String>,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A list.
    List,
    /// A list of texts.
    Strings,
    /// A list of whole numbers.
    Integers,
    /// An object.
    Object,
}

/// What the model is shown, and what is right.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prompt {
    /// What stands before everything, a template; `config` is the configuration's name.
    #[serde(default)]
    pub description: String,
    /// The question, a template.
    pub text: String,
    /// What stands between question and answer. With a chat template nothing does.
    #[serde(default = "space")]
    pub delimiter: String,
    /// The choices, an expression; multiple choice only.
    pub choices: Option<String>,
    /// What each choice is turned into, a template over `choice`.
    pub choice: Option<String>,
    /// What is right, an expression: the number of a choice, from 0, or a text.
    pub target: String,
    /// For each choice whether it is true, an expression; for tasks where several are.
    pub labels: Option<String>,
}

fn space() -> String {
    " ".into()
}

/// Where worked examples come from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Examples {
    /// How they are chosen.
    pub rule: Rule,
    /// Draws one more than is shown, and leaves it out, or the question itself if that was drawn: the harness does so for
    /// tasks that measure another split than the test set and do not name a split for worked examples.
    pub spare: bool,
    /// What stands behind each.
    pub separator: String,
    /// With rule `fixed`: the fields that the prompt's text uses, and `target`.
    pub fixed: Vec<BTreeMap<String, String>>,
}

impl Default for Examples {
    fn default() -> Examples {
        Examples { rule: Rule::Random, spare: false, separator: "\n\n".into(), fixed: Vec::new() }
    }
}

/// How worked examples are chosen.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// For each question others, as Python's `random.Random(1234).sample` draws them.
    Random,
    /// The first of their split.
    First,
    /// Those that stand in the task file.
    Fixed,
}

/// When a generated answer ends.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Generate {
    /// Texts that end it; they are not part of it.
    pub until: Vec<String>,
    /// The most tokens.
    pub max_tokens: usize,
}

impl Default for Generate {
    fn default() -> Generate {
        Generate { until: Vec::new(), max_tokens: 256 }
    }
}

/// What is taken out of a generated answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// The name in reports.
    pub name: String,
    /// Takes a match: its first group that is not empty, or all of it where there are no groups.
    pub regex: Option<String>,
    /// Which match.
    #[serde(default)]
    pub select: Select,
    /// What is taken where nothing matches.
    #[serde(default = "invalid")]
    pub fallback: String,
    /// Takes what stands between the first and the last of these marks; where there are not two, everything.
    pub between: Option<String>,
}

fn invalid() -> String {
    "[invalid]".into()
}

/// Which match of several.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Select {
    /// The first.
    #[default]
    First,
    /// The last.
    Last,
}

/// A metric and how it looks at answers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counted {
    /// The name in reports.
    pub name: String,
    /// The metric, where its name in reports is another one.
    pub metric: Option<Measure>,
    /// Patterns that are deleted from answer and target, one after the other.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// Compares in lower case.
    #[serde(default)]
    pub ignore_case: bool,
    /// Deletes ASCII punctuation.
    #[serde(default)]
    pub ignore_punctuation: bool,
}

/// What can be counted of an item.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Whether the likeliest choice is right.
    Acc,
    /// Whether the choice with the highest log-likelihood a character is right.
    AccNorm,
    /// Whether the choice with the highest log-likelihood a UTF-8 byte is right.
    AccBytes,
    /// The probability of the true choices over that of all.
    TrueMass,
    /// Bits of the right choice, its delimiter included, over its UTF-8 bytes.
    BitsPerByte,
    /// Of choices: whether the right one is what the model would have written. Of texts: whether they are equal.
    ExactMatch,
    /// Whether two answers are the same mathematics, as the MATH benchmark's normalization sees it.
    MathEquivalence,
    /// The F-score of the words that answer and target share, from 0 to 1.
    F1,
}

impl Measure {
    const BY_NAME: [(&str, Measure); 8] = [
        ("acc", Measure::Acc),
        ("acc_norm", Measure::AccNorm),
        ("acc_bytes", Measure::AccBytes),
        ("true_mass", Measure::TrueMass),
        ("bits_per_byte", Measure::BitsPerByte),
        ("exact_match", Measure::ExactMatch),
        ("math_equivalence", Measure::MathEquivalence),
        ("f1", Measure::F1),
    ];

    /// Whether it can be had of such an answer.
    fn fits(self, output: Output) -> bool {
        match self {
            Measure::Acc | Measure::AccNorm | Measure::AccBytes | Measure::TrueMass | Measure::BitsPerByte => {
                output == Output::MultipleChoice
            }
            Measure::MathEquivalence | Measure::F1 => output == Output::GenerateUntil,
            Measure::ExactMatch => true,
        }
    }
}

impl Counted {
    /// The metric.
    pub fn measure(&self) -> Option<Measure> {
        self.metric.or_else(|| Measure::BY_NAME.iter().find(|(name, _)| *name == self.name).map(|(_, m)| *m))
    }
}

impl Task {
    /// Reads a task file's text; `file` is its name in errors.
    ///
    /// # Errors
    /// It is no TOML, has an unknown key, lacks one, or contradicts itself: the line or the key is named.
    pub fn parse(file: &str, text: &str) -> Result<Task> {
        let task: Task = toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            Error::Task { file: file.to_owned(), line, what: error.message().to_owned() }
        })?;
        task.check().map_err(|what| Error::Task { file: file.to_owned(), line: None, what })?;
        Ok(task)
    }

    /// Reads a task file.
    ///
    /// # Errors
    /// As [`Task::parse`], or the file cannot be read.
    pub fn read(path: &Path) -> Result<Task> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(Error::io(format!("read the task file {file}")))?;
        Task::parse(&file, &text)
    }

    /// What is wrong with it beyond its syntax.
    fn check(&self) -> std::result::Result<(), String> {
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if self.name.is_empty() || !self.name.chars().all(word) {
            return Err(format!("the name \"{}\": letters, digits, `_`, `-` and `.` make one", self.name));
        }
        let engine = Engine::new();
        let expression = |key: &str, source: &str| engine.check_expression(source).map_err(|e| format!("{key}: {e}"));
        let template = |key: &str, source: &str| engine.check_template(source).map_err(|e| format!("{key}: {e}"));
        if self.rows.is_empty() {
            return Err("rows: at least one shape is needed".into());
        }
        for shape in &self.rows {
            for (name, source) in &shape.set {
                expression(&format!("rows.set.{name}"), source)?;
            }
            shape.id.iter().try_for_each(|source| expression("rows.id", source))?;
        }
        template("prompt.description", &self.prompt.description)?;
        template("prompt.text", &self.prompt.text)?;
        expression("prompt.target", &self.prompt.target)?;
        self.prompt.choices.iter().try_for_each(|source| expression("prompt.choices", source))?;
        self.prompt.choice.iter().try_for_each(|source| template("prompt.choice", source))?;
        self.prompt.labels.iter().try_for_each(|source| expression("prompt.labels", source))?;
        match (self.output, &self.prompt.choices) {
            (Output::MultipleChoice, None) => return Err("prompt.choices: multiple choice needs them".into()),
            (Output::GenerateUntil, Some(_)) => {
                return Err("prompt.choices: a generated answer has none; use output = \"multiple_choice\"".into());
            }
            _ => {}
        }
        let twice = self.data.configs.iter().enumerate().find(|(i, config)| self.data.configs[..*i].contains(config));
        if let Some((_, config)) = twice {
            return Err(format!("data.configs: \"{config}\" stands there twice"));
        }
        if self.data.config.is_some() && !self.data.configs.is_empty() {
            return Err("data: config and configs exclude each other".into());
        }
        if self.examples.rule == Rule::Fixed && self.examples.fixed.iter().any(|e| !e.contains_key("target")) {
            return Err("examples.fixed: each needs a target".into());
        }
        if self.fewshot > 0 && self.examples.rule != Rule::Fixed && self.data.fewshot_split.is_none() {
            return Err("data.fewshot_split: worked examples have to come from somewhere".into());
        }
        if self.output == Output::GenerateUntil && self.generate.max_tokens == 0 {
            return Err("generate.max_tokens: 0 tokens make no answer".into());
        }
        for filter in &self.filters {
            let wrong = |e| format!("filter {}: {e}", filter.name);
            filter.regex.iter().try_for_each(|regex| pattern(regex).map(|_| ()).map_err(wrong))?;
            if filter.regex.is_some() == filter.between.is_some() {
                return Err(format!("filter {}: it needs either regex or between", filter.name));
            }
        }
        if self.metrics.is_empty() {
            return Err("metrics: nothing is counted".into());
        }
        for counted in &self.metrics {
            let Some(measure) = counted.measure() else {
                let known: Vec<&str> = Measure::BY_NAME.iter().map(|(name, _)| *name).collect();
                return Err(format!("metrics: \"{}\" is none of {}", counted.name, known.join(", ")));
            };
            if !measure.fits(self.output) {
                return Err(format!("metrics: {} cannot be had of this output", counted.name));
            }
            if measure == Measure::TrueMass && self.prompt.labels.is_none() {
                return Err("prompt.labels: true_mass needs them".into());
            }
            for text in &counted.ignore {
                pattern(text).map_err(|e| format!("metrics.{}.ignore: {e}", counted.name))?;
            }
        }
        Ok(())
    }

    /// The configurations, each a task of its own: one without a name where there are none.
    pub fn parts(&self) -> Vec<Option<&str>> {
        match self.data.configs.as_slice() {
            [] => vec![self.data.config.as_deref()],
            configs => configs.iter().map(|config| Some(config.as_str())).collect(),
        }
    }

    /// Whether worked examples can be had: TruthfulQA has its own in the question and takes no others.
    pub fn takes_examples(&self) -> bool {
        self.examples.rule == Rule::Fixed || self.data.fewshot_split.is_some()
    }

    /// The name of a part in reports and logs.
    pub fn part_name(&self, config: Option<&str>) -> String {
        match config {
            Some(config) if !self.data.configs.is_empty() => format!("{}_{config}", self.name),
            _ => self.name.clone(),
        }
    }
}

/// A pattern of a task file. As in Python `$` also stands before a newline that ends the text, unless the pattern sets its own
/// rules with `(?m)`.
pub(crate) fn pattern(text: &str) -> std::result::Result<Regex, Box<fancy_regex::Error>> {
    if text.contains("(?") && text.contains('m') {
        return Regex::new(text).map_err(Box::new);
    }
    let (mut python, mut escaped, mut class) = (String::new(), false, false);
    for c in text.chars() {
        match c {
            '$' if !escaped && !class => python.push_str("(?=\\n?\\z)"),
            _ => python.push(c),
        }
        class = !escaped && (c == '[' || class && c != ']') || escaped && class;
        escaped = c == '\\' && !escaped;
    }
    Regex::new(&python).map_err(Box::new)
}

impl Kind {
    /// The word of errors.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Kind::String => "a string",
            Kind::Integer => "a whole number",
            Kind::Number => "a number",
            Kind::Boolean => "true or false",
            Kind::List => "a list",
            Kind::Strings => "a list of strings",
            Kind::Integers => "a list of whole numbers",
            Kind::Object => "an object",
        }
    }
}
