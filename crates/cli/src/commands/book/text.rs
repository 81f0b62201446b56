//! Exercises and solutions as text, in columns.

use porism_solutions::{Changed, Comparison, Exercise, Step};

use super::Run;

/// Columns beyond which lines are broken.
const WIDTH: usize = 110;
/// Values that are longer do not widen their column.
const VALUE: usize = 30;

/// All exercises, by part and chapter.
pub(super) fn list(exercises: impl Iterator<Item = &'static Exercise>) -> String {
    let mut out = String::new();
    let mut chapter = "";
    for exercise in exercises {
        if exercise.chapter != chapter {
            chapter = exercise.chapter;
            let between = if out.is_empty() { "" } else { "\n" };
            out.push_str(&format!("{between}{chapter}\n"));
        }
        out.push_str(&format!("  {:7} {}\n", exercise.section, exercise.title));
    }
    out.push_str("\n`porism book SECTION` solves one and lists what can be changed.\n");
    out
}

/// A solution.
pub(super) fn solution(exercise: &Exercise, run: &Run) -> String {
    let mut out = head(exercise);
    for part in &run.solution.parts {
        question(part.label, &part.question, &mut out);
        steps(&part.steps, &mut out);
        remarks(&part.remarks, &mut out);
    }
    for erratum in &run.solution.errata {
        out.push('\n');
        wrapped(&format!("Erratum. The book: {}.", erratum.book), "", &mut out);
        wrapped(&erratum.right, "  ", &mut out);
        steps(&erratum.steps, &mut out);
    }
    settings(run, &mut out);
    out
}

/// Two runs side by side.
pub(super) fn comparison(exercise: &Exercise, after: &Run, both: &Comparison) -> String {
    let mut out = head(exercise);
    let changes = after.settings.changes();
    let all = || both.parts.iter().flat_map(|(_, steps)| steps);
    let shown = |step: &Option<Step>| step.as_ref().map_or("-".to_string(), |s| s.shown.clone());
    let what = width(all().map(|s| s.what.as_str()), 44);
    let old = width(all().map(|s| shown(&s.before)).chain(["as in the book".into()]), VALUE);
    let new = width(all().map(|s| shown(&s.after)).chain([changes.clone()]), VALUE);
    for (label, steps) in &both.parts {
        match after.solution.parts.iter().find(|p| p.label == *label) {
            Some(part) => question(*label, &part.question, &mut out),
            None => out.push_str("\nErrata\n"),
        }
        let columns = format!("    {:what$}  {:old$}  {changes}", "", "as in the book");
        out.push_str(columns.trim_end());
        out.push('\n');
        for Changed { what: name, before, after, differs, .. } in steps {
            let mark = if *differs { "*" } else { " " };
            let line = format!("  {mark} {name:what$}  {:old$}  {:new$}", shown(before), shown(after));
            let work = after.as_ref().filter(|_| *differs).map_or("", |s| s.work.as_str());
            row(&line, work, 4 + what + 2 + old + 2, &mut out);
        }
        if let Some(part) = after.solution.parts.iter().find(|p| p.label == *label) {
            remarks(&part.remarks, &mut out);
        }
    }
    out
}

fn head(exercise: &Exercise) -> String {
    format!("{}  {}\n{}\n", exercise.section, exercise.title, exercise.chapter)
}

fn question(label: char, text: &str, out: &mut String) {
    out.push('\n');
    wrapped(&format!("({label}) {text}"), "", out);
}

fn remarks(remarks: &[String], out: &mut String) {
    for remark in remarks {
        wrapped(remark, "  ", out);
    }
}

fn steps(steps: &[Step], out: &mut String) {
    let what = width(steps.iter().map(|s| s.what.as_str()), 44);
    let value = width(steps.iter().map(|s| s.shown.as_str()), VALUE);
    for step in steps {
        row(&format!("  {:what$}  {:value$}", step.what, step.shown), &step.work, 2 + what + 2, out);
    }
}

/// A line and the work behind it; where both are too long for one line the work goes on below, indented.
fn row(line: &str, work: &str, indent: usize, out: &mut String) {
    let both = line.chars().count() + 2 + work.chars().count();
    let line = match (work.is_empty(), both > WIDTH + 10) {
        (true, _) => line.to_string(),
        (false, true) => format!("{}\n{:indent$}{work}", line.trim_end(), ""),
        (false, false) => format!("{line}  {work}"),
    };
    out.push_str(&format!("{}\n", line.trim_end()));
}

/// The longest text that is not beyond a limit.
fn width(texts: impl Iterator<Item = impl AsRef<str>>, most: usize) -> usize {
    texts.map(|t| t.as_ref().chars().count()).filter(|&n| n <= most).max().unwrap_or(0)
}

fn settings(run: &Run, out: &mut String) {
    out.push_str("\nWhat can be changed, with --set NAME=VALUE:\n");
    let name = width(run.settings.iter().map(|(s, _)| s.name), 40);
    let values: Vec<String> = run.settings.iter().map(|(_, v)| plain(v)).collect();
    let value = width(values.iter(), 40);
    for ((setting, _), shown) in run.settings.iter().zip(&values) {
        out.push_str(&format!("  {:name$}  {shown:>value$}  {}, {}\n", setting.name, setting.what, setting.range()));
    }
}

/// A value as --set reads it.
fn plain(value: f64) -> String {
    if value == 0.0 || (1e-4..1e7).contains(&value.abs()) { value.to_string() } else { format!("{value:e}") }
}

/// Words in lines of at most `WIDTH` columns; lines after the first stand two further in.
fn wrapped(text: &str, indent: &str, out: &mut String) {
    let mut line = indent.to_string();
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            out.push_str(&format!("{line}\n"));
            line = format!("{indent}  ");
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    out.push_str(&format!("{line}\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_broken() {
        let mut out = String::new();
        wrapped(&"word ".repeat(40), "  ", &mut out);
        assert!(out.lines().count() == 2 && out.lines().all(|l| l.chars().count() <= WIDTH), "{out}");
        assert!(out.lines().nth(1).is_some_and(|l| l.starts_with("    word")));
        let mut out = String::new();
        row("  a  1  ", "w", 5, &mut out);
        row(&"x".repeat(80), &"y".repeat(80), 5, &mut out);
        assert_eq!(out, format!("  a  1    w\n{}\n     {}\n", "x".repeat(80), "y".repeat(80)));
    }

    #[test]
    fn a_long_value_widens_no_column() {
        assert_eq!(width(["ab", "a long value indeed", "abc"].iter(), 10), 3);
    }
}
