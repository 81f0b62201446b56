//! What a score was computed with, in the form that sacrebleu made common.

use std::fmt;

/// Keys and values that together fix a score, such as `nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature(Vec<(&'static str, String)>);

impl Signature {
    /// A signature of a metric with a number of references.
    pub(crate) fn new(references: usize) -> Signature {
        Signature::of("nrefs", references)
    }

    /// A signature that begins with another key.
    pub(crate) fn of(key: &'static str, value: impl ToString) -> Signature {
        Signature(vec![(key, value.to_string())])
    }

    /// One more key at the end.
    pub(crate) fn with(mut self, key: &'static str, value: impl ToString) -> Signature {
        self.0.push((key, value.to_string()));
        self
    }

    /// One more key, with `yes` or `no`.
    pub(crate) fn with_flag(self, key: &'static str, value: bool) -> Signature {
        self.with(key, if value { "yes" } else { "no" })
    }

    /// The same with what an interval by resampling was computed with; sacrebleu writes these in front of the metric's
    /// own keys.
    pub fn resampled(mut self, resamples: usize, seed: u64) -> Signature {
        self.0.splice(1..1, [("bs", resamples.to_string()), ("seed", seed.to_string())]);
        self
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, value) in &self.0 {
            write!(f, "{key}:{value}|")?;
        }
        // Not sacrebleu's version: these are our own programs.
        write!(f, "version:porism-{}", env!("CARGO_PKG_VERSION"))
    }
}
