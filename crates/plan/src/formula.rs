//! Formulas: a line's text is what is computed.
//!
//! `2 * n^2 * k` with `n` and `k` bound gives the value and the text with the numbers put in. There are the four
//! operations, powers (from the right), parentheses, and `ceil`, `min`, `max`, `log2`.

use crate::units::{grouped, plain};
use crate::{Amount, Error, Result};

/// Names of a formula and what they stand for.
#[derive(Clone, Debug, Default)]
pub struct Symbols(Vec<(String, Amount)>);

impl Symbols {
    /// No names.
    pub fn new() -> Symbols {
        Symbols::default()
    }

    /// These and one more; a name that is there already gets the new meaning.
    pub fn with(mut self, name: &str, value: impl Into<Amount>) -> Symbols {
        self.set(name, value);
        self
    }

    /// Gives a name its meaning.
    pub fn set(&mut self, name: &str, value: impl Into<Amount>) {
        let value = value.into();
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_string(), value)),
        }
    }

    fn get(&self, name: &str) -> Option<Amount> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }
}

/// A formula that was computed.
#[derive(Clone, Debug, PartialEq)]
pub struct Computed {
    /// The formula for people.
    pub formula: String,
    /// The same with numbers for names.
    pub numbers: String,
    /// What it comes to.
    pub value: Amount,
}

/// Computes a formula.
///
/// # Errors
/// A name without a meaning, a text that is no formula, or no finite value.
pub fn compute(formula: &str, symbols: &Symbols) -> Result<Computed> {
    let problem = |problem: String| Error::Formula { formula: formula.to_string(), problem };
    let tokens = tokens(formula).map_err(problem)?;
    let mut parser = Parser { tokens: &tokens, at: 0, symbols };
    let value = parser.sum().map_err(problem)?;
    if parser.at < tokens.len() {
        return Err(problem(format!("{:?} is left over", tokens[parser.at])));
    }
    if !value.real().is_finite() {
        return Err(problem("it has no finite value".into()));
    }
    let named = |token: &Token| match token {
        Token::Name(name) => name.clone(),
        other => other.text(),
    };
    let put_in = |token: &Token| match token {
        Token::Name(name) => symbols.get(name).map_or_else(|| name.clone(), number),
        other => other.text(),
    };
    Ok(Computed { formula: tokens.iter().map(named).collect(), numbers: tokens.iter().map(put_in).collect(), value })
}

fn number(value: Amount) -> String {
    match value {
        Amount::Whole(n) => grouped(n),
        Amount::Real(x) => plain(x),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Number(Amount),
    Name(String),
    /// An operator that stands between spaces.
    Spaced(char),
    /// A sign, power, parenthesis or comma.
    Tight(char),
}

impl Token {
    fn text(&self) -> String {
        match self {
            Token::Number(n) => number(*n),
            Token::Name(name) => name.clone(),
            Token::Spaced('*') => " x ".into(),
            Token::Spaced(c) => format!(" {c} "),
            Token::Tight(',') => ", ".into(),
            Token::Tight(c) => c.to_string(),
        }
    }
}

const FUNCTIONS: [&str; 4] = ["ceil", "min", "max", "log2"];

fn tokens(text: &str) -> std::result::Result<Vec<Token>, String> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let run = |fits: fn(char) -> bool| rest.find(|c| !fits(c)).unwrap_or(rest.len());
        let length = match first {
            '0'..='9' => run(|c| c.is_ascii_digit() || c == '.'),
            c if c.is_ascii_alphabetic() => run(|c| c.is_ascii_alphanumeric() || c == '_'),
            _ => first.len_utf8(),
        };
        let (word, after) = rest.split_at(length);
        let unary = matches!(tokens.last(), None | Some(Token::Spaced(_) | Token::Tight('(' | '^' | ',')));
        tokens.push(match first {
            '0'..='9' => match word.parse::<i128>() {
                Ok(n) => Token::Number(Amount::Whole(n)),
                Err(_) => Token::Number(Amount::Real(word.parse().map_err(|_| format!("`{word}` is no number"))?)),
            },
            c if c.is_ascii_alphabetic() => Token::Name(word.to_string()),
            '-' if unary => Token::Tight('-'),
            '+' | '-' | '*' | '/' => Token::Spaced(first),
            '^' | '(' | ')' | ',' => Token::Tight(first),
            other => return Err(format!("`{other}` has no meaning")),
        });
        rest = after.trim_start();
    }
    Ok(tokens)
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    symbols: &'a Symbols,
}

type Parsed = std::result::Result<Amount, String>;

impl Parser<'_> {
    fn take(&mut self, token: &Token) -> bool {
        let there = self.tokens.get(self.at) == Some(token);
        self.at += usize::from(there);
        there
    }

    fn sum(&mut self) -> Parsed {
        let mut value = self.product()?;
        loop {
            if self.take(&Token::Spaced('+')) {
                value = value.add(self.product()?);
            } else if self.take(&Token::Spaced('-')) {
                value = value.sub(self.product()?);
            } else {
                return Ok(value);
            }
        }
    }

    fn product(&mut self) -> Parsed {
        let mut value = self.power()?;
        loop {
            if self.take(&Token::Spaced('*')) {
                value = value.mul(self.power()?);
            } else if self.take(&Token::Spaced('/')) {
                value = value.div(self.power()?);
            } else {
                return Ok(value);
            }
        }
    }

    fn power(&mut self) -> Parsed {
        if self.take(&Token::Tight('-')) {
            return Ok(Amount::Whole(0).sub(self.power()?));
        }
        let base = self.single()?;
        if self.take(&Token::Tight('^')) { Ok(base.pow(self.power()?)) } else { Ok(base) }
    }

    fn single(&mut self) -> Parsed {
        let token = self.tokens.get(self.at).ok_or("it breaks off")?;
        self.at += 1;
        match token {
            Token::Number(n) => Ok(*n),
            Token::Name(name) if FUNCTIONS.contains(&name.as_str()) => self.function(name),
            Token::Name(name) => self.symbols.get(name).ok_or_else(|| format!("`{name}` is not known")),
            Token::Tight('(') => {
                let value = self.sum()?;
                self.close()?;
                Ok(value)
            }
            other => Err(format!("{other:?} stands where a number should")),
        }
    }

    fn close(&mut self) -> std::result::Result<(), String> {
        if self.take(&Token::Tight(')')) { Ok(()) } else { Err("a parenthesis is not closed".into()) }
    }

    fn function(&mut self, name: &str) -> Parsed {
        if !self.take(&Token::Tight('(')) {
            return Err(format!("{name} has no arguments"));
        }
        let first = self.sum()?;
        let value = match name {
            "ceil" => match first {
                Amount::Real(x) => Amount::from(x.ceil()),
                whole => whole,
            },
            "log2" => Amount::Real(first.real().log2()),
            _ => {
                if !self.take(&Token::Tight(',')) {
                    return Err(format!("{name} has one argument"));
                }
                let second = self.sum()?;
                let least = name == "min";
                if (first.real() <= second.real()) == least { first } else { second }
            }
        };
        self.close()?;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(formula: &str) -> Amount {
        let symbols = Symbols::new().with("n", 7u64).with("x_1", 0.5);
        compute(formula, &symbols).expect("a value").value
    }

    #[test]
    fn the_usual_rules_hold() {
        assert_eq!(value("1 + 2 * 3 - 4 / 2"), Amount::Whole(5));
        assert_eq!(value("2^3^2"), Amount::Whole(512));
        assert_eq!(value("(1 + 2) * n"), Amount::Whole(21));
        assert_eq!(value("-2^2 + n - -1"), Amount::Whole(4));
        assert_eq!(value("2^-1 * x_1"), Amount::Real(0.25));
        assert_eq!(value("ceil(n / 2) + min(n, 3) + max(n, 3)"), Amount::Whole(14));
        assert_eq!(value("log2(8)"), Amount::Real(3.0));
    }

    #[test]
    fn both_texts_are_the_formula() {
        let symbols = Symbols::new().with("n", 32_768u64).with("k", 128u64).with("u", 0.4);
        let computed = compute("2*n^2*k / (u - 1)", &symbols).expect("a value");
        assert_eq!(computed.formula, "2 x n^2 x k / (u - 1)");
        assert_eq!(computed.numbers, "2 x 32,768^2 x 128 / (0.4 - 1)");
    }

    #[test]
    fn mistakes_are_errors() {
        for (formula, word) in [
            ("2 * m", "`m` is not known"),
            ("2 *", "breaks off"),
            ("(1", "not closed"),
            ("1 2", "left over"),
            ("min(1)", "one argument"),
            ("1 / 0", "no finite value"),
            ("a $ b", "has no meaning"),
            ("1.2.3", "no number"),
            ("* 2", "stands where"),
            ("ceil 2", "no arguments"),
        ] {
            let error = compute(formula, &Symbols::new()).expect_err(formula).to_string();
            assert!(error.contains(word) && error.contains(formula), "{error}");
        }
    }
}
