//! What Python does and the engine does not: a few string methods, tests and the printing of floats.

use minijinja::value::{Tuple, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::json::python_float;

/// Makes an environment behave more like jinja2 on Python.
pub(super) fn install(environment: &mut Environment<'_>) {
    environment.set_unknown_method_callback(method);
    environment.set_formatter(print);
    // These are the engine's own; jinja2 has none of them.
    ["chain", "zip", "lines", "split", "bool"].iter().for_each(|name| environment.remove_filter(name));
    environment.remove_global("debug");
    // In jinja2 None cannot be iterated over, a mapping and a string are sequences, and True is a number.
    environment.add_test("iterable", |v: &Value| is_collection(v) || v.kind() == ValueKind::Iterable);
    environment.add_test("sequence", |v: &Value| is_collection(v));
    environment.add_test("number", |v: &Value| matches!(v.kind(), ValueKind::Number | ValueKind::Bool));
}

fn is_collection(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Map | ValueKind::Undefined)
}

fn print(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    match f64::try_from(value.clone()) {
        Ok(number) if value.kind() == ValueKind::Number && !value.is_integer() => {
            let text = match number {
                n if n.is_nan() => "nan".to_owned(),
                n if n.is_infinite() => if n > 0.0 { "inf" } else { "-inf" }.to_owned(),
                n => python_float(n),
            };
            out.write_str(&text).map_err(Error::from)
        }
        _ => minijinja::escape_formatter(out, state, value),
    }
}

fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let Some(text) = value.as_str() else { return unknown_method_callback(state, value, name, args) };
    match name {
        "title" => {
            let () = from_args(args)?;
            Ok(Value::from(title(text)))
        }
        // A width or precision makes the engine allocate before it asks whether it may.
        "format" if text.split(|c: char| !c.is_ascii_digit()).any(|number| number.len() > 3) => {
            Err(invalid("format: a width or precision above 999"))
        }
        "swapcase" => {
            let () = from_args(args)?;
            let swap =
                |c: char| if c.is_uppercase() { c.to_lowercase().to_string() } else { c.to_uppercase().to_string() };
            Ok(text.chars().map(swap).collect::<String>().into())
        }
        "casefold" => {
            let () = from_args(args)?;
            // Full case folding differs from lower case for a handful of letters; the common one is here.
            Ok(text.to_lowercase().replace('ß', "ss").into())
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Ok(text.strip_prefix(prefix).unwrap_or(text).into())
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Ok(text.strip_suffix(suffix).unwrap_or(text).into())
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            if separator.is_empty() {
                return Err(invalid("empty separator"));
            }
            let last = name == "rpartition";
            let cut = if last { text.rsplit_once(separator) } else { text.split_once(separator) };
            let parts = match cut {
                Some((left, right)) => [left, separator, right],
                None if last => ["", "", text],
                None => [text, "", ""],
            };
            Ok(Value::from(Tuple::new(parts.map(Value::from).to_vec())))
        }
        "rsplit" => {
            let (separator, most): (Option<&str>, Option<i64>) = from_args(args)?;
            rsplit(text, separator, most)
        }
        "index" => {
            let (part,): (&str,) = from_args(args)?;
            let at = text.find(part).ok_or_else(|| invalid("substring not found"))?;
            Ok(Value::from(text[..at].chars().count()))
        }
        _ => unknown_method_callback(state, value, name, args),
    }
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// Upper case for the first letter of each run of letters, lower case for the others.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        let cased = c.is_lowercase() || c.is_uppercase();
        match (cased, inside) {
            (true, true) => out.extend(c.to_lowercase()),
            (true, false) => out.extend(c.to_uppercase()),
            (false, _) => out.push(c),
        }
        inside = cased;
    }
    out
}

/// At most `most` cuts from the right, at `separator` or at runs of white space.
fn rsplit(text: &str, separator: Option<&str>, most: Option<i64>) -> Result<Value, Error> {
    if separator.is_some_and(str::is_empty) {
        return Err(invalid("empty separator"));
    }
    let mut left = usize::try_from(most.unwrap_or(-1)).unwrap_or(usize::MAX);
    let mut parts = Vec::new();
    let mut rest = if separator.is_none() { text.trim_end() } else { text };
    loop {
        let cut = match separator {
            _ if left == 0 => None,
            Some(separator) => rest.rsplit_once(separator),
            None => rest.rsplit_once(char::is_whitespace).map(|(before, part)| (before.trim_end(), part)),
        };
        let Some((before, part)) = cut else { break };
        parts.push(Value::from(part));
        (rest, left) = (before, left - 1);
    }
    if separator.is_some() || !rest.is_empty() {
        parts.push(Value::from(rest));
    }
    parts.reverse();
    Ok(Value::from(parts))
}
