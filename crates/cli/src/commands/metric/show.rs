//! A score with its interval and signature, as words or as JSON.

use anyhow::Result;
use porism_kernels::Pool;
use porism_measure::metric::{Corpus, Metric, Scored, Signature, score};
use porism_report::interval::{Interval, Resampling, Rows, Statistic, bootstrap};
use serde_json::{Map, Value, json};

use super::files::{Output, Texts};
use crate::context::threads;
use crate::output;

/// What a metric gave.
pub struct Shown {
    pub name: String,
    pub score: f64,
    pub signature: Signature,
    pub interval: Option<Interval>,
    pub segments: usize,
    /// More keys of the JSON object.
    pub more: Map<String, Value>,
    /// More lines of text.
    pub lines: Vec<String>,
    /// Each segment's score, if that was asked for.
    pub sentences: Option<Vec<f64>>,
    /// Digits behind the point: fewer where scores go up to 100.
    pub digits: usize,
}

/// The interval of resampled rows, unless none is wanted, and the signature that says so.
pub fn interval(
    rows: &[f64],
    width: usize,
    statistic: Statistic<'_>,
    signature: Signature,
    output: &Output,
    pool: &Pool,
) -> Result<(Option<Interval>, Signature)> {
    if output.resamples == 0 {
        return Ok((None, signature));
    }
    let how = Resampling { resamples: output.resamples, seed: output.seed, ..Resampling::default() };
    let interval = bootstrap(Rows::new(rows, width)?, how, pool, statistic)?;
    Ok((Some(interval), signature.resampled(how.resamples, how.seed)))
}

/// Scores a corpus; `single` scores segments alone, and `more` adds to what is shown.
pub fn measure<M: Metric>(
    metric: &M,
    single: &M,
    digits: usize,
    texts: &Texts,
    corpus: &Corpus<'_>,
    output: &Output,
    more: impl FnOnce(&Scored, &mut Shown),
) -> Result<()> {
    let (pool, _) = threads(output.threads);
    let scored = score(metric, corpus, &pool);
    let statistic = |sums: &[f64], segments: usize| metric.score(sums, segments);
    let signature = metric.signature(corpus.sets());
    let (interval, signature) = interval(&scored.rows, metric.width(), &statistic, signature, output, &pool)?;
    let alone = || -> Vec<f64> { scored.rows.chunks_exact(metric.width()).map(|row| single.score(row, 1)).collect() };
    let mut shown = Shown {
        name: metric.name(),
        score: scored.score,
        signature,
        interval,
        segments: corpus.len(),
        more: Map::new(),
        lines: Vec::new(),
        sentences: texts.sentence.then(alone),
        digits,
    };
    more(&scored, &mut shown);
    shown.print(output.json)
}

impl Shown {
    /// Prints it: with sentence scores, these come first, one a line.
    pub fn print(self, as_json: bool) -> Result<()> {
        let Shown { name, score, signature, interval, segments, more, lines, sentences, digits } = self;
        if as_json {
            let mut object = Map::new();
            object.insert("metric".into(), json!(name));
            object.insert("score".into(), json!(score));
            object.insert("signature".into(), json!(signature.to_string()));
            object.insert("interval".into(), json!(interval.map(|i| [i.low, i.high])));
            object.insert("level".into(), json!(interval.map(|i| i.level)));
            object.insert("segments".into(), json!(segments));
            object.extend(more);
            if let Some(sentences) = sentences {
                object.insert("sentences".into(), json!(sentences));
            }
            return output::json(&object);
        }
        if let Some(sentences) = sentences {
            let rows: String = sentences.iter().map(|s| format!("{s:.digits$}\n")).collect();
            output::text(&rows)?;
        }
        let range = interval.map(|i| {
            let level = 100.0 * i.level;
            format!(" ({level} % interval {:.digits$} to {:.digits$})", i.low, i.high)
        });
        output::line(&format!("{name} {score:.digits$}{}", range.unwrap_or_default()))?;
        for line in lines {
            output::line(&line)?;
        }
        output::line(&format!("signature {signature}"))
    }
}
