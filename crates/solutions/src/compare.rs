//! Two runs of an exercise side by side, in numbers and in one figure.

use porism_report::plot::{Plot, Series};
use serde::Serialize;

use crate::{Solution, Step};

/// A step of both runs; one that only one of them has stands alone.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Changed {
    /// The step's key.
    pub key: String,
    /// What it is.
    pub what: String,
    /// In the first run.
    pub before: Option<Step>,
    /// In the second.
    pub after: Option<Step>,
    /// Whether the two differ.
    pub differs: bool,
}

/// Two runs side by side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The steps, by part; those of errata last, under `!`.
    pub parts: Vec<(char, Vec<Changed>)>,
    /// Both figures in one.
    pub figure: Plot,
}

/// The label of errata among the parts.
const ERRATA: char = '!';

impl Comparison {
    /// Compares two runs of the same exercise. The names tell them apart in the figure.
    pub fn of(before: &Solution, after: &Solution, names: [&str; 2]) -> Comparison {
        let mut labels: Vec<char> = before.parts.iter().chain(&after.parts).map(|p| p.label).collect();
        labels.sort_unstable();
        labels.dedup();
        let steps = |solution: &Solution, label: char| -> Vec<Step> {
            solution.parts.iter().filter(|p| p.label == label).flat_map(|p| p.steps.clone()).collect()
        };
        let of_errata =
            |solution: &Solution| -> Vec<Step> { solution.errata.iter().flat_map(|e| e.steps.clone()).collect() };
        let mut parts: Vec<(char, Vec<Changed>)> =
            labels.into_iter().map(|label| (label, pairs(&steps(before, label), &steps(after, label)))).collect();
        parts.push((ERRATA, pairs(&of_errata(before), &of_errata(after))));
        parts.retain(|(_, steps)| !steps.is_empty());
        Comparison { parts, figure: overlaid(&before.figure, &after.figure, names) }
    }
}

/// Steps with the same key; those of the second run alone follow where they stand there.
fn pairs(before: &[Step], after: &[Step]) -> Vec<Changed> {
    let mut out = Vec::new();
    let find = |steps: &[Step], key: &str| steps.iter().find(|s| s.key == key).cloned();
    let mut push = |before: Option<Step>, after: Option<Step>| {
        if let Some(step) = after.as_ref().or(before.as_ref()) {
            let differs = match (&before, &after) {
                (Some(a), Some(b)) => a.shown != b.shown,
                _ => true,
            };
            out.push(Changed { key: step.key.clone(), what: step.what.clone(), before, after, differs });
        }
    };
    let mut next = 0;
    for step in before {
        if let Some(place) = after.iter().position(|s| s.key == step.key) {
            for alone in after.iter().take(place).skip(next).filter(|s| find(before, &s.key).is_none()) {
                push(None, Some(alone.clone()));
            }
            next = next.max(place + 1);
        }
        push(Some(step.clone()), find(after, &step.key));
    }
    for alone in after.iter().skip(next).filter(|s| find(before, &s.key).is_none()) {
        push(None, Some(alone.clone()));
    }
    out
}

/// The series of both; what is the same is drawn once, what differs broken and whole.
fn overlaid(before: &Plot, after: &Plot, names: [&str; 2]) -> Plot {
    let same = |a: &Series, b: &Series| a.name == b.name && a.points == b.points && a.labels == b.labels;
    let differing = before.series.iter().filter(|a| !after.series.iter().any(|b| same(a, b))).count();
    let named = |series: &Series, name: &str| match series.name.is_empty() {
        true => name.to_string(),
        false => format!("{} ({name})", series.name),
    };
    let mut plot = Plot { series: Vec::new(), ..after.clone() };
    for (place, series) in before.series.iter().enumerate() {
        let colour = series.colour.unwrap_or(place);
        match after.series.iter().any(|b| same(series, b)) {
            true => plot.series.push(series.clone().coloured(colour)),
            false => {
                plot.series.push(Series { name: named(series, names[0]), ..series.clone().coloured(colour).dashed() })
            }
        }
    }
    for (place, series) in after.series.iter().enumerate() {
        if before.series.iter().any(|a| same(a, series)) {
            continue;
        }
        // A pair shares its colour, unless it is the only one.
        let colour = series.colour.unwrap_or(place) + if differing == 1 { before.series.len() } else { 0 };
        plot.series.push(Series { name: named(series, names[1]), ..series.clone().coloured(colour) });
    }
    plot
}

#[cfg(test)]
mod tests {
    use super::*;
    use porism_report::plot::Axis;

    fn solution(keys: &[(&str, f64)], curve: f64) -> Solution {
        let plot = Plot::new("t", Axis::linear("x"), Axis::linear("y"))
            .with(Series::line("curve", vec![[0.0, curve]]))
            .with(Series::line("fixed", vec![[0.0, 1.0]]));
        let mut solution = Solution::new(plot);
        let part = solution.part("?");
        for (key, value) in keys {
            part.number(key, *key, "", *value);
        }
        solution
    }

    #[test]
    fn steps_stand_beside_each_other() {
        let before = solution(&[("a", 1.0), ("b", 2.0), ("z", 9.0)], 1.0);
        let after = solution(&[("a", 1.0), ("b", 3.0), ("c", 4.0), ("z", 9.0)], 2.0);
        let both = Comparison::of(&before, &after, ["first", "second"]);
        let seen: Vec<(&str, bool)> = both.parts[0].1.iter().map(|c| (c.key.as_str(), c.differs)).collect();
        assert_eq!(seen, [("a", false), ("b", true), ("c", true), ("z", false)]);
        let names: Vec<(&str, bool)> = both.figure.series.iter().map(|s| (s.name.as_str(), s.dashed)).collect();
        assert_eq!(names, [("curve (first)", true), ("fixed", false), ("curve (second)", false)]);
        assert_ne!(both.figure.series[0].colour, both.figure.series[2].colour);
    }
}
