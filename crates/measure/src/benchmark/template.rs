//! The little language of task files: Jinja, as in lm-evaluation-harness, with Python's string methods and a few filters.

use std::collections::HashSet;

use fancy_regex::Regex;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value, ValueKind};
use minijinja::{Environment, Error as JinjaError, ErrorKind, UndefinedBehavior};

use super::math;
use crate::metric::python::strip;

/// Steps of the engine that one template may take.
const FUEL: u64 = 1_000_000;

/// Renders templates and computes expressions over a document.
pub(crate) struct Engine {
    environment: Environment<'static>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

impl Engine {
    pub(crate) fn new() -> Engine {
        let mut environment = Environment::new();
        // A name that is not there is a mistake in the task file or in the data, not an empty string.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        if let Ok(syntax) = SyntaxConfig::builder().keep_trailing_newline(true).build() {
            environment.set_syntax(syntax);
        }
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("strip", |text: &str| strip(text).to_owned());
        environment.add_filter("regex_replace", regex_replace);
        environment.add_filter("position", position);
        environment.add_filter("last_boxed", last_boxed);
        Engine { environment }
    }

    /// Whether a template can be read; what is wrong with it otherwise.
    pub(crate) fn check_template(&self, source: &str) -> Result<(), String> {
        self.environment.template_from_str(source).map(|_| ()).map_err(words)
    }

    /// Whether an expression can be read; what is wrong with it otherwise.
    pub(crate) fn check_expression(&self, source: &str) -> Result<(), String> {
        self.environment.compile_expression(source).map(|_| ()).map_err(words)
    }

    /// A template's text.
    pub(crate) fn render(&self, source: &str, document: &Value) -> Result<String, String> {
        let template = self.environment.template_from_str(source).map_err(words)?;
        template.render(document).map_err(|error| match error.kind() {
            ErrorKind::UndefinedError => absent(template.undeclared_variables(true), document, error),
            _ => words(error),
        })
    }

    /// An expression's value; a value that is not there is an error.
    pub(crate) fn value(&self, source: &str, document: &Value) -> Result<Value, String> {
        let expression = self.environment.compile_expression(source).map_err(words)?;
        let value = expression.eval(document).map_err(|error| match error.kind() {
            ErrorKind::UndefinedError => absent(expression.undeclared_variables(true), document, error),
            _ => words(error),
        })?;
        if value.is_undefined() {
            return Err(format!("`{source}` is not there"));
        }
        Ok(value)
    }

    /// An expression that must be text.
    pub(crate) fn text(&self, source: &str, document: &Value) -> Result<String, String> {
        let value = self.value(source, document)?;
        match value.as_str() {
            Some(text) => Ok(text.to_owned()),
            None => Err(format!("`{source}` is {}, and a string is needed", kind(&value))),
        }
    }

    /// An expression that must be a list.
    pub(crate) fn list(&self, source: &str, document: &Value) -> Result<Vec<Value>, String> {
        let value = self.value(source, document)?;
        match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => value.try_iter().map(Iterator::collect).map_err(words),
            _ => Err(format!("`{source}` is {}, and a list is needed", kind(&value))),
        }
    }
}

/// What templates see of something.
pub(crate) fn value(of: &impl serde::Serialize) -> Value {
    Value::from(Serde(of))
}

/// What a value is, with an article.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => "nothing",
        ValueKind::Bool => "true or false",
        ValueKind::Number => "a number",
        ValueKind::String | ValueKind::Bytes => "a string",
        ValueKind::Seq | ValueKind::Iterable => "a list",
        ValueKind::Map => "an object",
        _ => "something else",
    }
}

/// Which of the names that a template uses are not there.
fn absent(used: HashSet<String>, document: &Value, error: JinjaError) -> String {
    let there = |path: &str| {
        let found = path.split('.').try_fold(document.clone(), |at, part| at.get_attr(part));
        found.is_ok_and(|value| !value.is_undefined())
    };
    let mut names: Vec<String> = used.into_iter().filter(|path| !there(path)).collect();
    names.sort();
    match names.as_slice() {
        [] => words(error),
        names => format!("`{}` is not there", names.join("`, `")),
    }
}

fn words(error: JinjaError) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

fn refuse(message: impl Into<String>) -> JinjaError {
    JinjaError::new(ErrorKind::InvalidOperation, message.into())
}

/// `re.sub(pattern, replacement, text)`; groups are `$1` there.
fn regex_replace(text: &str, pattern: &str, replacement: &str) -> Result<String, JinjaError> {
    let regex = Regex::new(pattern).map_err(|e| refuse(e.to_string()))?;
    regex.try_replacen(text, 0, replacement).map(|text| text.into_owned()).map_err(|e| refuse(e.to_string()))
}

/// `list.index(value)`.
fn position(list: Value, wanted: Value) -> Result<usize, JinjaError> {
    let shown: Vec<Value> = list.try_iter()?.collect();
    shown.iter().position(|v| *v == wanted).ok_or_else(|| {
        let shown: Vec<String> = shown.iter().map(Value::to_string).collect();
        refuse(format!("\"{wanted}\" is none of {}", shown.join(", ")))
    })
}

/// What stands in the last `\boxed{}` of a solution.
fn last_boxed(text: &str) -> Result<String, JinjaError> {
    math::last_boxed(text).map(str::to_owned).ok_or_else(|| refuse("the solution boxes no answer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_has_pythons_words() {
        let engine = Engine::new();
        let document = value(&serde_json::json!({
            "q": "\u{1c} a [b] c  d ", "labels": ["A", "B"], "n": 7,
        }));
        let render = |source| engine.render(source, &document).unwrap();
        assert_eq!(render("{{ ' a '.strip() }}"), "a");
        assert_eq!(render("{{ q | strip }}"), "a [b] c  d");
        assert_eq!(render("{{ q | strip | regex_replace('\\\\[.*?\\\\]', '') }}"), "a  c  d");
        assert_eq!(render("{{ labels | position('B') }}\n"), "1\n");
        assert_eq!(render("{{ 'hELLO World' | capitalize }}"), "Hello world");
        assert_eq!(engine.render("{{ q }}{{ nothing }}", &document).unwrap_err(), "`nothing` is not there");
        assert!(engine.value("labels | position('C')", &document).unwrap_err().contains("\"C\" is none of A, B"));
        assert!(engine.text("n", &document).unwrap_err().contains("`n` is a number"));
        assert!(engine.check_template("{{ q ").is_err());
        assert!(engine.check_expression("labels |").is_err());
    }
}
