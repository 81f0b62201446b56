//! `--dry-run`: what the model would get to see, and what of it counts.

use anyhow::Result;
use porism_text::Tokenizer;
use porism_tune::Data;

use crate::output;

/// Shows the first examples; what counts is green on a terminal, and between brackets where colours are not wanted.
pub fn show(data: &Data, tokenizer: &Tokenizer, most: usize) -> Result<()> {
    let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::io::IsTerminal::is_terminal(&std::io::stdout());
    let (begin, end) = if colours { ("\u{1b}[32m", "\u{1b}[0m") } else { ("[", "]") };
    for example in data.train.examples.iter().take(most) {
        output::line(&format!("{}: {} tokens, {} count", example.at, example.ids.len(), example.targets()))?;
        let mut text = String::new();
        // Runs of tokens that count or do not: a character may be several tokens.
        let mut start = 0;
        while start < example.ids.len() {
            let scored = example.scored[start];
            let run = example.scored[start..].iter().take_while(|&&s| s == scored).count();
            let piece = tokenizer.decode_text(&example.ids[start..start + run], false)?;
            // What a file holds must not steer the terminal.
            let piece: String =
                piece.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect();
            if scored {
                text.push_str(&format!("{begin}{piece}{end}"))
            } else {
                text.push_str(&piece)
            }
            start += run;
        }
        output::line(&text)?;
        output::line("")?;
    }
    Ok(())
}
