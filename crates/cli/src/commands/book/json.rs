//! Exercises and solutions as JSON.

use std::collections::BTreeMap;

use porism_report::plot::Plot;
use porism_solutions::{Comparison, Exercise, Setting, Solution, all};
use serde::Serialize;

use super::Run;

#[derive(Serialize)]
pub(super) struct Head {
    section: &'static str,
    chapter: &'static str,
    title: &'static str,
}

impl Head {
    fn of(exercise: &Exercise) -> Head {
        Head { section: exercise.section, chapter: exercise.chapter, title: exercise.title }
    }
}

#[derive(Serialize)]
pub(super) struct Listed {
    #[serde(flatten)]
    head: Head,
    settings: &'static [Setting],
}

/// All exercises with their settings.
pub(super) fn list() -> Vec<Listed> {
    all().map(|exercise| Listed { head: Head::of(exercise), settings: exercise.settings }).collect()
}

#[derive(Serialize)]
pub(super) struct Valued {
    #[serde(flatten)]
    setting: &'static Setting,
    value: f64,
}

fn valued(run: &Run) -> Vec<Valued> {
    run.settings.iter().map(|(setting, value)| Valued { setting, value }).collect()
}

#[derive(Serialize)]
pub(super) struct Solved<'a> {
    #[serde(flatten)]
    head: Head,
    settings: Vec<Valued>,
    #[serde(flatten)]
    solution: &'a Solution,
}

/// A solution.
pub(super) fn solution<'a>(exercise: &Exercise, run: &'a Run) -> Solved<'a> {
    Solved { head: Head::of(exercise), settings: valued(run), solution: &run.solution }
}

#[derive(Serialize)]
pub(super) struct Compared<'a> {
    #[serde(flatten)]
    head: Head,
    settings: Vec<Valued>,
    set: BTreeMap<&'static str, f64>,
    changed: Vec<&'a str>,
    before: &'a Solution,
    after: &'a Solution,
    figure: &'a Plot,
}

/// Two runs.
pub(super) fn comparison<'a>(
    exercise: &Exercise,
    before: &'a Run,
    after: &'a Run,
    both: &'a Comparison,
) -> Compared<'a> {
    let moved = after.settings.iter().zip(before.settings.iter()).filter(|((_, a), (_, b))| a != b);
    let steps = both.parts.iter().flat_map(|(_, steps)| steps);
    Compared {
        head: Head::of(exercise),
        settings: valued(after),
        set: moved.map(|((setting, value), _)| (setting.name, value)).collect(),
        changed: steps.filter(|step| step.differs).map(|step| step.key.as_str()).collect(),
        before: &before.solution,
        after: &after.solution,
        figure: &both.figure,
    }
}
