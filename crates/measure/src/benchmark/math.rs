//! Answers of the MATH benchmark: what is boxed, and whether two answers are the same once spelling is evened out
//! (Hendrycks et al. 2021, as lm-evaluation-harness has it). The steps and their order are the convention, slips included:
//! where a step cannot be taken, the two are compared as they stand.

/// What stands in the last `\boxed{}` or behind the last `\boxed `.
pub(crate) fn last_boxed(text: &str) -> Option<&str> {
    if let Some((_, behind)) = text.rsplit_once("\\boxed ") {
        return behind.split('$').next();
    }
    let (at, command) = match text.rfind("\\boxed") {
        Some(at) => (at, "\\boxed{"),
        None => (text.rfind("\\fbox")?, "\\fbox{"),
    };
    let inner = text[at..].strip_prefix(command)?;
    let mut open = 1;
    for (i, c) in inner.char_indices() {
        match c {
            '{' => open += 1,
            '}' => open -= 1,
            _ => continue,
        }
        if open == 0 {
            return Some(&inner[..i]);
        }
    }
    None
}

/// Whether two answers are the same.
pub(crate) fn equivalent(a: &str, b: &str) -> bool {
    match (normalize(a), normalize(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

/// The evened-out spelling; `None` where a step cannot be taken.
fn normalize(answer: &str) -> Option<String> {
    let mut text = answer.replace('\n', "").replace("\\!", "").replace("\\\\", "\\");
    text = text.replace("tfrac", "frac").replace("dfrac", "frac");
    for nothing in ["\\left", "\\right", "^{\\circ}", "^\\circ", "\\$"] {
        text = text.replace(nothing, "");
    }
    text = without_unit(text)?;
    text = text.replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.");
    if text.is_empty() {
        return Some(text);
    }
    if text.starts_with('.') {
        text.insert(0, '0');
    }
    if let [name, value] = text.split('=').collect::<Vec<_>>()[..]
        && name.chars().count() <= 2
    {
        text = value.to_owned();
    }
    text = braced_roots(&text)?.replace(' ', "");
    text = braced_fractions(&text)?;
    if text == "0.5" {
        text = "\\frac{1}{2}".into();
    }
    slash_to_fraction(text)
}

/// Units stand at the end, in `\text{ `.
fn without_unit(text: String) -> Option<String> {
    match text.split("\\text{ ").collect::<Vec<_>>()[..] {
        [_] => Some(text),
        [value, _] => Some(value.to_owned()),
        _ => None,
    }
}

/// `\sqrt3` to `\sqrt{3}`.
fn braced_roots(text: &str) -> Option<String> {
    let mut parts = text.split("\\sqrt");
    let mut out = parts.next()?.to_owned();
    for part in parts {
        let first = part.chars().next()?;
        out.push_str("\\sqrt");
        if first == '{' {
            out.push_str(part);
        } else {
            out.push_str(&format!("{{{first}}}{}", &part[first.len_utf8()..]));
        }
    }
    Some(out)
}

/// `\frac1b` and `\frac1{b}` to `\frac{1}{b}`; a fraction that breaks off leaves all as it is.
fn braced_fractions(text: &str) -> Option<String> {
    let mut parts = text.split("\\frac");
    let mut out = parts.next()?.to_owned();
    for part in parts {
        let mut letters = part.chars();
        let above = letters.next()?;
        out.push_str("\\frac");
        if above == '{' {
            out.push_str(part);
            continue;
        }
        let Some(below) = letters.next() else { return Some(text.to_owned()) };
        let rest = letters.as_str();
        if below == '{' {
            out.push_str(&format!("{{{above}}}{{{rest}"));
        } else {
            out.push_str(&format!("{{{above}}}{{{below}}}{rest}"));
        }
    }
    Some(out)
}

/// `a/b` of whole numbers to a fraction.
fn slash_to_fraction(text: String) -> Option<String> {
    let [above, below] = text.split('/').collect::<Vec<_>>()[..] else { return Some(text) };
    match (whole_number(above)?, whole_number(below)?) {
        (true, true) => Some(format!("\\frac{{{above}}}{{{below}}}")),
        _ => Some(text),
    }
}

/// Whether text that Python reads as a whole number is how Python writes it; `None` if it is no whole number.
fn whole_number(text: &str) -> Option<bool> {
    let trimmed = text.trim();
    let digits = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
    let groups = digits.split('_').all(|group| !group.is_empty() && group.bytes().all(|b| b.is_ascii_digit()));
    if !groups {
        return None;
    }
    let plain = text.strip_prefix('-').unwrap_or(text);
    let canonical = plain.bytes().all(|b| b.is_ascii_digit()) && (!plain.starts_with('0') || text == "0");
    Some(canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_the_same_where_the_harness_says_so() {
        // `is_equiv` of lm-evaluation-harness 0.4.13, lm_eval/tasks/hendrycks_math/utils.py.
        let pairs = [
            ("\\frac12", "\\frac{1}{2}", true),
            ("0.5", "\\dfrac{1}{2}", true),
            ("1/2", "\\tfrac12", true),
            ("x/2", "x/2", true),
            ("x/2", "\\frac{x}{2}", false),
            ("k = 5", "5", true),
            ("abc=5", "5", false),
            (".5", "0.5", true),
            ("5^\\circ", "5", true),
            ("5^{\\circ}", "5", true),
            ("10\\%", "10", true),
            ("\\$5", "5", true),
            ("5\\text{ cm}", "5", true),
            ("5\\text{ cm}\\text{ x}", "5", false),
            ("\\sqrt2", "\\sqrt{2}", true),
            ("\\sqrt", "\\sqrt{2}", false),
            ("\\frac", "\\frac", true),
            ("\\frac1", "\\frac1", true),
            ("\\frac1{72}", "\\frac{1}{72}", true),
            ("\\left( 3, 4\\right)", "(3,4)", true),
            ("1\\!000", "1000", true),
            ("01/2", "\\frac{1}{2}", false),
            ("01/2", "01/2", true),
            ("-1/2", "\\frac{-1}{2}", true),
            ("1_0/2", "10/2", false),
            ("+1/2", "+1/2", true),
            ("", "  ", true),
            ("2\n3", "23", true),
            ("{.5}", "{0.5}", true),
            ("a .5", "a0.5", true),
            ("\\\\frac12", "\\frac{1}{2}", true),
            ("0/1", "\\frac{0}{1}", true),
            ("-0/1", "\\frac{0}{1}", false),
            ("1 / 2", "\\frac{1}{2}", true),
            ("x=1=2", "x=1=2", true),
            ("\\frac{1}2", "\\frac{1}{2}", false),
            ("\\frac1x3", "\\frac{1}{x}3", true),
        ];
        for (a, b, same) in pairs {
            assert_eq!(equivalent(a, b), same, "{a:?}, {b:?}");
        }
    }

    #[test]
    fn the_last_box_counts() {
        // `remove_boxed(last_boxed_only_string(text))` of the same, which stumbles over \\fbox.
        let texts = [
            ("so $\\boxed{\\frac{1}{2}}$.", Some("\\frac{1}{2}")),
            ("\\boxed{1} and \\boxed{2}", Some("2")),
            ("x $\\boxed 7$ y", Some("7")),
            ("\\fbox{3}", Some("3")),
            ("none", None),
            ("\\boxed{1", None),
        ];
        for (text, inside) in texts {
            assert_eq!(last_boxed(text), inside, "{text:?}");
        }
    }
}
