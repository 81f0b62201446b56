//! One HTML page that needs nothing else: no scripts, no other files.

use std::fmt::Write as _;

use crate::table::Table;

/// What stands in front of a page's own content. Colours follow the reader's light or dark setting.
const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c1c1c;--soft:#6b6b6b;--line:#d8d8d8;--paper:#fff;--mark:#1f6feb}
@media(prefers-color-scheme:dark){:root{--ink:#e6e6e6;--soft:#a0a0a0;--line:#3a3a3a;--paper:#161616;--mark:#6cb0ff}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:64rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{padding:.3rem .6rem;text-align:left;border-bottom:1px solid var(--line);vertical-align:middle}
th{color:var(--soft);font-weight:600}
.number{text-align:right;font-variant-numeric:tabular-nums}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;font-size:.9rem}dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
.mark .axis{stroke:var(--line);fill:none}.mark .interval{stroke:var(--mark);stroke-width:3;stroke-opacity:.45}.mark circle{fill:var(--mark)}
figure{margin:1rem 0;overflow-x:auto}
@media print{body{margin:0;max-width:none}}
";

/// A page that grows from its top.
#[derive(Clone, Debug)]
pub struct Page {
    title: String,
    body: String,
}

impl Page {
    /// A page with a title.
    pub fn new(title: &str) -> Page {
        Page { title: title.to_owned(), body: String::new() }
    }

    /// A heading.
    pub fn heading(&mut self, text: &str) {
        let _ = writeln!(self.body, "<h2>{}</h2>", escape(text));
    }

    /// A paragraph.
    pub fn paragraph(&mut self, text: &str) {
        let _ = writeln!(self.body, "<p>{}</p>", escape(text));
    }

    /// Names and what they stand for.
    pub fn facts(&mut self, facts: &[(&str, String)]) {
        self.body += "<dl>\n";
        for (name, value) in facts {
            let _ = writeln!(self.body, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(value));
        }
        self.body += "</dl>\n";
    }

    /// A table.
    pub fn table(&mut self, table: &Table) {
        self.body += &table.html();
    }

    /// A drawing, as [`crate::plot`] makes them.
    pub fn figure(&mut self, svg: &str) {
        let _ = writeln!(self.body, "<figure>{svg}</figure>");
    }

    /// The whole page.
    pub fn html(&self) -> String {
        let (title, body) = (escape(&self.title), &self.body);
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
             <style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{body}</body>\n</html>\n"
        )
    }
}

/// Text as it may stand in HTML, between tags and in attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_stands_alone_and_is_escaped() {
        let mut page = Page::new("a < b");
        page.facts(&[("model", "x&y.gguf".into())]);
        page.paragraph("\"said\"");
        let html = page.html();
        assert!(html.contains("<title>a &lt; b</title>") && html.contains("<dd>x&amp;y.gguf</dd>"), "{html}");
        assert!(html.contains("<p>&quot;said&quot;</p>"));
        for outside in ["http", "<script", "url(", "src=", "href="] {
            assert!(!html.contains(outside), "{outside}");
        }
    }
}
