//! Progress of long work: a bar on a terminal, plain lines in a pipe.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use porism_hub::Progress;

use crate::context::{person_watches, say};

/// Time between two plain lines.
const QUIET: Duration = Duration::from_secs(5);

/// What the numbers of a bar count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    /// Tokens, chunks, rows: whatever the label says.
    Items,
}

/// One bar after the other.
pub struct Bar {
    bar: Option<ProgressBar>,
    plain: Option<Plain>,
    unit: Unit,
}

struct Plain {
    what: String,
    total: Option<u64>,
    started: Instant,
    last: Instant,
    note: String,
}

impl Bar {
    /// Of so many the next: the bar starts with the first.
    pub fn step(&mut self, what: &str, done: usize, of: usize, note: &str) {
        if self.bar.is_none() && self.plain.is_none() {
            self.start(what, Some(of as u64));
        }
        self.note(note);
        self.at(done as u64);
    }

    /// For transfers.
    pub fn new() -> Bar {
        Bar { bar: None, plain: None, unit: Unit::Bytes }
    }

    /// For work counted in items.
    pub fn items() -> Bar {
        Bar { unit: Unit::Items, ..Bar::new() }
    }

    /// Changes the words behind the bar.
    pub fn note(&mut self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_string());
        }
        if let Some(plain) = &mut self.plain {
            plain.note = text.to_string();
        }
    }

    fn style(&self, known: bool) -> ProgressStyle {
        let numbers = match (self.unit, known) {
            (Unit::Bytes, true) => "{bytes}/{total_bytes} {bytes_per_sec} ETA {eta}",
            (Unit::Bytes, false) => "{bytes} {bytes_per_sec}",
            (Unit::Items, true) => "{pos}/{len} ETA {eta}",
            (Unit::Items, false) => "{pos}",
        };
        let bar = if known { "[{bar:30}] " } else { "{spinner} " };
        ProgressStyle::with_template(&format!("{{prefix}} {bar}{numbers} {{msg}}"))
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ")
    }
}

impl Progress for Bar {
    fn start(&mut self, what: &str, total: Option<u64>) {
        if person_watches() {
            let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(8));
            bar.set_style(self.style(total.is_some()));
            bar.set_prefix(what.to_string());
            self.bar = Some(bar);
        } else {
            let now = Instant::now();
            self.plain = Some(Plain { what: what.to_string(), total, started: now, last: now, note: String::new() });
        }
    }

    fn at(&mut self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
        let unit = self.unit;
        if let Some(plain) = &mut self.plain
            && plain.last.elapsed() >= QUIET
        {
            plain.last = Instant::now();
            say(&plain.line(done, unit));
        }
    }

    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.plain = None;
    }

    fn message(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }
}

impl Plain {
    fn line(&self, done: u64, unit: Unit) -> String {
        let rate = done as f64 / self.started.elapsed().as_secs_f64().max(1e-3);
        let amount = |v: f64| match unit {
            Unit::Bytes => format!("{:.1} MB", v / 1e6),
            Unit::Items if v > 0.0 && v < 1.0 => format!("{v:.2}"),
            Unit::Items => format!("{v:.0}"),
        };
        let mut line = format!("{}: {}", self.what, amount(done as f64));
        if let Some(total) = self.total {
            let left = (total.saturating_sub(done)) as f64 / rate.max(1e-9);
            line += &format!(" of {}, {}/s, ETA {left:.0} s", amount(total as f64), amount(rate));
        }
        if !self.note.is_empty() {
            line += &format!(", {}", self.note);
        }
        line
    }
}
