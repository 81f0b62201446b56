//! A page of the Book as its checks see it: links, anchors, transcripts, and the models that these take.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use crate::transcript::Transcript;

/// One file of `book/src`.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) path: PathBuf,
    /// Where its links and pictures lead, as written.
    pub(crate) targets: Vec<String>,
    /// The ids of its headings, as mdBook gives them.
    pub(crate) anchors: HashSet<String>,
    /// Its `console` blocks.
    pub(crate) transcripts: Vec<Transcript>,
    /// Models of the catalogue that its commands take: `<!-- models: NAME, NAME -->`.
    pub(crate) models: Vec<String>,
}

impl Page {
    /// Reads a page.
    pub(crate) fn read(path: &Path) -> Page {
        let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut page = Page {
            path: path.to_path_buf(),
            targets: Vec::new(),
            anchors: HashSet::new(),
            transcripts: Vec::new(),
            models: Vec::new(),
        };
        // Those of mdBook that change what a link or a heading is.
        let options = Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES | Options::ENABLE_HEADING_ATTRIBUTES;
        let mut heading: Option<(Option<String>, String)> = None;
        let mut block: Option<(usize, String)> = None;
        let mut seen = HashMap::new();
        for (event, range) in Parser::new_ext(&text, options).into_offset_iter() {
            match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.targets.push(dest_url.into_string());
                }
                Event::Start(Tag::Heading { id, .. }) => heading = Some((id.map(|id| id.into_string()), String::new())),
                Event::Text(words) | Event::Code(words) if heading.is_some() => {
                    heading.as_mut().expect("a heading").1.push_str(&words);
                }
                Event::End(TagEnd::Heading(_)) => {
                    let (id, words) = heading.take().expect("a heading");
                    let id = id.unwrap_or_else(|| anchor(&words));
                    let count: &mut usize = seen.entry(id.clone()).or_default();
                    page.anchors.insert(if *count == 0 { id } else { format!("{id}-{count}") });
                    *count += 1;
                }
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(kind))) if &*kind == "console" => {
                    block = Some((text[..range.start].lines().count() + 1, String::new()));
                }
                Event::Text(lines) if block.is_some() => block.as_mut().expect("a block").1.push_str(&lines),
                Event::End(TagEnd::CodeBlock) => {
                    if let Some((line, lines)) = block.take() {
                        page.transcripts.push(Transcript::parse(&format!("{}:{line}", path.display()), &lines));
                    }
                }
                Event::Html(html) | Event::InlineHtml(html) => {
                    let html = html.trim();
                    if let Some(names) = html.strip_prefix("<!-- models:").and_then(|rest| rest.strip_suffix("-->")) {
                        page.models.extend(names.split(',').map(|name| name.trim().to_string()));
                    }
                    for key in ["src=\"", "href=\""] {
                        page.targets
                            .extend(html.split(key).skip(1).filter_map(|t| t.split('"').next()).map(Into::into));
                    }
                }
                _ => {}
            }
        }
        page
    }
}

/// The id that mdBook makes of a heading's words.
fn anchor(words: &str) -> String {
    let kept = |c: char| match c {
        c if c.is_alphanumeric() || c == '_' || c == '-' => Some(c),
        c if c.is_whitespace() => Some('-'),
        _ => None,
    };
    words.trim().to_lowercase().chars().filter_map(kept).collect()
}
