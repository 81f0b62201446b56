//! A `console` block of the Book: commands behind `$ `, each with what it prints, or nothing where that is not shown.
//!
//! What is shown is compared with what a command writes to stdout, line by line, white space at the end of lines
//! aside. A line of `...` stands for any lines, a line that ends in ` ...` for any that begins so.

use std::fmt::Write as _;

/// A block.
#[derive(Debug)]
pub(crate) struct Transcript {
    pub(crate) steps: Vec<Step>,
}

/// A command with what is shown of its output.
#[derive(Debug)]
pub(crate) struct Step {
    /// Where the block is: `path:line`.
    pub(crate) place: String,
    /// The command, in one line or several that end in `\`.
    pub(crate) command: String,
    /// Lines of output; none are compared if none are shown.
    pub(crate) shown: Vec<String>,
}

impl Transcript {
    /// Takes a block apart.
    pub(crate) fn parse(place: &str, text: &str) -> Transcript {
        let mut steps: Vec<Step> = Vec::new();
        for line in text.lines() {
            let last = steps.last_mut();
            match (line.strip_prefix("$ "), last) {
                (Some(command), _) => {
                    steps.push(Step { place: place.into(), command: command.into(), shown: Vec::new() });
                }
                (None, Some(step)) if step.command.ends_with('\\') => {
                    write!(step.command, "\n{line}").expect("room");
                }
                (None, Some(step)) => step.shown.push(line.trim_end().to_string()),
                (None, None) => panic!("{place}: a console block begins with `$ ` and a command, not with `{line}`"),
            }
        }
        assert!(!steps.is_empty(), "{place}: a console block without a command");
        for step in &mut steps {
            while step.shown.last().is_some_and(String::is_empty) {
                step.shown.pop();
            }
        }
        Transcript { steps }
    }
}

/// Whether the lines of an output are those that are shown.
pub(crate) fn matches(shown: &[String], lines: &[&str]) -> bool {
    let Some((first, rest)) = shown.split_first() else {
        return lines.iter().all(|line| line.trim().is_empty());
    };
    if first == "..." {
        return (0..=lines.len()).any(|skipped| matches(rest, &lines[skipped..]));
    }
    let Some((line, others)) = lines.split_first() else { return false };
    let same = match first.strip_suffix(" ...") {
        Some(beginning) => line.starts_with(beginning),
        None => line.trim_end() == first,
    };
    same && matches(rest, others)
}

#[test]
fn ellipses_stand_for_what_is_left_out() {
    let shown = |text: &str| text.lines().map(String::from).collect::<Vec<_>>();
    let output = ["one", "two  ", "three 3 4", "four"];
    for good in ["one\ntwo\nthree 3 4\nfour", "...\nthree ...\n...", "one\n...\nfour", "...", "one\n...\ntwo\n..."] {
        assert!(matches(&shown(good), &output), "{good}");
    }
    for bad in ["one\ntwo", "one\n...\nfive", "two\n...", "one\nthree ...\n...", "...\nthree 4 ...\nfour", ""] {
        assert!(!matches(&shown(bad), &output), "{bad}");
    }
}
