//! The trainer: updates one after the other, with checkpoints, validation and a watchdog.

use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::{Device, Tensor};
use porism_formats::remove_unfinished;
use porism_models::Decoder;
use porism_models::tape::{BlockMemory, Dropout, Parameter, TapeExecutor};
use porism_text::examples::Example;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::adapter::Magnitudes;
use crate::checkpoint::{Checkpoint, State};
use crate::course::{Batching, Course};
use crate::data::{Data, Split};
use crate::goal::Goal;
use crate::log::{Log, Record};
use crate::memory::{self, Tape};
use crate::optimizer::Optimizer;
use crate::passes::{gradients, mean_loss, micros};
use crate::recipe::{Method, Recipe, Switch};
use crate::watchdog::{Alarm, Watchdog};
use crate::{Error, Result};

/// What a run tells while it runs.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// An update is done.
    Update {
        /// What there is to say of it.
        record: &'a Record,
        /// Updates in all.
        steps: u64,
    },
    /// A checkpoint was written.
    Saved(&'a Path),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Updates that are done.
    pub steps: u64,
    /// The loss of the first and of the last batch of this run.
    pub loss: Option<(f64, f64)>,
    /// The validation loss before the first update and behind the last.
    pub val_loss: Option<(f64, f64)>,
    /// The loss of the test split behind the last update.
    pub test_loss: Option<f64>,
    /// What ended it early.
    pub alarm: Option<Alarm>,
}

/// A run.
pub struct Trainer<'a> {
    /// The model; its weights stay as they are, trained values are the executor's.
    pub decoder: &'a Decoder,
    /// Runs passes; its parameters are what is trained.
    pub executor: TapeExecutor,
    /// DoRA's magnitudes, if there are any.
    pub magnitudes: Magnitudes,
    /// Updates parameters.
    pub optimizer: Optimizer,
    /// What is minimised.
    pub goal: Goal<'a>,
    /// Settings.
    pub recipe: &'a Recipe,
    /// Examples.
    pub data: &'a Data,
    /// The run's folder.
    pub folder: PathBuf,
    /// Tells this run from others, in checkpoints.
    pub run: String,
    /// Whether to go on from the folder's newest checkpoint.
    pub resume: bool,
    /// Bytes of activations that may be kept where the recipe leaves it open.
    pub budget: u64,
}

/// Tokens of a micro-batch: enough to keep the products busy; what is held of activations grows with them.
const MICRO: usize = 512;

impl std::fmt::Debug for Trainer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trainer({:?}, {})", self.executor, self.folder.display())
    }
}

impl Trainer<'_> {
    /// The names of what is trained, as checkpoints have them.
    fn names(&self) -> Vec<String> {
        self.executor.parameters().iter().map(|(name, _)| format!("{name:?}")).collect()
    }

    /// Updates in all.
    pub fn steps(&self) -> u64 {
        match self.recipe.steps {
            0 => self.course().updates(self.recipe.epochs).max(1),
            steps => steps,
        }
    }

    fn course(&self) -> Course {
        let batching = Batching {
            batch: self.recipe.batch,
            accumulate: self.recipe.accumulate,
            length: self.recipe.length,
            packing: self.recipe.packing == Switch::On,
            shuffle: !self.recipe.no_shuffle,
            seed: self.recipe.seed,
        };
        Course::new(&self.data.train.examples, batching)
    }

    /// Runs until the last update, or until the watchdog barks: what is trained then stands where the last checkpoint has it.
    ///
    /// # Errors
    /// A pass fails, the checkpoint is of another run, or a file cannot be written.
    pub fn train(&mut self, tell: &mut dyn FnMut(Event<'_>)) -> Result<Outcome> {
        let (steps, names) = (self.steps(), self.names());
        let mut course = self.course();
        let mut state = State { step: 0, run: self.run.clone(), best: None };
        if self.resume && self.folder.is_dir() {
            remove_unfinished(&self.folder)?;
        }
        if self.resume
            && let Some(checkpoint) = Checkpoint::newest(&self.folder, &names, &self.run)?
        {
            self.restore(&checkpoint)?;
            state = checkpoint.state;
            course.by_ref().take(state.step as usize).for_each(drop);
        }
        let mut log = Log::open(&self.folder.join("log.jsonl"), state.step)?;
        let mut dog = Watchdog::default();
        let mut outcome = Outcome { steps: state.step, loss: None, val_loss: None, test_loss: None, alarm: None };
        if let Some(before) = self.loss_of(self.data.valid.as_ref())? {
            outcome.val_loss = Some((before, before));
        }
        while state.step < steps {
            let Some(batch) = course.next() else { break };
            let record = self.update(state.step, steps, &batch)?;
            outcome.loss = Some((outcome.loss.map_or(record.loss, |(first, _)| first), record.loss));
            let alarm = dog.see(record.loss, record.grad_norm);
            if alarm.is_some() {
                outcome.alarm = alarm;
                if let Some(checkpoint) = Checkpoint::newest(&self.folder, &names, &self.run)? {
                    self.restore(&checkpoint)?;
                    outcome.steps = checkpoint.state.step;
                }
                log.add(&record)?;
                return Ok(outcome);
            }
            state.step += 1;
            outcome.steps = state.step;
            let due = |every: u64| state.step == steps || (every > 0 && state.step.is_multiple_of(every));
            let val_loss = if due(self.recipe.validate_every) { self.loss_of(self.data.valid.as_ref())? } else { None };
            if let Some(now) = val_loss {
                outcome.val_loss = Some((outcome.val_loss.map_or(now, |(first, _)| first), now));
                if state.best.is_none_or(|(best, _)| now < best) {
                    state.best = Some((now, state.step));
                }
            }
            let record = Record { val_loss, ..record };
            log.add(&record)?;
            tell(Event::Update { record: &record, steps });
            if due(self.recipe.checkpoint_every) {
                let path = self.checkpoint(&state)?.save(&self.folder, &names)?;
                tell(Event::Saved(&path));
            }
        }
        outcome.test_loss = self.loss_of(self.data.test.as_ref())?;
        Ok(outcome)
    }

    /// One update of the examples of a batch.
    fn update(&mut self, step: u64, steps: u64, batch: &[usize]) -> Result<Record> {
        let begun = Instant::now();
        let examples: Vec<&Example> = batch.iter().map(|&i| &self.data.train.examples[i]).collect();
        let micros = micros(&examples, MICRO);
        let tokens: usize = micros.iter().map(|micro| micro.tokens()).sum();
        let longest = micros.iter().map(|micro| micro.tokens()).max().unwrap_or(0);
        let tape = Tape { full: self.recipe.method == Method::Full, dropout: self.recipe.dropout > 0.0 };
        let plan = memory::plan(self.decoder, self.recipe.recompute, longest, self.budget, tape);
        let memory = |block: usize| plan.get(block).copied().unwrap_or(BlockMemory::Keep);
        self.magnitudes.renew(&self.executor)?;
        let share = self.recipe.dropout as f32;
        let dropout = (share > 0.0).then(|| Dropout { share, key: dropout_key(self.recipe.seed, step) });
        let mut found = gradients(self.decoder, &mut self.executor, &micros, self.goal, dropout, memory)?;
        self.magnitudes.gradients(&mut found.parts);
        let learning_rate = self.recipe.lr * self.recipe.schedule.factor(step, steps, self.recipe.warmup);
        let grad_norm = self.optimizer.clip(&mut found.parts, self.recipe.clip);
        // What is no number is not applied: the watchdog ends the run where it stands.
        if grad_norm.is_finite() && found.loss.is_finite() {
            let names: Vec<Parameter> = self.executor.parameters().iter().map(|(name, _)| name).collect();
            for (index, (name, gradient)) in names.into_iter().zip(&found.parts).enumerate() {
                if let Some(values) = self.magnitudes.values_mut(index) {
                    self.optimizer.step(index, values, gradient, learning_rate, self.recipe.weight_decay)?;
                    continue;
                }
                let Some(var) = self.executor.parameters().get(name) else { continue };
                let step = |values: &mut [f32]| {
                    self.optimizer.step(index, values, gradient, learning_rate, self.recipe.weight_decay)
                };
                porism_ops::in_place(var, step).map_err(porism_models::Error::from)??;
            }
        }
        Ok(Record {
            step: step + 1,
            loss: found.loss,
            val_loss: None,
            learning_rate,
            grad_norm,
            tokens_per_second: tokens as f64 / begun.elapsed().as_secs_f64(),
            peak_rss_bytes: peak_rss_bytes(),
        })
    }

    /// The loss of examples that are held out.
    fn loss_of(&mut self, split: Option<&Split>) -> Result<Option<f64>> {
        let Some(split) = split else { return Ok(None) };
        self.magnitudes.renew(&self.executor)?;
        let examples: Vec<&Example> = split.examples.iter().collect();
        Ok(Some(mean_loss(self.decoder, &mut self.executor, &micros(&examples, MICRO))?))
    }

    fn checkpoint(&self, state: &State) -> Result<Checkpoint> {
        let values = |(index, (_, var)): (usize, (Parameter, &candle_core::Var))| match self.magnitudes.values(index) {
            Some(values) => Ok(values.to_vec()),
            None => Ok(var.flatten_all()?.to_vec1::<f32>()?),
        };
        let parameters = self.executor.parameters().iter().enumerate().map(values).collect::<Result<_>>()?;
        let mut optimizer = Vec::new();
        self.optimizer.write_to(&mut optimizer)?;
        Ok(Checkpoint { state: state.clone(), parameters, optimizer })
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        for (index, ((name, var), values)) in self.executor.parameters().iter().zip(&checkpoint.parameters).enumerate()
        {
            if values.len() != var.elem_count() {
                return Err(Error::Recipe(format!(
                    "the checkpoint's {name:?} has {} numbers where {} are trained",
                    values.len(),
                    var.elem_count()
                )));
            }
            match self.magnitudes.values_mut(index) {
                Some(magnitudes) => magnitudes.clone_from(values),
                None => var.set(&Tensor::from_slice(values, var.shape(), &Device::Cpu)?)?,
            }
        }
        self.optimizer.read_from(&mut checkpoint.optimizer.as_slice())
    }
}

/// What the dropout of an update hangs on: a run that goes on drops what it would have dropped.
fn dropout_key(seed: u64, step: u64) -> u64 {
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0x6472_6f70_6f75_7400);
    random.set_stream(step);
    random.random()
}

/// The most physical memory that the process ever had; 0 where the system does not say.
fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.trim().strip_suffix("kB")).and_then(|n| n.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}
