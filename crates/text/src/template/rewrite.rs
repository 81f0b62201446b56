//! What is done to a template's source before the engine compiles it.
//!
//! - `{% generation %}` ... `{% endgeneration %}`, transformers' mark around what the assistant said,
//!   becomes a condition that always holds: rendering has no use for it and the engine no such tag.
//! - Each value that a template binds to a name (`set`, `with`, `for` over more than a name, the arguments
//!   of a call) passes through the function of [`super::bounded`]. The engine meters steps and strings, but
//!   not the lists that a few dozen doublings make.
//! - A tag may hold only so many tokens, and a template so many `elif`s: the engine's parser makes a tree
//!   as deep as such a chain is long, and walks it recursively.
//!
//! Tags are cut as the engine's lexer cuts them: strings are skipped, and an end counts only outside all
//! brackets. Lines stay where they are, so that errors name the right one.

use std::ops::Range;

/// Bounds a value; the source calls it by this name.
pub(super) const BOUNDED: &str = "__bounded";
/// The same for a value that becomes an attribute of a namespace.
pub(super) const BOUNDED_ATTRIBUTE: &str = "__bounded_attribute";
/// Real templates have up to about 60 tokens in a tag, and 20 `elif`s.
const MAX_TOKENS: usize = 1000;
const MAX_ELIFS: usize = 300;

/// Rewrites a template. The error is a line and what is wrong there.
pub(super) fn rewrite(source: &str) -> Result<String, (usize, String)> {
    let mut out = String::with_capacity(source.len() + source.len() / 8);
    let mut rest = source;
    let mut elifs = 0;
    let fail = |at: &str, message: String| {
        let before = &source[..source.len() - at.len()];
        Err((before.matches('\n').count() + 1, message))
    };
    while let Some(at) = rest.find('{') {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        if tag.starts_with("{#") {
            let end = tag.find("#}").map_or(tag.len(), |end| end + 2);
            out.push_str(&tag[..end]);
            rest = &tag[end..];
            continue;
        }
        if !tag.starts_with("{{") && !tag.starts_with("{%") {
            out.push('{');
            rest = &tag[1..];
            continue;
        }
        let lexed = Tag::lex(tag);
        if lexed.tokens.len() > MAX_TOKENS {
            return fail(tag, format!("a tag with more than {MAX_TOKENS} tokens"));
        }
        let (text, after) = tag.split_at(lexed.length);
        rest = after;
        match lexed.keyword() {
            // Unfinished or out of balance: the engine will say what is wrong.
            _ if !lexed.closed => out.push_str(text),
            Some("raw") => {
                let end = end_of_raw(rest);
                out.push_str(text);
                out.push_str(&rest[..end]);
                rest = &rest[end..];
            }
            Some("generation") if lexed.tokens.len() == 1 => out.push_str(&lexed.with_words("if true")),
            Some("endgeneration") if lexed.tokens.len() == 1 => out.push_str(&lexed.with_words("endif")),
            keyword => {
                elifs += usize::from(keyword == Some("elif"));
                if elifs > MAX_ELIFS {
                    return fail(tag, format!("more than {MAX_ELIFS} elif"));
                }
                lexed.write_bounded(&mut out);
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Length of what is before the tag that ends a raw block.
fn end_of_raw(text: &str) -> usize {
    let mut from = 0;
    while let Some(at) = text[from..].find("{%").map(|at| from + at) {
        let inner = text[at + 2..].trim_start_matches(['-', '+']).trim_start();
        let close = inner.strip_prefix("endraw").map(|t| t.trim_start().trim_start_matches(['-', '+']));
        if close.is_some_and(|t| t.starts_with("%}")) {
            return at;
        }
        from = at + 2;
    }
    text.len()
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Word,
    Number,
    Text,
    Symbol,
}

#[derive(Clone, Debug)]
struct Token {
    kind: Kind,
    range: Range<usize>,
    /// How many brackets are open around it; a bracket counts as outside of itself.
    depth: usize,
}

/// One `{{ }}` or `{% %}`.
struct Tag<'a> {
    /// The text from the tag on.
    text: &'a str,
    /// Length of the whole tag.
    length: usize,
    closed: bool,
    tokens: Vec<Token>,
}

impl<'a> Tag<'a> {
    fn lex(text: &'a str) -> Tag<'a> {
        let close = if text.starts_with("{{") { "}}" } else { "%}" };
        let mut tag = Tag { text, length: text.len(), closed: false, tokens: Vec::new() };
        let mut at = 2 + usize::from(text[2..].starts_with(['-', '+']));
        let mut depth = 0usize;
        while let Some(c) = text[at..].chars().next() {
            let rest = &text[at..];
            if depth == 0 {
                let mark = usize::from(rest.starts_with(['-', '+']));
                if rest[mark..].starts_with(close) {
                    tag.length = at + mark + close.len();
                    tag.closed = true;
                    return tag;
                }
            }
            if tag.tokens.len() > MAX_TOKENS {
                return tag;
            }
            let (kind, length) = match c {
                c if c.is_whitespace() => {
                    at += c.len_utf8();
                    continue;
                }
                '"' | '\'' => (Kind::Text, string_length(rest, c)),
                c if c.is_ascii_digit() => (Kind::Number, word_length(rest)),
                c if is_word(c) => (Kind::Word, word_length(rest)),
                _ if ["==", "!=", "<=", ">=", "//", "**"].iter().any(|s| rest.starts_with(s)) => (Kind::Symbol, 2),
                c => (Kind::Symbol, c.len_utf8()),
            };
            if matches!(c, ')' | ']' | '}') {
                match depth.checked_sub(1) {
                    Some(outer) => depth = outer,
                    None => return tag,
                }
            }
            tag.tokens.push(Token { kind, range: at..at + length, depth });
            depth += usize::from(matches!(c, '(' | '[' | '{'));
            at += length;
        }
        tag
    }

    fn str(&self, index: usize) -> &'a str {
        self.tokens.get(index).map_or("", |t| &self.text[t.range.clone()])
    }

    fn is_statement(&self) -> bool {
        self.text.starts_with("{%")
    }

    /// The first word of a statement.
    fn keyword(&self) -> Option<&'a str> {
        let first = self.tokens.first()?;
        (self.is_statement() && first.kind == Kind::Word).then(|| self.str(0))
    }

    /// The tag with other words in it.
    fn with_words(&self, words: &str) -> String {
        let (start, end) = match (self.tokens.first(), self.tokens.last()) {
            (Some(first), Some(last)) => (first.range.start, last.range.end),
            _ => (0, 0),
        };
        format!("{}{words}{}", &self.text[..start], &self.text[end..self.length])
    }

    /// Writes the tag with its bound values wrapped.
    fn write_bounded(&self, out: &mut String) {
        let mut insertions: Vec<(usize, String)> = Vec::new();
        let mut wrap = |tokens: Range<usize>, name: &str| {
            if let (Some(first), Some(last)) =
                (self.tokens.get(tokens.start), self.tokens.get(tokens.end.wrapping_sub(1)))
                && !tokens.is_empty()
            {
                insertions.push((first.range.start, format!("{name}((")));
                insertions.push((last.range.end, "))".to_owned()));
            }
        };
        let all = self.tokens.len();
        match self.keyword() {
            Some("set") => {
                if let Some(equals) = self.find(1..all, 0, |t| t == "=") {
                    let attribute = (1..equals).any(|i| self.str(i) == ".");
                    wrap(equals + 1..all, if attribute { BOUNDED_ATTRIBUTE } else { BOUNDED });
                }
            }
            Some("with") => self.arguments(1..all, 0).for_each(|value| wrap(value, BOUNDED)),
            Some("for") => {
                if let Some(start) = self.find(1..all, 0, |t| t == "in").map(|at| at + 1) {
                    let end = self.find(start..all, 0, |t| matches!(t, "if" | "recursive")).unwrap_or(all);
                    if (start..end).any(|i| self.makes_something_new(i)) {
                        wrap(start..end, BOUNDED);
                    }
                }
            }
            _ => {}
        }
        for open in (1..all).filter(|&i| self.is_call(i)) {
            let depth = self.tokens[open].depth;
            let close = self.find(open + 1..all, depth, |t| t == ")").unwrap_or(all);
            self.arguments(open + 1..close, depth + 1)
                .filter(|value| !self.is_literal(value))
                .for_each(|value| wrap(value, BOUNDED));
        }
        insertions.sort_by_key(|(at, _)| *at);
        let mut done = 0;
        for (at, text) in insertions {
            out.push_str(&self.text[done..at]);
            out.push_str(&text);
            done = at;
        }
        out.push_str(&self.text[done..self.length]);
    }

    /// The first token of a range, at a depth, that is wanted.
    fn find(&self, range: Range<usize>, depth: usize, wanted: impl Fn(&str) -> bool) -> Option<usize> {
        range.into_iter().find(|&i| {
            let token = &self.tokens[i];
            token.depth == depth && token.kind != Kind::Text && wanted(self.str(i))
        })
    }

    /// Whether this bracket opens the arguments of a call (and not of a definition).
    fn is_call(&self, open: usize) -> bool {
        const KEYWORDS: [&str; 12] =
            ["in", "and", "or", "not", "if", "else", "elif", "is", "for", "set", "with", "call"];
        if self.str(open) != "(" || self.tokens[open].kind != Kind::Symbol {
            return false;
        }
        let before = self.str(open - 1);
        match self.tokens[open - 1].kind {
            Kind::Word => {
                let definition = open == 2 && self.keyword() == Some("macro");
                !definition && (!KEYWORDS.contains(&before) || self.str(open.wrapping_sub(2)) == ".")
            }
            Kind::Symbol => matches!(before, ")" | "]"),
            _ => false,
        }
    }

    /// The values of a list of `value` and `name=value` at a depth; `*value` is left out.
    fn arguments(&self, range: Range<usize>, depth: usize) -> impl Iterator<Item = Range<usize>> {
        let commas: Vec<usize> =
            range.clone().filter(|&i| self.tokens[i].depth == depth && self.str(i) == ",").collect();
        let starts: Vec<usize> = std::iter::once(range.start).chain(commas.iter().map(|c| c + 1)).collect();
        let ends: Vec<usize> = commas.iter().copied().chain([range.end]).collect();
        let values = starts.into_iter().zip(ends).filter_map(|(start, end)| {
            if start >= end || self.str(start).starts_with('*') {
                return None;
            }
            let named = start + 1 < end && self.tokens[start].kind == Kind::Word && self.str(start + 1) == "=";
            Some(if named { start + 2..end } else { start..end })
        });
        values.collect::<Vec<_>>().into_iter()
    }

    fn is_literal(&self, value: &Range<usize>) -> bool {
        value.len() == 1 && matches!(self.tokens[value.start].kind, Kind::Text | Kind::Number)
    }

    /// Whether a token may be part of making a value that was not there before.
    fn makes_something_new(&self, index: usize) -> bool {
        let opens_literal = |index: usize| {
            let after_value = index > 0
                && match self.tokens[index - 1].kind {
                    Kind::Word => self.str(index - 1) != "in",
                    Kind::Symbol => matches!(self.str(index - 1), ")" | "]"),
                    _ => false,
                };
            !after_value
        };
        self.tokens[index].kind == Kind::Symbol
            && match self.str(index) {
                "+" | "*" | "|" | "{" | ":" | "," => true,
                "[" | "(" => opens_literal(index),
                _ => false,
            }
    }
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn word_length(text: &str) -> usize {
    text.find(|c| !is_word(c)).unwrap_or(text.len())
}

/// Length of a string literal with its quotes; all of the text if it does not end.
fn string_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_tags_become_conditions() {
        let source = "a{% generation %}b{%- endgeneration -%}c{% if generation %}generation{% endif %}";
        let want = "a{% if true %}b{%- endif -%}c{% if generation %}generation{% endif %}";
        assert_eq!(rewrite(source).unwrap(), want);
    }

    #[test]
    fn bound_values_are_wrapped() {
        for (source, want) in [
            ("{% set x = a + b %}", "{% set x = __bounded((a + b)) %}"),
            ("{%- set a, b = 1, 2 -%}", "{%- set a, b = __bounded((1, 2)) -%}"),
            ("{% set ns.x = [ns.x] %}", "{% set ns.x = __bounded_attribute(([ns.x])) %}"),
            ("{% set x %}a{% endset %}", "{% set x %}a{% endset %}"),
            ("{{ f(a, 'b', c=d == 1, *e) }}", "{{ f(__bounded((a)), 'b', c=__bounded((d == 1)), *e) }}"),
            ("{{ f(g(a)(b)) }}", "{{ f(__bounded((g(__bounded((a)))(__bounded((b)))))) }}"),
            ("{{ x.split(' ')[0] | default('a') }}", "{{ x.split(' ')[0] | default('a') }}"),
            ("{% if a and (b or c) in (d, e) %}", "{% if a and (b or c) in (d, e) %}"),
            ("{% macro f(a, b=[1]) %}", "{% macro f(a, b=[1]) %}"),
            ("{% call(x) f(a) %}", "{% call(x) f(__bounded((a))) %}"),
            ("{% for a, b in x.items() %}", "{% for a, b in x.items() %}"),
            ("{% for a in [b, b] if a %}", "{% for a in __bounded(([b, b])) if a %}"),
            ("{% for a in b[1:] recursive %}", "{% for a in __bounded((b[1:])) recursive %}"),
            ("{% with a = b + 1, c = d %}", "{% with a = __bounded((b + 1)), c = __bounded((d)) %}"),
            ("{{ '}}' ~ \"%}\\\"(a)\" }}", "{{ '}}' ~ \"%}\\\"(a)\" }}"),
            ("{{ {'a': {}} }}{{ f({'a': {}}) }}", "{{ {'a': {}} }}{{ f(__bounded(({'a': {}}))) }}"),
            ("{% raw %}{{ f(a) }}{%- endraw -%}{{ f(a) }}", "{% raw %}{{ f(a) }}{%- endraw -%}{{ f(__bounded((a))) }}"),
            ("{# {% set x = 1 %} #}{ {x} }", "{# {% set x = 1 %} #}{ {x} }"),
            ("a {{ f(a", "a {{ f(a"),
            ("{{ a) }}{% set x = 1 %}", "{{ a) }}{% set x = 1 %}"),
            ("{%", "{%"),
            ("{{", "{{"),
            ("{#", "{#"),
        ] {
            assert_eq!(rewrite(source).unwrap(), want, "{source}");
        }
    }

    #[test]
    fn long_chains_are_refused_with_their_line() {
        let long = format!("a\nb{{{{ 1{} }}}}", "+1".repeat(600));
        assert_eq!(rewrite(&long).unwrap_err(), (2, "a tag with more than 1000 tokens".into()));
        let open = format!("{{{{ {}", "-".repeat(5000));
        assert!(rewrite(&open).is_err());
        let elifs = format!("{{% if a %}}{}{{% endif %}}", "\n{% elif b %}".repeat(301));
        assert_eq!(rewrite(&elifs).unwrap_err().0, 302);
    }
}
