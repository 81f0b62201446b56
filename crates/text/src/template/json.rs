//! `tojson` as transformers defines it: Python's `json.dumps`, with its spaces and without HTML escapes.

use std::fmt::Write;

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

/// How deep values may be nested.
const MAX_DEPTH: usize = 100;
/// The widest indentation.
const MAX_INDENT: usize = 64;

struct Style {
    ensure_ascii: bool,
    sort_keys: bool,
    indent: Option<String>,
    item: String,
    key: String,
}

/// The filter.
pub(super) fn tojson(state: &mut State, value: &Value, indent: Option<Value>, kwargs: Kwargs) -> Result<String, Error> {
    let positional = indent.filter(|v| !v.is_none() && !v.is_undefined());
    let indent = match positional {
        Some(value) => Some(value),
        None => kwargs.get::<Option<Value>>("indent")?.filter(|v| !v.is_none()),
    };
    let indent = indent.map(|v| indentation(&v)).transpose()?;
    let separators: Option<Vec<String>> = kwargs.get("separators")?;
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(invalid("tojson: separators are two strings".into())),
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
    };
    let style = Style {
        ensure_ascii: kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort_keys: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        indent,
        item,
        key,
    };
    kwargs.assert_all_used()?;
    let mut out = String::new();
    write_value(state, value, &style, 0, &mut out)?;
    Ok(out)
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// A number of spaces or the text itself.
fn indentation(value: &Value) -> Result<String, Error> {
    let indent = match value.as_str() {
        Some(text) => text.to_owned(),
        None => match usize::try_from(value.clone()) {
            Ok(spaces) if spaces <= MAX_INDENT => " ".repeat(spaces),
            _ => return Err(invalid(format!("tojson: indent {value} is no number from 0 to {MAX_INDENT}"))),
        },
    };
    match indent.len() <= MAX_INDENT {
        true => Ok(indent),
        false => Err(invalid(format!("tojson: an indent of {} bytes", indent.len()))),
    }
}

fn write_value(state: &mut State, value: &Value, style: &Style, depth: usize, out: &mut String) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(invalid(format!("tojson: values are nested more than {MAX_DEPTH} deep")));
    }
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => write_number(value, out),
        ValueKind::String => write_string(value.as_str().unwrap_or_default(), style, out),
        ValueKind::Seq | ValueKind::Iterable => {
            let mut open = Brackets::new('[', ']', style, depth);
            for item in value.try_iter()? {
                // What is written here is charged like what the engine writes itself.
                state.consume_fuel(1)?;
                open.next(out);
                write_value(state, &item, style, depth + 1, out)?;
            }
            open.close(out);
        }
        ValueKind::Map => {
            let mut keys: Vec<(String, Value)> = Vec::new();
            for key in value.try_iter()? {
                state.consume_fuel(1)?;
                keys.push((key_text(&key)?, key));
            }
            if style.sort_keys {
                keys.sort_by(|a, b| a.0.cmp(&b.0));
            }
            let mut open = Brackets::new('{', '}', style, depth);
            for (text, key) in keys {
                open.next(out);
                write_string(&text, style, out);
                out.push_str(&style.key);
                write_value(state, &value.get_item(&key)?, style, depth + 1, out)?;
            }
            open.close(out);
        }
        other => return Err(invalid(format!("tojson: a value of type {other} is not JSON"))),
    }
    Ok(())
}

/// A key of an object: Python writes numbers, booleans and None as strings.
fn key_text(key: &Value) -> Result<String, Error> {
    let mut text = String::new();
    match key.kind() {
        ValueKind::String => text.push_str(key.as_str().unwrap_or_default()),
        ValueKind::None => text.push_str("null"),
        ValueKind::Bool => text.push_str(if key.is_true() { "true" } else { "false" }),
        ValueKind::Number => write_number(key, &mut text),
        other => return Err(invalid(format!("tojson: a key of type {other} is not JSON"))),
    }
    Ok(text)
}

fn write_number(value: &Value, out: &mut String) {
    match f64::try_from(value.clone()) {
        Ok(number) if !value.is_integer() => write_float(number, out),
        _ => {
            let _ = write!(out, "{value}"); // writing to a String cannot fail
        }
    }
}

/// A float in JSON as Python writes it.
fn write_float(number: f64, out: &mut String) {
    out.push_str(&match number {
        n if n.is_nan() => "NaN".to_owned(),
        n if n.is_infinite() => if n > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
        n => python_float(n),
    });
}

/// A finite float as Python's `repr` has it: the shortest digits that lead back to it, with an exponent
/// from 1e16 and below 1e-4.
pub(super) fn python_float(number: f64) -> String {
    let magnitude = number.abs();
    if magnitude == 0.0 || (1e-4..1e16).contains(&magnitude) {
        return format!("{number:?}");
    }
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

fn write_string(text: &str, style: &Style, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' || (style.ensure_ascii && !c.is_ascii()) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}"); // writing to a String cannot fail
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The brackets of an array or object, with separators and line breaks.
struct Brackets<'a> {
    open: char,
    close: char,
    style: &'a Style,
    depth: usize,
    empty: bool,
}

impl<'a> Brackets<'a> {
    fn new(open: char, close: char, style: &'a Style, depth: usize) -> Brackets<'a> {
        Brackets { open, close, style, depth, empty: true }
    }

    fn next(&mut self, out: &mut String) {
        match self.empty {
            true => out.push(self.open),
            false => out.push_str(&self.style.item),
        }
        self.empty = false;
        self.line(self.depth + 1, out);
    }

    fn close(&self, out: &mut String) {
        match self.empty {
            true => out.push(self.open),
            false => self.line(self.depth, out),
        }
        out.push(self.close);
    }

    fn line(&self, depth: usize, out: &mut String) {
        if let Some(indent) = &self.style.indent {
            out.push('\n');
            (0..depth).for_each(|_| out.push_str(indent));
        }
    }
}
