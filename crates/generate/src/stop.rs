//! Stop strings in a stream: text is held back while it could still be the beginning of one.

/// Finds the first stop string in text that comes in pieces.
#[derive(Clone, Debug, Default)]
pub(crate) struct StopStrings {
    stops: Vec<String>,
    held: String,
}

impl StopStrings {
    /// A matcher; empty stop strings are ignored.
    pub(crate) fn new(stops: &[String]) -> StopStrings {
        StopStrings { stops: stops.iter().filter(|s| !s.is_empty()).cloned().collect(), held: String::new() }
    }

    /// Takes a piece; gives the text that can be shown, and whether a stop string came behind it.
    pub(crate) fn push(&mut self, piece: &str) -> (String, bool) {
        self.held.push_str(piece);
        if let Some(at) = self.stops.iter().filter_map(|s| self.held.find(s.as_str())).min() {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        // The longest tail that begins a stop string stays.
        let keep = (0..self.held.len())
            .filter(|&i| self.held.is_char_boundary(i))
            .find(|&i| self.stops.iter().any(|s| s.starts_with(&self.held[i..])))
            .unwrap_or(self.held.len());
        let tail = self.held.split_off(keep);
        (std::mem::replace(&mut self.held, tail), false)
    }

    /// What is left when the stream has ended.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut matcher = StopStrings::new(&stops.iter().map(|s| s.to_string()).collect::<Vec<_>>());
        let mut shown = String::new();
        for piece in pieces {
            let (text, stopped) = matcher.push(piece);
            shown.push_str(&text);
            if stopped {
                return (shown, true);
            }
        }
        shown.push_str(&matcher.finish());
        (shown, false)
    }

    #[test]
    fn a_stop_string_is_found_across_pieces_and_never_shown() {
        assert_eq!(run(&["END"], &["abE", "N", "Dcd"]), ("ab".into(), true));
        assert_eq!(run(&["END"], &["abE", "NO"]), ("abENO".into(), false));
        assert_eq!(run(&["\n\n", "x"], &["a\n", "bx\n\n"]), ("a\nb".into(), true));
        assert_eq!(run(&["é!"], &["né", "!"]), ("n".into(), true));
        assert_eq!(run(&["aab"], &["aa", "ab"]), ("a".into(), true));
        assert_eq!(run(&[], &["abc"]), ("abc".into(), false));
        assert_eq!(run(&[""], &["abc"]), ("abc".into(), false));
    }

    #[test]
    fn nothing_is_held_without_need() {
        let mut matcher = StopStrings::new(&["END".into()]);
        assert_eq!(matcher.push("abc"), ("abc".into(), false));
        assert_eq!(matcher.push("dE"), ("d".into(), false));
        assert_eq!(matcher.push("x"), ("Ex".into(), false));
    }
}
