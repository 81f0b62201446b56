//! mteval-v14.pl's international tokenization: punctuation and symbols by their Unicode category, except punctuation
//! between numbers.

use super::super::category::{numbers, punctuation, symbols};

/// Copies characters; where two neighbours match, what `write` makes of them. Matches do not overlap.
fn pairs(
    line: &[char],
    out: &mut Vec<char>,
    matches: impl Fn(char, char) -> bool,
    spaced: fn(char, char) -> [char; 4],
) {
    out.clear();
    let mut at = 0;
    while let Some(&first) = line.get(at) {
        match line.get(at + 1) {
            Some(&second) if matches(first, second) => {
                out.extend(spaced(first, second));
                at += 2;
            }
            _ => {
                out.push(first);
                at += 1;
            }
        }
    }
}

pub(super) fn write(line: &str, out: &mut String) {
    let (number, mark, symbol) = (numbers(), punctuation(), symbols());
    let line: Vec<char> = line.chars().collect();
    let (mut behind, mut before) = (Vec::with_capacity(line.len() + 16), Vec::with_capacity(line.len() + 16));
    // Punctuation behind something that is no number, then before. The first form is `a b `, the second ` a b`.
    pairs(&line, &mut behind, |a, b| !number.has(a) && mark.has(b), |a, b| [a, ' ', b, ' ']);
    pairs(&behind, &mut before, |a, b| mark.has(a) && !number.has(b), |a, b| [' ', a, ' ', b]);
    for c in before {
        if symbol.has(c) {
            out.push(' ');
            out.push(c);
            out.push(' ');
        } else {
            out.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_behind_a_number_stays_with_it() {
        let mut out = String::new();
        write("Ça coûte 3,5 € en 1999.", &mut out);
        assert_eq!(out.split_whitespace().collect::<Vec<_>>(), ["Ça", "coûte", "3,5", "€", "en", "1999."]);
        out.clear();
        write("«Да», сказал он…", &mut out);
        assert_eq!(out.split_whitespace().collect::<Vec<_>>(), ["«", "Да", "»", ",", "сказал", "он", "…"]);
    }
}
