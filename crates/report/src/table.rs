//! Tables: as text for a terminal, as Markdown, as HTML.

use std::fmt::Write as _;

use crate::page::escape;

/// A column: its name, and on which side its entries stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The name.
    pub name: String,
    /// Whether entries stand on the right, as numbers do.
    pub right: bool,
}

/// An entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Words or a number as it is shown.
    Text(String),
    /// Where a value lies between 0 and 1, with its interval: drawn in HTML, left out elsewhere.
    Mark {
        /// The value.
        value: f64,
        /// The interval's ends.
        interval: Option<(f64, f64)>,
    },
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::Text(text.into())
    }
}

/// Rows of entries under named columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows. A name that begins with `>` is that of a column whose entries stand on the right.
    pub fn new(columns: &[&str]) -> Table {
        let column = |name: &&str| match name.strip_prefix('>') {
            Some(name) => Column { name: name.to_owned(), right: true },
            None => Column { name: (*name).to_owned(), right: false },
        };
        Table { columns: columns.iter().map(column).collect(), rows: Vec::new() }
    }

    /// Adds a row; entries that are missing at its end stay empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Columns that can be written without drawing.
    fn written(&self) -> Vec<usize> {
        let drawn = |column: &usize| self.rows.iter().any(|row| matches!(row.get(*column), Some(Cell::Mark { .. })));
        (0..self.columns.len()).filter(|column| !drawn(column)).collect()
    }

    fn text_of<'a>(&self, row: &'a [Cell], column: usize) -> &'a str {
        match row.get(column) {
            Some(Cell::Text(text)) => text,
            _ => "",
        }
    }

    /// Lines for a terminal, names first, two spaces between columns.
    pub fn lines(&self) -> Vec<String> {
        let columns = self.written();
        let length = |text: &str| text.chars().count();
        let width = |&column: &usize| {
            let entries = self.rows.iter().map(|row| length(self.text_of(row, column)));
            entries.chain([length(&self.columns[column].name)]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = columns.iter().map(width).collect();
        let line = |texts: Vec<&str>| {
            let mut out = String::new();
            for ((text, &column), &width) in texts.into_iter().zip(&columns).zip(&widths) {
                let _ = match self.columns[column].right {
                    true => write!(out, "{text:>width$}  "),
                    false => write!(out, "{text:<width$}  "),
                };
            }
            out.trim_end().to_owned()
        };
        let names = line(columns.iter().map(|&column| self.columns[column].name.as_str()).collect());
        let rows = self.rows.iter().map(|row| line(columns.iter().map(|&column| self.text_of(row, column)).collect()));
        std::iter::once(names).chain(rows).collect()
    }

    /// A Markdown table.
    pub fn markdown(&self) -> String {
        let columns = self.written();
        let plain = |text: &str| text.replace('|', "\\|").replace('\n', " ");
        let line = |texts: Vec<String>| format!("| {} |\n", texts.join(" | "));
        let mut out = line(columns.iter().map(|&column| plain(&self.columns[column].name)).collect());
        let side = |&column: &usize| if self.columns[column].right { "---:" } else { "---" }.to_owned();
        out += &line(columns.iter().map(side).collect());
        for row in &self.rows {
            out += &line(columns.iter().map(|&column| plain(self.text_of(row, column))).collect());
        }
        out
    }

    /// An HTML table.
    pub fn html(&self) -> String {
        let class = |column: &Column| if column.right { " class=\"number\"" } else { "" };
        let mut out = String::from("<table>\n<thead><tr>");
        for column in &self.columns {
            let _ = write!(out, "<th{}>{}</th>", class(column), escape(&column.name));
        }
        out += "</tr></thead>\n<tbody>\n";
        for row in &self.rows {
            out += "<tr>";
            for (i, column) in self.columns.iter().enumerate() {
                let inside = match row.get(i) {
                    Some(Cell::Text(text)) => escape(text),
                    Some(Cell::Mark { value, interval }) => mark(*value, *interval),
                    None => String::new(),
                };
                let _ = write!(out, "<td{}>{inside}</td>", class(column));
            }
            out += "</tr>\n";
        }
        out + "</tbody>\n</table>\n"
    }
}

/// A value as a dot between 0 and 1, its interval as a line.
fn mark(value: f64, interval: Option<(f64, f64)>) -> String {
    let at = |v: f64| 4.0 + 152.0 * v.clamp(0.0, 1.0);
    let mut out = String::from("<svg class=\"mark\" width=\"160\" height=\"16\" viewBox=\"0 0 160 16\" role=\"img\">");
    let _ = write!(out, "<title>{value:.4}</title><path class=\"axis\" d=\"M4 8H156M4 4V12M80 5V11M156 4V12\"/>");
    if let Some((low, high)) = interval {
        let _ = write!(out, "<path class=\"interval\" d=\"M{:.1} 8H{:.1}\"/>", at(low), at(high));
    }
    let _ = write!(out, "<circle cx=\"{:.1}\" cy=\"8\" r=\"4\"/></svg>", at(value));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["task", ">items", "where", "metric"]);
        table.row([
            "arc|easy".into(),
            "7".into(),
            Cell::Mark { value: 0.5, interval: Some((0.25, 0.75)) },
            "acc".into(),
        ]);
        table.row(["Zürich".into(), "1172".into()]);
        table
    }

    #[test]
    fn lines_stand_under_their_names() {
        assert_eq!(table().lines(), ["task      items  metric", "arc|easy      7  acc", "Zürich     1172"]);
    }

    #[test]
    fn markdown_keeps_its_columns() {
        let want = "| task | items | metric |\n| --- | ---: | --- |\n| arc\\|easy | 7 | acc |\n| Zürich | 1172 |  |\n";
        assert_eq!(table().markdown(), want);
    }

    #[test]
    fn html_is_escaped_and_drawn() {
        let mut table = table();
        table.row(["<b> & \"".into()]);
        let html = table.html();
        assert!(html.contains("<td>&lt;b&gt; &amp; &quot;</td>"), "{html}");
        // A quarter, a half and three quarters of 152, behind 4.
        assert!(html.contains("M42.0 8H118.0") && html.contains("cx=\"80.0\""), "{html}");
        assert_eq!(html.matches("<tr>").count(), 4);
        assert_eq!(html.matches("<td").count(), 12);
    }
}
