//! Porter's stemmer (Porter 1980, "An algorithm for suffix stripping") with the extensions that NLTK 3.10.4 makes by
//! default; ROUGE and METEOR both use it.

/// A way to change an ending: the ending, what replaces it, and what the rest has to fulfil.
type Rule = (&'static str, &'static str, fn(&[char]) -> bool);

/// Words that no rule applies to.
const IRREGULAR: [(&str, &str); 16] = [
    ("sky", "sky"),
    ("skies", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("inning", "inning"),
    ("outings", "outing"),
    ("outing", "outing"),
    ("cannings", "canning"),
    ("canning", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

/// Writes the stem of a word in lower case into a buffer.
pub(crate) fn stem(word: &str, out: &mut String) {
    out.clear();
    if let Some((_, stem)) = IRREGULAR.iter().find(|(form, _)| *form == word) {
        out.push_str(stem);
        return;
    }
    let mut letters: Vec<char> = word.chars().collect();
    if letters.len() > 2 {
        step_1a(&mut letters);
        step_1b(&mut letters);
        step_1c(&mut letters);
        step_2(&mut letters);
        first_rule(&mut letters, STEP_3);
        first_rule(&mut letters, STEP_4);
        step_5(&mut letters);
    }
    out.extend(letters);
}

fn is_vowel(c: char) -> bool {
    matches!(c, 'a' | 'e' | 'i' | 'o' | 'u')
}

/// For each letter whether it is a consonant: a y is one unless it follows one.
fn consonants(word: &[char]) -> impl Iterator<Item = bool> {
    let mut before = false;
    word.iter().map(move |&c| {
        before = if c == 'y' { !before } else { !is_vowel(c) };
        before
    })
}

fn is_consonant(word: &[char], at: usize) -> bool {
    consonants(&word[..=at]).last().unwrap_or(false)
}

/// How often a consonant follows a vowel.
fn measure(stem: &[char]) -> usize {
    let mut vowel = false;
    consonants(stem).filter(|&consonant| std::mem::replace(&mut vowel, !consonant) && consonant).count()
}

fn any(_: &[char]) -> bool {
    true
}

fn measures_1(stem: &[char]) -> bool {
    measure(stem) > 0
}

fn measures_2(stem: &[char]) -> bool {
    measure(stem) > 1
}

fn has_vowel(stem: &[char]) -> bool {
    consonants(stem).any(|consonant| !consonant)
}

/// Consonant, vowel, consonant other than w, x, y at the end; or a vowel and a consonant alone.
fn ends_cvc(word: &[char]) -> bool {
    let n = word.len();
    if n == 2 {
        return !is_consonant(word, 0) && is_consonant(word, 1);
    }
    n >= 3
        && is_consonant(word, n - 3)
        && !is_consonant(word, n - 2)
        && is_consonant(word, n - 1)
        && !matches!(word[n - 1], 'w' | 'x' | 'y')
}

/// The length of what stands before an ending.
fn before(word: &[char], ending: &str) -> Option<usize> {
    let rest = word.len().checked_sub(ending.len())?;
    word[rest..].iter().copied().eq(ending.chars()).then_some(rest)
}

fn replace(word: &mut Vec<char>, rest: usize, ending: &str) {
    word.truncate(rest);
    word.extend(ending.chars());
}

/// The first rule whose ending fits decides, whether or not the rest fulfils its condition.
fn first_rule(word: &mut Vec<char>, rules: &[Rule]) {
    for (ending, replacement, condition) in rules {
        if let Some(rest) = before(word, ending) {
            if condition(&word[..rest]) {
                replace(word, rest, replacement);
            }
            return;
        }
    }
}

fn step_1a(word: &mut Vec<char>) {
    if let (Some(rest), 4) = (before(word, "ies"), word.len()) {
        return replace(word, rest, "ie");
    }
    first_rule(word, &[("sses", "ss", any), ("ies", "i", any), ("ss", "ss", any), ("s", "", any)]);
}

fn step_1b(word: &mut Vec<char>) {
    if let Some(rest) = before(word, "ied") {
        let ending = if word.len() == 4 { "ie" } else { "i" };
        return replace(word, rest, ending);
    }
    if let Some(rest) = before(word, "eed") {
        if measures_1(&word[..rest]) {
            replace(word, rest, "ee");
        }
        return;
    }
    let stripped =
        ["ed", "ing"].iter().filter_map(|ending| before(word, ending)).find(|&rest| has_vowel(&word[..rest]));
    let Some(rest) = stripped else { return };
    word.truncate(rest);
    for (ending, replacement) in [("at", "ate"), ("bl", "ble"), ("iz", "ize")] {
        if let Some(rest) = before(word, ending) {
            return replace(word, rest, replacement);
        }
    }
    let n = word.len();
    let doubled = n >= 2 && word[n - 1] == word[n - 2] && is_consonant(word, n - 1);
    // NLTK names the rule for doubled letters "*d", and takes these two characters for an ending as well.
    if doubled || before(word, "*d").is_some() {
        let last = word[n - 1];
        if !matches!(last, 'l' | 's' | 'z') {
            word.truncate(n - 2);
            word.push(last);
        }
        return;
    }
    if measure(word) == 1 && ends_cvc(word) {
        word.push('e');
    }
}

fn step_1c(word: &mut Vec<char>) {
    if let Some(rest) = before(word, "y")
        && rest > 1
        && is_consonant(word, rest - 1)
    {
        replace(word, rest, "i");
    }
}

fn step_2(word: &mut Vec<char>) {
    while let Some(rest) = before(word, "alli")
        && measures_1(&word[..rest])
    {
        replace(word, rest, "al");
    }
    // The l of this ending belongs to the stem.
    if let Some(rest) = before(word, "logi") {
        if measures_1(&word[..=rest]) {
            replace(word, rest, "log");
        }
        return;
    }
    first_rule(word, STEP_2);
}

const STEP_2: &[Rule] = &[
    ("ational", "ate", measures_1),
    ("tional", "tion", measures_1),
    ("enci", "ence", measures_1),
    ("anci", "ance", measures_1),
    ("izer", "ize", measures_1),
    ("bli", "ble", measures_1),
    ("alli", "al", measures_1),
    ("entli", "ent", measures_1),
    ("eli", "e", measures_1),
    ("ousli", "ous", measures_1),
    ("ization", "ize", measures_1),
    ("ation", "ate", measures_1),
    ("ator", "ate", measures_1),
    ("alism", "al", measures_1),
    ("iveness", "ive", measures_1),
    ("fulness", "ful", measures_1),
    ("ousness", "ous", measures_1),
    ("aliti", "al", measures_1),
    ("iviti", "ive", measures_1),
    ("biliti", "ble", measures_1),
    ("fulli", "ful", measures_1),
];

const STEP_3: &[Rule] = &[
    ("icate", "ic", measures_1),
    ("ative", "", measures_1),
    ("alize", "al", measures_1),
    ("iciti", "ic", measures_1),
    ("ical", "ic", measures_1),
    ("ful", "", measures_1),
    ("ness", "", measures_1),
];

const STEP_4: &[Rule] = &[
    ("al", "", measures_2),
    ("ance", "", measures_2),
    ("ence", "", measures_2),
    ("er", "", measures_2),
    ("ic", "", measures_2),
    ("able", "", measures_2),
    ("ible", "", measures_2),
    ("ant", "", measures_2),
    ("ement", "", measures_2),
    ("ment", "", measures_2),
    ("ent", "", measures_2),
    ("ion", "", |stem| measures_2(stem) && matches!(stem.last(), Some('s' | 't'))),
    ("ou", "", measures_2),
    ("ism", "", measures_2),
    ("ate", "", measures_2),
    ("iti", "", measures_2),
    ("ous", "", measures_2),
    ("ive", "", measures_2),
    ("ize", "", measures_2),
];

fn step_5(word: &mut Vec<char>) {
    if let Some(rest) = before(word, "e") {
        let stem = &word[..rest];
        if measure(stem) > 1 || measure(stem) == 1 && !ends_cvc(stem) {
            word.truncate(rest);
        }
    }
    if before(word, "ll").is_some() && measures_2(&word[..word.len() - 1]) {
        word.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples that Porter's paper gives, as whole words; and what NLTK's extensions change.
    #[test]
    fn the_papers_examples() {
        let words = "caresses caress ponies poni caress caress cats cat agreed agre plastered plaster bled bled \
            motoring motor sing sing conflated conflat troubled troubl hopping hop falling fall hissing hiss \
            fizzed fizz failing fail filing file happy happi relational relat conditional condit rational ration \
            digitizer digit operator oper feudalism feudal decisiveness decis hopefulness hope formality formal \
            triplicate triplic formative form formalize formal electrical electr goodness good revival reviv \
            allowance allow adjustable adjust replacement replac adoption adopt homologous homolog effective effect \
            probate probat rate rate controll control roll roll \
            dies die died die flies fli sky sky skies sky enjoy enjoy spy spi news news ab ab";
        let words: Vec<&str> = words.split_whitespace().collect();
        let mut out = String::new();
        for pair in words.chunks_exact(2) {
            stem(pair[0], &mut out);
            assert_eq!(out, pair[1], "{}", pair[0]);
        }
    }

    /// What NLTK makes of words from random letters and all the endings that rules know.
    #[test]
    fn nltks_stems() {
        let fixture = include_str!("../../tests/fixtures/metrics.json");
        let fixture: serde_json::Value = serde_json::from_str(fixture).expect("the fixture");
        let mut out = String::new();
        for pair in fixture["stems"].as_array().expect("stems") {
            stem(pair[0].as_str().expect("a word"), &mut out);
            assert_eq!(out, pair[1], "{}", pair[0]);
        }
    }
}
