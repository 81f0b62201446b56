//! What every command needs: where models are, how to fetch them, how to talk to the person.

use std::collections::BTreeSet;
use std::env::var_os;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use porism_hub::{CacheDir, Network, Proxy, Resolved};
use porism_kernels::attention::paged;
use porism_kernels::{Isa, Pool, pool};
use porism_models::cpu::CpuExecutor;
use porism_models::{Decoder, ModelSource, Stack, load_decoder_with};
use porism_text::Tokenizer;

use crate::commands::adapters::{Scaled, put_on};
use crate::commands::words::{PreTokenizer, RopeArgs};
use crate::machine::available_memory;
use crate::progress::Bar;

/// The environment, read once.
pub struct Context {
    pub cache: CacheDir,
    pub network: Network,
    /// Whether to say how the work is done.
    pub verbose: bool,
}

/// A model that is ready to run.
pub struct Loaded {
    pub path: PathBuf,
    pub decoder: Decoder,
    pub tokenizer: Tokenizer,
}

/// What flags ask of a model beyond what its file says.
pub struct Wishes<'a> {
    pub context: Option<usize>,
    pub rope: &'a RopeArgs,
    pub pre_tokenizer: &'a PreTokenizer,
    pub adapters: &'a [Scaled],
}

impl Context {
    pub fn from_environment(verbose: bool) -> Result<Context> {
        let cache = CacheDir::resolve(var_os("PORISM_HOME"), var_os("XDG_CACHE_HOME"), var_os("HOME"))?;
        let text = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let defaults = Network::default();
        let network = Network {
            endpoint: text("HF_ENDPOINT").unwrap_or(defaults.endpoint.clone()),
            token: text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN")),
            offline: text("HF_HUB_OFFLINE").is_some_and(|v| v != "0"),
            proxy: Proxy::try_from_env(),
            ..defaults
        };
        Ok(Context { cache, network, verbose })
    }

    /// The path of a model: a path, a name of the catalogue or a hub id; `None` means the default model.
    /// Fetches it first if it has to, after saying what.
    pub fn model_path(&self, model: Option<&str>) -> Result<PathBuf> {
        let name = model.unwrap_or(porism_hub::default_model().name);
        match porism_hub::resolve(name, &self.cache, &self.network)? {
            Resolved::Present(path) => Ok(path),
            Resolved::Fetch(plan) => {
                say(&format!("fetching {plan}"));
                Ok(porism_hub::pull(&plan, &self.network, &mut Bar::new())?)
            }
        }
    }

    /// Copies a decoder's weights into huge pages, if there is memory for twice as much and the person did not want them
    /// left in the file's mapping.
    pub fn settle(&self, decoder: &mut Decoder, pool: &Pool, mapped: bool) -> Result<()> {
        let room = |bytes: u64| available_memory().is_some_and(|free| free / 2 > bytes);
        let copied = !mapped && room(decoder.settled_bytes() as u64);
        if copied {
            decoder.settle(pool)?;
        }
        if self.verbose {
            let words = if copied { "copied into huge pages" } else { "read where the file is mapped" };
            say(&format!("verbose: weights {words}"));
        }
        Ok(())
    }

    /// With --verbose: says how a model will be run.
    pub fn tell(&self, stack: &Stack, steps: &CpuExecutor) {
        if !self.verbose {
            return;
        }
        let (threads, isa, activations) = (steps.pool().threads(), steps.isa().name(), steps.activations().name());
        let threads = if threads == 1 { "1 thread".into() } else { format!("{threads} threads") };
        say(&format!("verbose: {threads}, instructions {isa}, activations {activations}"));
        let dims: BTreeSet<usize> = stack.blocks.iter().map(|block| block.attention.spec.head_dim).collect();
        for dim in dims {
            say(&format!("verbose: attention with heads of {dim} features: {}", paged::path(dim)));
        }
    }

    /// Opens a model without loading its weights.
    pub fn open(&self, model: Option<&str>) -> Result<(PathBuf, ModelSource)> {
        let path = self.model_path(model)?;
        let source = ModelSource::open(&path)?;
        Ok((path, source))
    }

    /// Opens a model with its tokenizer, as its file says, and puts adapters on it.
    pub fn load_plain(&self, model: Option<&str>, adapters: &[Scaled]) -> Result<Loaded> {
        let (rope, pre_tokenizer) = (RopeArgs::default(), PreTokenizer::default());
        self.load(model, &Wishes { context: None, rope: &rope, pre_tokenizer: &pre_tokenizer, adapters })
    }

    /// Opens a model with its tokenizer.
    pub fn load(&self, model: Option<&str>, wishes: &Wishes<'_>) -> Result<Loaded> {
        let (path, source) = self.open(model)?;
        let mut decoder = load_decoder_with(&source, &wishes.rope.options(&source, wishes.context)?)?;
        put_on(wishes.adapters, &source, &mut decoder, self)?;
        let tokenizer = wishes
            .pre_tokenizer
            .tokenizer(&source)
            .with_context(|| format!("{}: no usable tokenizer", path.display()))?;
        Ok(Loaded { path, decoder, tokenizer })
    }
}

/// A mistake in how the program was called: exit code 2.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// An error that says how the program should have been called.
pub fn usage<T>(words: impl Into<String>) -> Result<T> {
    Err(Usage(words.into()).into())
}

/// Says so if threads will have to share cores: it works, and is seldom what was meant.
pub fn oversubscribed(threads: usize) {
    let cores = pool::usable_cores();
    if threads > cores {
        say(&format!("note: {threads} threads on {cores} usable cores"));
    }
}

/// A pool of the given number of threads, by default one for each usable core.
pub fn threads(wanted: Option<usize>) -> (Arc<Pool>, Isa) {
    if let Some(threads) = wanted {
        oversubscribed(threads);
    }
    (Arc::new(Pool::new(wanted.unwrap_or_else(pool::usable_cores))), Isa::detect())
}

/// A line for the person, on stderr.
#[allow(clippy::print_stderr)] // the one place that talks
pub fn say(line: &str) {
    eprintln!("{line}");
}

/// Whether stderr is a terminal that a person looks at.
pub fn person_watches() -> bool {
    std::io::stderr().is_terminal()
}
