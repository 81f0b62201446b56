//! An answer: parts of lines, each with its formula, so that text and JSON come from the same thing.

use serde::{Serialize, Serializer};

use crate::formula::{Symbols, compute};
use crate::units::{bytes, count, plain, scientific, time};
use crate::{Amount, Result};

/// What a value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Plain numbers, with or without a name for what they are.
    Count(&'static str),
    /// Bytes.
    Bytes,
    /// Bytes a second.
    BytesPerSecond,
    /// Operations; a multiply-add is two.
    Flop,
    /// Seconds.
    Seconds,
    /// A share, shown and written as per cent.
    Percent,
    /// A real number, in four digits.
    Number(&'static str),
}

impl Unit {
    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Count(name) | Unit::Number(name) => name,
            Unit::Bytes => "bytes",
            Unit::BytesPerSecond => "bytes/s",
            Unit::Flop => "FLOP",
            Unit::Seconds => "s",
            Unit::Percent => "%",
        }
    }

    /// A value in this unit for people.
    pub fn show(self, value: Amount) -> String {
        let named = |text: String, name: &str| if name.is_empty() { text } else { format!("{text} {name}") };
        match self {
            Unit::Count(name) => named(count(value), name),
            Unit::Number(name) => named(plain(value.real()), name),
            Unit::Bytes => bytes(value),
            Unit::BytesPerSecond => format!("{}/s", bytes(value)),
            Unit::Flop if value.real() < 1e6 => named(count(value), "FLOP"),
            Unit::Flop => format!("{} FLOP", scientific(value.real())),
            Unit::Seconds => time(value.real()),
            Unit::Percent => format!("{} %", plain(value.real())),
        }
    }
}

impl Serialize for Unit {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// One number and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// A name for programs, unique in the answer.
    pub key: String,
    /// What it is.
    pub what: String,
    /// The formula; empty where the number was given or measured.
    pub formula: String,
    /// The formula with the numbers put in.
    pub numbers: String,
    /// The value, in the unit.
    pub value: Amount,
    /// The unit.
    pub unit: Unit,
    /// Whether it fits into the memory that was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fits: Option<bool>,
}

/// Lines that belong together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// What they are about.
    pub title: String,
    /// The lines.
    pub lines: Vec<Line>,
}

impl Part {
    /// A line that is computed from its formula; gives its value (of per cent, the share).
    ///
    /// # Errors
    /// The formula cannot be computed.
    pub fn line(
        &mut self,
        key: &str,
        what: impl Into<String>,
        formula: &str,
        symbols: &Symbols,
        unit: Unit,
    ) -> Result<Amount> {
        let computed = compute(formula, symbols)?;
        let value = match unit {
            Unit::Percent => Amount::Whole(100).mul(computed.value),
            _ => computed.value,
        };
        let (formula, numbers) = (computed.formula, computed.numbers);
        self.lines.push(Line { key: key.into(), what: what.into(), formula, numbers, value, unit, fits: None });
        Ok(computed.value)
    }

    /// A line with a number that is known already.
    pub fn known(&mut self, key: &str, what: impl Into<String>, value: impl Into<Amount>, unit: Unit) {
        let (formula, numbers) = (String::new(), String::new());
        let value = value.into();
        self.lines.push(Line { key: key.into(), what: what.into(), formula, numbers, value, unit, fits: None });
    }

    /// Says of the last line whether it fits into `ram`, if that is known.
    pub fn mark(&mut self, ram: Option<u64>) {
        if let (Some(ram), Some(line)) = (ram, self.lines.last_mut()) {
            line.fits = Some(line.value.real() <= ram as f64);
        }
    }
}

/// What was given, by the letter that formulas have for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Given {
    /// The letter.
    pub symbol: String,
    /// What it is.
    pub what: String,
    /// How much.
    pub value: Amount,
    /// In which unit.
    pub unit: Unit,
}

/// The answer to one question.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Answer {
    /// About what.
    pub title: String,
    /// What was given.
    pub given: Vec<Given>,
    /// The numbers.
    pub parts: Vec<Part>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
}

impl Answer {
    /// An answer without lines.
    pub fn new(title: impl Into<String>) -> Answer {
        Answer { title: title.into(), ..Answer::default() }
    }

    /// Says what a letter stands for.
    pub fn give(&mut self, symbol: &str, what: impl Into<String>, value: impl Into<Amount>) {
        self.give_in(symbol, what, value, Unit::Count(""));
    }

    /// The same in a unit.
    pub fn give_in(&mut self, symbol: &str, what: impl Into<String>, value: impl Into<Amount>, unit: Unit) {
        self.given.push(Given { symbol: symbol.into(), what: what.into(), value: value.into(), unit });
    }

    /// Begins a part.
    pub fn part(&mut self, title: impl Into<String>) -> &mut Part {
        self.parts.push(Part { title: title.into(), lines: Vec::new() });
        let last = self.parts.len() - 1;
        &mut self.parts[last]
    }

    /// Adds a note.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// The line with this key.
    pub fn find(&self, key: &str) -> Option<&Line> {
        self.parts.iter().flat_map(|p| &p.lines).find(|l| l.key == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_its_formula() {
        let mut answer = Answer::new("a test");
        let part = answer.part("window");
        let symbols = Symbols::new().with("W", 4096u64).with("n", 32_768u64);
        let share = part.line("window", "share", "W / n", &symbols, Unit::Percent).expect("a value");
        assert_eq!(share, Amount::Real(0.125));
        part.known("total", "total", 7u64, Unit::Bytes);
        part.mark(Some(8));
        let json = serde_json::to_value(&answer).expect("JSON");
        let line = &json["parts"][0]["lines"][0];
        assert_eq!(line["formula"], "W / n");
        assert_eq!(line["numbers"], "4,096 / 32,768");
        assert_eq!((&line["value"], &line["unit"]), (&12.5.into(), &"%".into()));
        assert!(line.get("fits").is_none());
        assert_eq!(json["parts"][0]["lines"][1]["fits"], true);
        assert_eq!(answer.find("total").map(|l| l.unit.show(l.value)), Some("7 B".into()));
    }

    #[test]
    fn units_show_what_they_count() {
        assert_eq!(Unit::Flop.show(Amount::Whole(274_877_906_944)), "2.75e11 FLOP");
        assert_eq!(Unit::Count("steps").show(Amount::Whole(500_000)), "500,000 steps");
        assert_eq!(Unit::Count("").show(Amount::Whole(7)), "7");
        assert_eq!(Unit::Percent.show(Amount::Real(0.78125)), "0.7812 %");
        assert_eq!(Unit::Number("tokens/s").show(Amount::Real(12.345)), "12.35 tokens/s");
    }
}
