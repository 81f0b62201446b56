//! A recipe: everything that a run depends on, as a flat file that a person can read and change.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, Result, Schedule};

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Every weight of the model.
    Full,
    /// A low-rank adapter over the frozen model (Hu et al. 2021).
    Lora,
    /// The same over a model that is kept in few bits (Dettmers et al. 2023).
    Qlora,
}

/// Which kind of low-rank adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// A at random, B zero, scaled by alpha / rank.
    Lora,
    /// Scaled by alpha / sqrt(rank) (Kalajdzievski 2023).
    Rslora,
    /// Magnitude and direction apart (Liu et al. 2024).
    Dora,
    /// Begins with the weight's largest singular directions (Meng et al. 2024).
    Pissa,
}

/// What the frozen base is held as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BaseType {
    /// As in its file, in whatever blocks.
    Keep,
    /// Four bits, the levels those of a normal distribution (Dettmers et al. 2023).
    Nf4,
    /// Four-bit floats.
    Fp4,
}

/// Which rule updates the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerName {
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019).
    Adamw,
    /// Stochastic gradient descent with momentum 0.9.
    Sgd,
    /// AdamW with its moments in 8 bits (Dettmers et al. 2022).
    Adamw8bit,
}

/// When a block's activations are computed a second time instead of being kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recompute {
    /// Where memory is short.
    Auto,
    /// In every block.
    All,
    /// In none.
    None,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    /// Yes.
    On,
    /// No.
    Off,
}

/// A run's settings. Keys of the file are the flags' words with `_`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// What is trained.
    pub method: Method,
    /// The model: a path, a name of the catalogue, or owner/repo of the hub.
    pub model: String,
    /// The file of a model that begins with random weights, instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_scratch: Option<PathBuf>,
    /// A file of examples, or a folder with train, and perhaps valid and test.
    pub data: PathBuf,
    /// Where adapter, recipe, log and checkpoints go.
    pub output: PathBuf,
    /// Updates; 0: as many as `epochs` make.
    pub steps: u64,
    /// Times that every example is seen.
    pub epochs: f64,
    /// Rows of at most `length` tokens in a batch.
    pub batch: usize,
    /// Tokens of a row.
    pub length: usize,
    /// The learning rate at its highest.
    pub lr: f64,
    /// What chance hangs on.
    pub seed: u64,
    /// Rank of an adapter.
    pub rank: usize,
    /// Its scale is alpha / rank.
    pub alpha: f64,
    /// Share of an adapter's inputs that is dropped in training.
    pub dropout: f64,
    /// Names of projections, or all-linear.
    pub targets: Vec<String>,
    /// Which kind of adapter.
    pub variant: Variant,
    /// What the frozen base is held as.
    pub base_type: BaseType,
    /// Whether the scales of NF4 and FP4 are rounded to 8 bits too.
    pub double_quant: bool,
    /// Which rule updates weights.
    pub optimizer: OptimizerName,
    /// Whether its state lives in mapped files.
    pub paged: bool,
    /// Batches whose gradients make one update.
    pub accumulate: usize,
    /// How the learning rate goes on.
    pub schedule: Schedule,
    /// Updates over which it rises.
    pub warmup: u64,
    /// How much of each weight an update takes away, times the learning rate.
    pub weight_decay: f64,
    /// The longest gradient; 0: as long as it is.
    pub clip: f64,
    /// Whether short examples share a row. They do not see each other.
    pub packing: Switch,
    /// What is computed twice.
    pub recompute: Recompute,
    /// A PEFT folder to begin with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_adapter: Option<PathBuf>,
    /// Whether examples come in the file's order, and not in another one each epoch.
    pub no_shuffle: bool,
    /// Share of a single file's examples that is held out for validation.
    pub validation: f64,
    /// Updates between validations; 0: at the end only.
    pub validate_every: u64,
    /// Updates between checkpoints; 0: at the end only.
    pub checkpoint_every: u64,
    /// Whether broken lines are counted and left out.
    pub skip_bad: bool,
}

impl Default for Recipe {
    fn default() -> Recipe {
        Recipe {
            method: Method::Lora,
            model: String::new(),
            from_scratch: None,
            data: PathBuf::new(),
            output: PathBuf::new(),
            steps: 0,
            epochs: 1.0,
            batch: 4,
            length: 512,
            lr: 2e-4,
            seed: 0,
            rank: 16,
            alpha: 32.0,
            dropout: 0.0,
            targets: vec!["all-linear".into()],
            variant: Variant::Lora,
            base_type: BaseType::Keep,
            double_quant: false,
            optimizer: OptimizerName::Adamw,
            paged: false,
            accumulate: 1,
            schedule: Schedule::Constant,
            warmup: 0,
            weight_decay: 0.0,
            clip: 0.0,
            packing: Switch::On,
            recompute: Recompute::Auto,
            init_adapter: None,
            no_shuffle: false,
            validation: 0.05,
            validate_every: 50,
            checkpoint_every: 50,
            skip_bad: false,
        }
    }
}

impl Recipe {
    /// Reads a recipe; `settings` are `key=value` that take the place of what the file says.
    ///
    /// # Errors
    /// It cannot be read, a key is not known (the line is named), or a value is of another kind.
    pub fn read(path: &Path, settings: &[String]) -> Result<Recipe> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read the recipe", path))?;
        Recipe::parse(&path.display().to_string(), &text, settings)
    }

    /// The same from text; `name` stands for it in messages.
    ///
    /// # Errors
    /// As for [`Recipe::read`].
    pub fn parse(name: &str, text: &str, settings: &[String]) -> Result<Recipe> {
        let bad = |error: &toml::de::Error| {
            let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let at = line.map_or(String::new(), |line| format!(", line {line}"));
            Error::Recipe(format!("{name}{at}: {}", error.message().trim()))
        };
        // Read as it stands first, so that what is wrong has a line.
        toml::from_str::<Recipe>(text).map_err(|e| bad(&e))?;
        let mut table: toml::Table = toml::from_str(text).map_err(|e| bad(&e))?;
        for setting in settings {
            let Some((key, value)) = setting.split_once('=') else {
                return Err(Error::Recipe(format!("`{setting}` is no setting; write key=value")));
            };
            // A value is TOML if it can be, else a word.
            let value = toml::from_str::<toml::Table>(&format!("value = {value}"))
                .ok()
                .and_then(|mut table| table.remove("value"))
                .unwrap_or_else(|| toml::Value::String(value.to_owned()));
            table.insert(key.trim().replace('-', "_"), value);
        }
        let words = |e: toml::de::Error| Error::Recipe(format!("--set: {}", e.message().trim()));
        let recipe: Recipe = toml::Value::Table(table).try_into().map_err(words)?;
        recipe.check()?;
        Ok(recipe)
    }

    /// What contradicts itself or leaves nothing to do.
    ///
    /// # Errors
    /// Says which setting is out of range.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::Recipe(what));
        for (name, value) in [("batch", self.batch), ("accumulate", self.accumulate), ("rank", self.rank)] {
            if value == 0 {
                return wrong(format!("{name} is 0; it is at least 1"));
            }
        }
        if self.length < 2 {
            return wrong(format!("length is {}; a row needs 2 tokens, one to learn and one before it", self.length));
        }
        if !(0.0..1.0).contains(&self.validation) {
            return wrong(format!("validation is {}; it is from 0 to less than 1", self.validation));
        }
        let positive = [("lr", self.lr), ("alpha", self.alpha)];
        if let Some((name, value)) = positive.into_iter().find(|(_, v)| !(v.is_finite() && *v > 0.0)) {
            return wrong(format!("{name} is {value}; it has to be greater than 0"));
        }
        let natural = [("weight_decay", self.weight_decay), ("clip", self.clip), ("epochs", self.epochs)];
        if let Some((name, value)) = natural.into_iter().find(|(_, v)| !(v.is_finite() && *v >= 0.0)) {
            return wrong(format!("{name} is {value}; it is 0 or greater"));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return wrong(format!("dropout is {}; it is from 0 to less than 1", self.dropout));
        }
        if self.method == Method::Full && self.dropout > 0.0 {
            return wrong("dropout is for adapters: with method full nothing would be dropped".into());
        }
        if self.method == Method::Full && self.base_type != BaseType::Keep {
            return wrong("base_type is for adapters: with method full there is no frozen base".into());
        }
        if self.double_quant && self.base_type == BaseType::Keep {
            return wrong("double_quant rounds the scales of nf4 and fp4: give base_type nf4".into());
        }
        if self.variant == Variant::Pissa && self.init_adapter.is_some() {
            return wrong("variant pissa begins with the weights' own directions: leave init_adapter out".into());
        }
        if self.from_scratch.is_some() && self.method != Method::Full {
            return wrong("from_scratch needs method full: an adapter of random weights learns nothing".into());
        }
        if self.from_scratch.is_some() && !self.model.is_empty() {
            return wrong(format!("from_scratch makes a model of its own: leave the model {} out", self.model));
        }
        if self.steps == 0 && self.epochs == 0.0 {
            return wrong("neither steps nor epochs: there is nothing to do".into());
        }
        if self.method != Method::Full && self.targets.is_empty() {
            return wrong("targets: name projections, or all-linear".into());
        }
        Ok(())
    }

    /// An adapter's scale.
    pub fn scale(&self) -> f64 {
        match self.variant {
            Variant::Rslora => self.alpha / (self.rank as f64).sqrt(),
            Variant::Lora | Variant::Dora | Variant::Pissa => self.alpha / self.rank as f64,
        }
    }

    /// The recipe as a file, with what each key means; keys without a value are there as comments.
    pub fn commented(&self) -> String {
        let mut text = String::new();
        let mut table = toml::Table::try_from(self).unwrap_or_default();
        for (key, words) in KEYS {
            let line = match table.remove(*key) {
                Some(value) => format!("{key} = {value}"),
                None => format!("#{key} = \"..\""),
            };
            text.push_str(&format!("# {words}\n{line}\n"));
        }
        text
    }
}

/// What each key means.
const KEYS: &[(&str, &str)] = &[
    ("method", "full, lora or qlora"),
    ("model", "a path, a name of the catalogue, or owner/repo of the hub"),
    ("from_scratch", "the file of a model that begins with random weights, instead"),
    (
        "data",
        "a JSONL file of examples, a plain text (.txt), or a folder with train.jsonl, perhaps valid.jsonl and test.jsonl",
    ),
    ("output", "the folder for adapter, recipe, log and checkpoints"),
    ("steps", "updates; 0: as many as the epochs make"),
    ("epochs", "times that every example is seen"),
    ("batch", "rows of at most `length` tokens in a batch"),
    ("length", "tokens of a row"),
    ("lr", "the learning rate at its highest"),
    ("seed", "what chance hangs on"),
    ("rank", "rank of the adapter"),
    ("alpha", "its scale is alpha / rank, or alpha / sqrt(rank) with rslora"),
    ("targets", "names of projections, such as [\"q_proj\", \"v_proj\"], or [\"all-linear\"]"),
    ("dropout", "share of the adapter's inputs that is dropped in training"),
    ("variant", "lora, rslora, dora or pissa"),
    ("base_type", "what the frozen base is held as: keep (as in its file), nf4 or fp4"),
    ("double_quant", "whether the scales of nf4 and fp4 are rounded to 8 bits too"),
    ("optimizer", "adamw, sgd or adamw8bit"),
    ("paged", "whether the optimizer's state lives in mapped files that the system may evict"),
    ("accumulate", "batches whose gradients make one update"),
    ("schedule", "constant, linear or cosine"),
    ("warmup", "updates over which the learning rate rises"),
    ("weight_decay", "how much of each matrix an update takes away, times the learning rate"),
    ("clip", "the longest gradient; 0: as long as it is"),
    ("packing", "on: short examples share a row, without seeing each other"),
    ("recompute", "auto, all or none: blocks that are computed twice to save memory"),
    ("init_adapter", "a PEFT folder to begin with"),
    ("no_shuffle", "whether examples come in the file's order, and not in another one each epoch"),
    ("validation", "share of a single file's examples that is held out"),
    ("validate_every", "updates between validations; 0: at the end only"),
    ("checkpoint_every", "updates between checkpoints; 0: at the end only"),
    ("skip_bad", "whether broken lines are counted and left out"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_written_recipe_reads_as_itself() {
        let recipe = Recipe { lr: 1e-3, targets: vec!["q_proj".into()], ..Recipe::default() };
        let text = recipe.commented();
        assert_eq!(Recipe::parse("r.toml", &text, &[]).unwrap(), recipe);
        // Every key is there and explained, also those that have no value, which are comments.
        let all = Recipe { init_adapter: Some("a".into()), from_scratch: Some("s".into()), ..recipe };
        let table = toml::Table::try_from(&all).unwrap();
        assert_eq!(
            table.keys().cloned().collect::<BTreeSet<_>>(),
            KEYS.iter().map(|(key, _)| (*key).to_owned()).collect()
        );
        assert!(text.contains("\n#init_adapter = ") && all.commented().contains("\ninit_adapter = \"a\"\n"), "{text}");
    }

    #[test]
    fn settings_take_the_place_of_lines() {
        let settings = ["lr=1e-3", "targets=[\"q_proj\"]", "variant=dora", "init-adapter=there"].map(String::from);
        let recipe = Recipe::parse("r.toml", "lr = 0.5\n", &settings).unwrap();
        assert_eq!((recipe.lr, recipe.variant), (1e-3, Variant::Dora));
        assert_eq!((recipe.targets, recipe.init_adapter), (vec!["q_proj".to_owned()], Some("there".into())));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let table = [
            ("lr = 1e-3\nranks = 4\n", "", "r.toml, line 2: unknown field `ranks`"),
            ("method = \"qora\"\n", "", "line 1"),
            ("batch = 0\n", "", "batch is 0"),
            ("validation = 1.0\n", "", "validation is 1"),
            ("lr = -1.0\n", "", "lr is -1"),
            ("steps = 0\nepochs = 0.0\n", "", "nothing to do"),
            ("", "lr", "`lr` is no setting"),
            ("", "speed=3", "unknown field `speed`"),
        ];
        for (text, setting, words) in table {
            let settings: Vec<String> = Some(setting).filter(|s| !s.is_empty()).map(String::from).into_iter().collect();
            let error = Recipe::parse("r.toml", text, &settings).unwrap_err().to_string();
            assert!(error.contains(words), "{text}{setting}: {error}");
        }
    }

    #[test]
    fn the_books_arithmetic_of_scales() {
        let plain = Recipe { rank: 16, alpha: 32.0, ..Recipe::default() };
        assert_eq!(plain.scale(), 2.0);
        assert_eq!(Recipe { variant: Variant::Rslora, ..plain }.scale(), 8.0);
    }
}
