//! `{% generation %}` ... `{% endgeneration %}`: transformers' mark around what the assistant said.
//!
//! The engine has no tags of our own, and rendering has no use for the mark: the tags become a condition
//! that always holds, on the same line and with the same handling of white space.

use std::borrow::Cow;

/// The template with its generation tags replaced.
pub(super) fn without_generation_tags(source: &str) -> Cow<'_, str> {
    if !source.contains("generation") {
        return Cow::Borrowed(source);
    }
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let Some(length) = tag.find("%}").map(|end| end + 2) else {
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(length);
        match replacement(tag) {
            Some(new) => out.push_str(&new),
            None => out.push_str(tag),
        }
        rest = after;
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// `tag` is a whole tag with its braces.
fn replacement(tag: &str) -> Option<String> {
    let inner = tag.strip_prefix("{%")?.strip_suffix("%}")?;
    let open = inner.chars().next().filter(|c| matches!(c, '-' | '+'));
    let close = inner.chars().next_back().filter(|c| matches!(c, '-' | '+'));
    let word = inner.trim_matches(['-', '+']);
    let new = match word.trim() {
        "generation" => "if true",
        "endgeneration" => "endif",
        _ => return None,
    };
    let mark = |c: Option<char>| c.map(String::from).unwrap_or_default();
    Some(format!("{{%{} {new} {}%}}", mark(open), mark(close)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_tags_change() {
        let source = "a{% generation %}b{%- endgeneration -%}c{% if generation %}generation{% endif %}{% x";
        let want = "a{% if true %}b{%- endif -%}c{% if generation %}generation{% endif %}{% x";
        assert_eq!(without_generation_tags(source), want);
        assert!(matches!(without_generation_tags("{% if x %}"), Cow::Borrowed(_)));
        assert_eq!(without_generation_tags("generation {%%}{%-%}"), "generation {%%}{%-%}");
    }
}
