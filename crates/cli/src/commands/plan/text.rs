//! An answer as text: what, how much, and the formula, in columns.

use porism_plan::{Answer, Line, Part, presets};

use crate::commands::figures::shown;

/// Columns beyond which the list of what was given is broken.
const WIDTH: usize = 110;

/// An answer for a terminal.
pub(super) fn of(answer: &Answer) -> String {
    let mut out = format!("{}\n", shown(&answer.title, 300));
    let given: Vec<String> =
        answer.given.iter().map(|g| format!("{} = {} {}", g.symbol, g.unit.show(g.value), g.what)).collect();
    wrapped(&given, ", ", WIDTH, &mut out);
    for part in &answer.parts {
        lines_of(part, &mut out);
    }
    if !answer.notes.is_empty() {
        out.push('\n');
    }
    for note in &answer.notes {
        let words: Vec<String> = note.split(' ').map(str::to_string).collect();
        let mut text = String::new();
        wrapped(&words, " ", WIDTH, &mut text);
        out.push_str(&format!("note:{}", &text[1..].replacen("\n", "\n    ", text.lines().count() - 1)));
    }
    out
}

/// Items in lines of at most `width` columns that begin with two spaces.
fn wrapped(items: &[String], between: &str, width: usize, out: &mut String) {
    let mut line = String::new();
    for (i, item) in items.iter().enumerate() {
        let more = if line.is_empty() { 0 } else { between.len() };
        if !line.is_empty() && 2 + line.chars().count() + more + item.chars().count() > width {
            out.push_str(&format!("  {}\n", line.trim_end()));
            line.clear();
        }
        line.push_str(item);
        if i + 1 < items.len() {
            line.push_str(between);
        }
    }
    if !line.is_empty() {
        out.push_str(&format!("  {line}\n"));
    }
}

fn lines_of(part: &Part, out: &mut String) {
    if part.lines.is_empty() {
        return;
    }
    out.push_str(&format!("\n{}\n", part.title));
    let values: Vec<String> = part.lines.iter().map(|l| l.unit.show(l.value)).collect();
    let widest = |texts: &mut dyn Iterator<Item = usize>| texts.max().unwrap_or(0);
    let what = widest(&mut part.lines.iter().map(|l| l.what.chars().count())).max(24);
    let value = widest(&mut values.iter().map(|v| v.chars().count())).max(12);
    let marked = part.lines.iter().any(|l| l.fits.is_some());
    for (line, shown) in part.lines.iter().zip(&values) {
        let fits = match (marked, line.fits) {
            (false, _) => "",
            (true, Some(true)) => "  fits     ",
            (true, Some(false)) => "  too large",
            (true, None) => "           ",
        };
        let row = format!("  {:what$}  {shown:>value$}{fits}  ", line.what);
        let indent = row.chars().count();
        // What does not fit into a line goes on under the formula.
        let between = match indent + line.formula.chars().count() + line.numbers.chars().count() + 3 {
            length if length > WIDTH + 10 => format!("\n{:indent$}= ", ""),
            _ => " = ".to_string(),
        };
        out.push_str(format!("{row}{}", formula_of(line, &between)).trim_end());
        out.push('\n');
    }
}

fn formula_of(line: &Line, between: &str) -> String {
    match (line.formula.is_empty(), line.formula == line.numbers) {
        (true, _) => String::new(),
        (false, true) => line.formula.clone(),
        (false, false) => format!("{}{between}{}", line.formula, line.numbers),
    }
}

/// Help that ends with the presets.
pub(super) fn presets_help(examples: &str) -> String {
    let mut out = format!("{examples}\n\nPresets:\n");
    let names: Vec<String> = presets::names().map(str::to_string).collect();
    wrapped(&names, " ", 80, &mut out);
    out.trim_end().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use porism_plan::{Symbols, Unit};

    #[test]
    fn columns_are_aligned_and_formulas_have_their_numbers() {
        let mut answer = Answer::new("a test");
        answer.give("n", "tokens", 32_768u64);
        answer.give_in("R", "memory", 16_000_000_000u64, Unit::Bytes);
        let part = answer.part("one head");
        let symbols = Symbols::new().with("n", 32_768u64);
        part.line("a", "entries", "n^2", &symbols, Unit::Count("")).expect("a value");
        part.line("b", "in f16", "2 * n^2", &symbols, Unit::Bytes).expect("a value");
        part.mark(Some(1 << 30));
        answer.note("a word ".repeat(30).trim_end());
        let text = of(&answer);
        let want = "a test\n  n = 32,768 tokens, R = 16.0 GB memory\n\none head\n";
        assert!(text.starts_with(want), "{text}");
        let rows: Vec<&str> = text.lines().skip(4).take(2).collect();
        assert_eq!(rows[0], "  entries                         1.07 B             n^2 = 32,768^2");
        assert_eq!(rows[1], "  in f16                         2.15 GB  too large  2 x n^2 = 2 x 32,768^2");
        let notes: Vec<&str> = text.lines().skip(7).collect();
        assert_eq!(notes.len(), 2, "{text}");
        assert!(notes[0].starts_with("note: a word") && notes[1].starts_with("      "), "{text}");
        assert!(text.lines().all(|l| l.chars().count() <= WIDTH + 6));
    }
}
