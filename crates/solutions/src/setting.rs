//! What can be changed: numbers with a name, a default and a range.

use serde::Serialize;

use crate::number::show;
use crate::{Error, Result};

/// A number of an exercise that can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub what: &'static str,
    /// The book's value, or ours where the book has none.
    pub default: f64,
    /// The smallest value.
    pub low: f64,
    /// The largest value.
    pub high: f64,
    /// Whether only whole numbers have sense.
    pub whole: bool,
}

impl Setting {
    /// A real number.
    pub(crate) const fn real(name: &'static str, what: &'static str, default: f64, low: f64, high: f64) -> Setting {
        Setting { name, what, default, low, high, whole: false }
    }

    /// A whole number.
    pub(crate) const fn whole(name: &'static str, what: &'static str, default: f64, low: f64, high: f64) -> Setting {
        Setting { name, what, default, low, high, whole: true }
    }

    /// Its range in words.
    pub fn range(&self) -> String {
        let kind = if self.whole { "a whole number from " } else { "from " };
        format!("{kind}{} to {}", show(self.low), show(self.high))
    }
}

/// The settings of an exercise with their values.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    section: &'static str,
    known: &'static [Setting],
    values: Vec<f64>,
    set: Vec<bool>,
}

impl Settings {
    /// All at their defaults.
    pub(crate) fn new(section: &'static str, known: &'static [Setting]) -> Settings {
        let values = known.iter().map(|s| s.default).collect();
        Settings { section, known, values, set: vec![false; known.len()] }
    }

    /// Reads `name=value` and sets it.
    ///
    /// # Errors
    /// It is none, the exercise has no such setting, it was set before, or the value is out of range.
    pub fn set(&mut self, text: &str) -> Result<()> {
        let example = || self.known.first().map_or(String::new(), |s| format!("{}={}", s.name, s.default));
        let unreadable = || Error::NotASetting { text: text.into(), example: example() };
        let (name, value) = text.split_once('=').ok_or_else(unreadable)?;
        let (name, value) = (name.trim(), value.trim());
        let place = self.known.iter().position(|s| s.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
            let known = self.known.iter().map(|s| s.name).collect();
            Error::UnknownSetting { section: self.section, name: name.into(), known }
        })?;
        let setting = &self.known[place];
        let number: f64 = value.parse().map_err(|_| unreadable())?;
        let inside = number >= setting.low && number <= setting.high;
        if !inside || (setting.whole && number.fract() != 0.0) {
            let (name, what, range) = (setting.name, setting.what, setting.range());
            return Err(Error::Range { name, value: value.into(), what, range });
        }
        if std::mem::replace(&mut self.set[place], true) {
            return Err(Error::Twice { name: setting.name });
        }
        self.values[place] = number;
        Ok(())
    }

    /// The settings and their values.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Setting, f64)> + '_ {
        self.known.iter().zip(self.values.iter().copied())
    }

    /// What was set, as `lr = 0.5, steps = 10`; empty if nothing was.
    pub fn changes(&self) -> String {
        let set = self.iter().zip(&self.set).filter(|(_, set)| **set);
        let texts: Vec<String> =
            set.map(|((setting, value), _)| format!("{} = {}", setting.name, show(value))).collect();
        texts.join(", ")
    }

    /// The value of a setting that the exercise has.
    pub(crate) fn get(&self, name: &str) -> f64 {
        let place = self.known.iter().position(|s| s.name == name);
        self.values
            [place.unwrap_or_else(|| panic!("{} asks for its setting {name}, which it does not list", self.section))]
    }

    /// The same as a count.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.get(name) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static KNOWN: [Setting; 2] =
        [Setting::real("lr", "the step size", 0.1, 0.0, 2.0), Setting::whole("steps", "the steps", 3.0, 1.0, 50.0)];

    #[test]
    fn settings_are_read() {
        let mut settings = Settings::new("I.1.3", &KNOWN);
        assert_eq!((settings.get("lr"), settings.count("steps")), (0.1, 3));
        assert_eq!(settings.changes(), "");
        settings.set(" LR = 0.5").expect("a setting");
        settings.set("steps=10").expect("a setting");
        assert_eq!((settings.get("lr"), settings.count("steps")), (0.5, 10));
        assert_eq!(settings.changes(), "lr = 0.5, steps = 10");
    }

    #[test]
    fn what_cannot_be_set_is_said() {
        for (text, words) in [
            ("lr", "`lr` sets nothing: write NAME=NUMBER, such as lr=0.1"),
            ("lr=fast", "`lr=fast` sets nothing: write NAME=NUMBER, such as lr=0.1"),
            ("rate=1", "I.1.3 has no setting `rate`; it has lr, steps"),
            ("lr=3", "lr = 3 is out of range (the step size): it is from 0 to 2"),
            ("lr=nan", "lr = nan is out of range (the step size): it is from 0 to 2"),
            ("steps=1.5", "steps = 1.5 is out of range (the steps): it is a whole number from 1 to 50"),
        ] {
            let error = Settings::new("I.1.3", &KNOWN).set(text).expect_err("refused");
            assert_eq!(error.to_string(), words);
        }
        let mut settings = Settings::new("I.1.3", &KNOWN);
        settings.set("lr=1").expect("a setting");
        assert_eq!(settings.set("lr=1").expect_err("twice").to_string(), "`lr` is set twice: give it one value");
    }
}
