//! `porism measure metric bertscore`.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use porism_hub::Progress as _;
use porism_measure::metric::{Baseline, BertScorer, cut_encoder, read_baseline};
use porism_models::cpu::{Activations, CpuExecutor};
use porism_models::load_encoder;
use serde_json::{Map, json};

use super::super::input;
use super::super::words::{ActivationsArg, PreTokenizer};
use super::files::{Output, Texts};
use super::show::{Shown, interval};
use crate::context::{Context, threads};
use crate::progress::Bar;

/// The catalogue's embedding model.
const DEFAULT: &str = "all-minilm-l6-v2";

/// BERTScore: tokens matched by the nearest activations of an encoder (bert_score), -1 to 1
///
/// The score is the mean F-score. Numbers of different models, layers or baselines cannot be compared.
#[derive(Args)]
#[command(after_help = "Examples:
  porism measure metric bertscore --ref refs.txt --hyp out.txt
  porism measure metric bertscore --layer 5 --idf --ref a.txt b.txt --hyp out.txt
  porism measure metric bertscore -m FOLDER --layer 9 --baseline bert-base-uncased.tsv --ref refs.txt --hyp out.txt
      with --json {metric, score, signature, interval, level, segments, precision, recall}")]
pub struct BertScoreArgs {
    #[command(flatten)]
    texts: Texts,
    /// Take the activations behind so many blocks [default: all]
    #[arg(long, value_name = "N")]
    layer: Option<usize>,
    /// Weigh tokens by how few of the references have them
    #[arg(long)]
    idf: bool,
    /// Rescale by a file of bert_score's, with a line LAYER,P,R,F for each layer
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Rescale by these three numbers
    #[arg(long, value_name = "P,R,F", value_parser = baseline, conflicts_with = "baseline")]
    baseline_values: Option<Baseline>,
    /// The model: a path, a name of the catalogue, or owner/repo[:quant|/file] [default: all-minilm-l6-v2]
    #[arg(short, long)]
    model: Option<String>,
    #[command(flatten)]
    pre_tokenizer: PreTokenizer,
    /// What the inputs of quantized weights are rounded to
    #[arg(long, value_enum, default_value_t = ActivationsArg::F32)]
    activations: ActivationsArg,
    #[command(flatten)]
    output: Output,
}

/// Three numbers below 1.
fn baseline(text: &str) -> std::result::Result<Baseline, String> {
    let numbers: Vec<f64> = text.split(',').filter_map(|field| field.trim().parse().ok()).collect();
    match numbers[..] {
        [p, r, f] if text.matches(',').count() == 2 && [p, r, f].iter().all(|b| *b < 1.0) => Ok([p, r, f]),
        _ => Err(format!("`{text}` is not three numbers below 1, such as 0.31,0.32,0.31")),
    }
}

impl BertScoreArgs {
    pub fn run(&self, context: &Context) -> Result<()> {
        let loaded = self.texts.load(None)?;
        let corpus = loaded.corpus()?;
        let name = self.model.as_deref().unwrap_or(DEFAULT);
        let (path, source) = context.open(Some(name))?;
        let encoder = load_encoder(&source)?;
        let layer = self.layer.unwrap_or(encoder.stack.blocks.len());
        let encoder = cut_encoder(encoder, layer)?;
        let tokenizer = self
            .pre_tokenizer
            .tokenizer(&source)
            .with_context(|| format!("{}: no usable tokenizer", path.display()))?;
        let (pool, isa) = threads(self.output.threads);
        let steps = CpuExecutor::new(pool.clone(), isa, Activations::from(self.activations));
        context.tell(&encoder.stack, &steps);
        let mut scorer = BertScorer::new(&encoder, &tokenizer, steps)?;
        if self.idf {
            scorer.weigh(&corpus)?;
        }
        let from_file =
            |file: &PathBuf| read_baseline(&input::text_of(file)?, layer).with_context(|| input::name_of(file));
        let baseline = self.baseline_values.map(Ok).or_else(|| self.baseline.as_ref().map(from_file)).transpose()?;
        if let Some(baseline) = baseline {
            scorer.rescale(baseline);
        }
        let mut bar = Bar::items();
        bar.start("segments", Some(corpus.len() as u64));
        let rows = scorer.score(&corpus, &mut |done| bar.at(done as u64))?;
        bar.finish();

        let mean = |sums: &[f64], segments: usize| sums[2] / segments as f64;
        let file = path.file_name().map_or(name.into(), |file| file.to_string_lossy());
        let signature = scorer.signature(corpus.sets(), &file);
        let (interval, signature) = interval(&rows, 3, &mean, signature, &self.output, &pool)?;
        let [precision, recall, f] =
            [0, 1, 2].map(|c| rows.iter().skip(c).step_by(3).sum::<f64>() / corpus.len() as f64);
        let shown = Shown {
            name: "BERTScore".into(),
            score: f,
            signature,
            interval,
            segments: corpus.len(),
            more: Map::from_iter([("precision".into(), json!(precision)), ("recall".into(), json!(recall))]),
            lines: vec![format!("precision {precision:.4}, recall {recall:.4}")],
            sentences: self.texts.sentence.then(|| rows.iter().skip(2).step_by(3).copied().collect()),
            digits: 4,
        };
        shown.print(self.output.json)
    }
}
