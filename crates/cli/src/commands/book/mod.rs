//! `porism book`: the book's exercises, run.

mod json;
mod text;

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use porism_formats::AtomicFile;
use porism_report::plot::Plot;
use porism_solutions::{Comparison, Error, Exercise, Settings, Solution, all, find};

use crate::context::{Usage, say};
use crate::output;

/// The book's exercises, solved: every number computed, one thing changed at a time
///
/// Without a section the exercises are listed. With --set an exercise is run twice, as in the book and with the change;
/// the numbers stand side by side, what differs is marked, and both are drawn into one figure. Where the book is wrong
/// the solution says so and shows it.
#[derive(Args)]
#[command(after_help = "Examples:
  porism book                                  the exercises by part and section
  porism book I.3.3                            the steps, with numbers
  porism book I.3.3 --set lr=0.5               beside the book's; draws both into I.3.3.svg
  porism book I.1.3 --set lr=1.1 --set steps=8 --svg diverging.svg
  porism book I.6.4 --svg                      draws its figure into I.6.4.svg
  porism book III.IV --json")]
pub struct BookArgs {
    /// A section of the book's solutions, such as I.3.3
    #[arg(value_name = "SECTION")]
    section: Option<String>,
    /// Change a setting; may be given for several
    #[arg(long, value_name = "NAME=VALUE", requires = "section")]
    set: Vec<String>,
    /// Draw the figure into this file, which is replaced [default with --set: SECTION.svg]
    #[arg(long, value_name = "FILE", requires = "section")]
    svg: Option<Option<PathBuf>>,
    /// Print JSON: the list, the solution, or both runs
    #[arg(long)]
    json: bool,
}

/// A run of an exercise.
struct Run {
    settings: Settings,
    solution: Solution,
}

pub fn run(args: BookArgs) -> Result<()> {
    let Some(section) = &args.section else {
        return if args.json { output::json(&json::list()) } else { output::text(&text::list(all())) };
    };
    let exercise = asked(find(section))?;
    let as_in_book = exercise.defaults();
    let mut settings = as_in_book.clone();
    for text in &args.set {
        asked(settings.set(text))?;
    }
    let solved =
        |settings: Settings| -> Result<Run> { Ok(Run { solution: asked(exercise.solve(&settings))?, settings }) };
    let before = solved(as_in_book)?;
    if args.set.is_empty() {
        match args.json {
            true => output::json(&json::solution(exercise, &before))?,
            false => output::text(&text::solution(exercise, &before))?,
        }
        return args.svg.map_or(Ok(()), |file| draw(exercise, &before.solution.figure, file));
    }
    let after = solved(settings)?;
    let changes = after.settings.changes();
    let both = Comparison::of(&before.solution, &after.solution, ["as in the book", &changes]);
    match args.json {
        true => output::json(&json::comparison(exercise, &before, &after, &both))?,
        false => output::text(&text::comparison(exercise, &after, &both))?,
    }
    draw(exercise, &both.figure, args.svg.flatten())
}

/// Writes a figure, by default into a file named by the section.
fn draw(exercise: &Exercise, figure: &Plot, file: Option<PathBuf>) -> Result<()> {
    let file = file.unwrap_or_else(|| format!("{}.svg", exercise.section).into());
    let svg = figure.svg()?;
    let mut out = AtomicFile::create(&file)?;
    out.write_all(svg.as_bytes())?;
    out.commit()?;
    say(&format!("drawn into {}", file.display()));
    Ok(())
}

/// What was asked for is not there, or numbers have no sense: wrong usage.
fn asked<T>(result: porism_solutions::Result<T>) -> Result<T> {
    result.map_err(|error| match error {
        Error::Ops(_) | Error::Tape(_) | Error::Report(_) => error.into(),
        Error::UnknownSection { .. } => Usage(format!("{error}; `porism book` lists them with their titles")).into(),
        other => Usage(other.to_string()).into(),
    })
}
