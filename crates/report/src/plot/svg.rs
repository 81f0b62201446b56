//! Writing SVG: elements, escaped text, short numbers.

use std::fmt::Write as _;

/// Fonts that are there, whatever the system.
const FONTS: &str = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif";

/// A document under construction.
pub(super) struct Svg {
    out: String,
}

/// Which end of a text stands at its place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Anchor {
    fn name(self) -> &'static str {
        match self {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        }
    }
}

impl Svg {
    /// An empty picture with a title for those who do not see it.
    pub(super) fn new(width: f64, height: f64, title: &str, ground: &str) -> Svg {
        let (w, h, title) = (short(width), short(height), escaped(title));
        let out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" \
             role=\"img\" font-family=\"{FONTS}\">\n<title>{title}</title>\n\
             <rect width=\"{w}\" height=\"{h}\" fill=\"{ground}\"/>\n"
        );
        Svg { out }
    }

    /// A straight line.
    pub(super) fn line(&mut self, from: [f64; 2], to: [f64; 2], colour: &str, width: f64) {
        let [x1, y1, x2, y2] = [from[0], from[1], to[0], to[1]].map(short);
        let width = short(width);
        let _ = writeln!(
            self.out,
            "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" stroke=\"{colour}\" stroke-width=\"{width}\"/>"
        );
    }

    /// A line through points.
    pub(super) fn path(&mut self, points: &[[f64; 2]], colour: &str, width: f64, dashed: bool) {
        let mut d = String::new();
        for (i, &[x, y]) in points.iter().enumerate() {
            let _ = write!(d, "{}{} {}", if i == 0 { "M" } else { " L" }, short(x), short(y));
        }
        let dashes = if dashed { " stroke-dasharray=\"7 5\"" } else { "" };
        let _ = writeln!(
            self.out,
            "<path d=\"{d}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{}\" stroke-linejoin=\"round\" \
             stroke-linecap=\"round\"{dashes}/>",
            short(width)
        );
    }

    /// A dot with a rim in the ground's colour; hollow ones belong to broken lines.
    pub(super) fn dot(&mut self, at: [f64; 2], radius: f64, colour: &str, hollow: Option<&str>) {
        let [x, y] = at.map(short);
        let (fill, rim) = hollow.map_or((colour, "#ffffff"), |ground| (ground, colour));
        let width = if hollow.is_some() { 1.6 } else { 1.0 };
        let _ = writeln!(
            self.out,
            "<circle cx=\"{x}\" cy=\"{y}\" r=\"{}\" fill=\"{fill}\" stroke=\"{rim}\" stroke-width=\"{width}\"/>",
            short(radius)
        );
    }

    /// A text.
    pub(super) fn text(&mut self, at: [f64; 2], text: &str, style: &Text) {
        let [x, y] = at.map(short);
        let weight = if style.bold { " font-weight=\"bold\"" } else { "" };
        let turn = if style.upright { String::new() } else { format!(" transform=\"rotate(-90 {x} {y})\"") };
        let mut write = |paint: &str| {
            let _ = writeln!(
                self.out,
                "<text x=\"{x}\" y=\"{y}\" font-size=\"{}\" text-anchor=\"{}\"{weight}{paint}{turn}>{}</text>",
                short(style.size),
                style.anchor.name(),
                escaped(text)
            );
        };
        // Not every viewer knows `paint-order`, so the rim is a text of its own.
        if style.halo {
            write(
                " fill=\"#ffffff\" stroke=\"#ffffff\" stroke-width=\"3\" stroke-linejoin=\"round\" aria-hidden=\"true\"",
            );
        }
        write(&format!(" fill=\"{}\"", style.colour));
    }

    /// Begins to draw only inside a rectangle.
    pub(super) fn clip(&mut self, x: f64, y: f64, width: f64, height: f64) {
        let [x, y, w, h] = [x, y, width, height].map(short);
        let _ = writeln!(
            self.out,
            "<clipPath id=\"area\"><rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\"/></clipPath>\n\
             <g clip-path=\"url(#area)\">"
        );
    }

    /// Ends it.
    pub(super) fn unclip(&mut self) {
        self.out.push_str("</g>\n");
    }

    /// The whole document.
    pub(super) fn finish(mut self) -> String {
        self.out.push_str("</svg>\n");
        self.out
    }
}

/// How a text looks.
pub(super) struct Text {
    pub(super) size: f64,
    pub(super) colour: &'static str,
    pub(super) anchor: Anchor,
    pub(super) bold: bool,
    /// Not turned to read upwards.
    pub(super) upright: bool,
    /// Drawn over lines, with a rim in the ground's colour.
    pub(super) halo: bool,
}

impl Text {
    pub(super) fn new(size: f64, colour: &'static str, anchor: Anchor) -> Text {
        Text { size, colour, anchor, bold: false, upright: true, halo: false }
    }
}

/// Two decimals at most.
fn short(x: f64) -> String {
    let text = format!("{x:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.into() }
}

/// Text that is safe between tags and in attributes; control characters, which XML forbids, become U+FFFD.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(' '),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// About how wide a text is: enough to place legends and labels.
pub(super) fn width_of(text: &str, size: f64) -> f64 {
    let em: f64 = text
        .chars()
        .map(|c| match c {
            'i' | 'j' | 'l' | '\'' | '.' | ',' | ':' | ';' | '|' | '!' => 0.29,
            ' ' | 'f' | 't' | 'r' | '(' | ')' | '[' | ']' | '-' | '/' => 0.37,
            'm' | 'w' | 'M' | 'W' | '@' | '%' => 0.9,
            'A'..='Z' => 0.72,
            '\u{2070}'..='\u{208e}' | '\u{b2}' | '\u{b3}' | '\u{b9}' => 0.42,
            c if c.is_ascii() => 0.61,
            c if (c as u32) < 0x2e80 => 0.66,
            _ => 1.0,
        })
        .sum();
    em * size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_leave_its_element() {
        assert_eq!(escaped("<a b='\"&'>\u{1}\n"), "&lt;a b=&#39;&quot;&amp;&#39;&gt;\u{fffd} ");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0, -0.001, 1.5, 2.0, 1.0 / 3.0].map(short), ["0", "0", "1.5", "2", "0.33"]);
    }
}
