//! The Book (`book/`): its links lead somewhere, and its commands print what it shows.

mod figures;
mod page;
mod transcript;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use page::Page;

/// The repository's root.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("a workspace").to_path_buf()
}

/// All pages by path, the summary included.
fn pages() -> BTreeMap<PathBuf, Page> {
    let folder = std::fs::read_dir(root().join("book/src")).expect("book/src");
    let paths = folder.map(|entry| entry.expect("an entry").path());
    let pages = paths.filter(|path| path.extension().is_some_and(|e| e == "md"));
    pages.map(|path| (path.clone(), Page::read(&path))).collect()
}

/// Why a link leads nowhere; `None` if it does not.
fn broken(page: &Page, target: &str, pages: &BTreeMap<PathBuf, Page>) -> Option<String> {
    if target.starts_with("https://") {
        return None;
    }
    let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
    if file.starts_with('/') || file.contains(':') {
        return Some("is neither relative nor https".into());
    }
    let folder = page.path.parent().expect("a folder");
    let path = if file.is_empty() { page.path.clone() } else { folder.join(file) };
    let Ok(found) = path.canonicalize() else { return Some("is not there".into()) };
    if !found.starts_with(root().canonicalize().expect("the root")) {
        return Some("is outside of the repository".into());
    }
    let of_the_book = pages.values().find(|page| page.path.canonicalize().is_ok_and(|path| path == found));
    if of_the_book.is_none() && file.ends_with(".md") {
        // mdBook would lead to a page of that name.
        return Some("is a page that is not the Book's: name it without a link".into());
    }
    match (anchor, of_the_book) {
        (Some(anchor), Some(page)) if !page.anchors.contains(anchor) => {
            let there: BTreeSet<_> = page.anchors.iter().map(String::as_str).collect();
            Some(format!("has no such heading, but {there:?}"))
        }
        _ => None,
    }
}

#[test]
fn links_lead_somewhere() {
    let pages = pages();
    let mut complaints = Vec::new();
    for page in pages.values() {
        for target in &page.targets {
            if let Some(why) = broken(page, target, &pages) {
                complaints.push(format!("{}: {target} {why}", page.path.display()));
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn the_summary_lists_every_page() {
    let pages = pages();
    let folder = root().join("book/src");
    let summary = pages.get(&folder.join("SUMMARY.md")).expect("a summary");
    let listed: BTreeSet<PathBuf> = summary.targets.iter().map(|target| folder.join(target)).collect();
    let there: BTreeSet<PathBuf> = pages.keys().filter(|path| **path != summary.path).cloned().collect();
    assert_eq!(listed, there);
}

#[test]
fn figures_are_small_and_shown() {
    let pages = pages();
    let folder = root().join("book/src");
    let shown: BTreeSet<PathBuf> =
        pages.values().flat_map(|page| &page.targets).map(|target| folder.join(target)).collect();
    for figure in std::fs::read_dir(folder.join("figures")).expect("book/src/figures") {
        let figure = figure.expect("an entry").path();
        assert!(shown.contains(&figure), "{} is on no page", figure.display());
        let bytes = figure.metadata().expect("a file").len();
        assert!(bytes < 60_000, "{} has {bytes} bytes", figure.display());
    }
}

#[cfg(unix)]
mod commands {
    use std::ffi::OsString;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use porism_hub::CacheDir;

    use super::*;
    use crate::transcript::{Step, matches};

    /// Where a page's commands run: an empty cache but for the shared models, and a copy of `book/files`.
    struct Desk {
        home: tempfile::TempDir,
        folder: tempfile::TempDir,
        path: OsString,
    }

    impl Desk {
        fn new(models: Option<&Path>) -> Desk {
            let desk = Desk {
                home: tempfile::tempdir().expect("a folder"),
                folder: tempfile::tempdir().expect("a folder"),
                path: path_with_porism(),
            };
            if let Some(models) = models {
                std::os::unix::fs::symlink(models, desk.home.path().join("models")).expect("a link");
            }
            for file in std::fs::read_dir(root().join("book/files")).expect("book/files") {
                let file = file.expect("an entry");
                std::fs::copy(file.path(), desk.folder.path().join(file.file_name())).expect("a copy");
            }
            desk
        }

        /// What is wrong with what a step does; `None` if nothing is.
        fn complaint(&self, step: &Step) -> Option<String> {
            let out = Command::new("sh")
                .args(["-c", &step.command])
                .current_dir(self.folder.path())
                .env("PATH", &self.path)
                .env("PORISM_HOME", self.home.path())
                .env("NO_COLOR", "1")
                // What is not in the cache by now is asked of nobody.
                .env("HF_HUB_OFFLINE", "1")
                .env("PIP_NO_INDEX", "1")
                .stdin(Stdio::null())
                .output()
                .expect("sh runs");
            let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
            let lines: Vec<&str> = stdout.lines().collect();
            let (place, command, shown) = (&step.place, &step.command, step.shown.join("\n"));
            if !out.status.success() {
                return Some(format!("{place}: `{command}` ends with {}\n{stdout}\n{stderr}", out.status));
            }
            if !step.shown.is_empty() && !matches(&step.shown, &lines) {
                return Some(format!("{place}: `{command}` is shown to print\n{shown}\n--- and prints\n{stdout}"));
            }
            None
        }
    }

    /// `PATH` with the binary's folder in front.
    fn path_with_porism() -> OsString {
        let binary = Path::new(env!("CARGO_BIN_EXE_porism"));
        let mut folders = vec![binary.parent().expect("a folder").to_path_buf()];
        folders.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
        std::env::join_paths(folders).expect("a path")
    }

    /// Sees to it that a model is in the shared cache; says why it cannot be had.
    fn pull(name: &str) -> Result<(), String> {
        let out = Command::new(env!("CARGO_BIN_EXE_porism"))
            .args(["pull", name])
            .stdin(Stdio::null())
            .output()
            .expect("the binary runs");
        if out.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).trim().to_string()) }
    }

    #[test]
    fn commands_print_what_is_shown() {
        let variable = std::env::var_os;
        let cache = CacheDir::resolve(variable("PORISM_HOME"), variable("XDG_CACHE_HOME"), variable("HOME"));
        let models = cache.expect("a cache").root().join("models");
        let mut complaints = Vec::new();
        for page in pages().values().filter(|page| !page.transcripts.is_empty()) {
            if let Some(why) = page.models.iter().find_map(|name| pull(name).err()) {
                // Written past the test's captured output, so that a skipped page is seen.
                let line = format!("skipped: the commands of {}: {why}\n", page.path.display());
                let _ = std::io::stderr().write_all(line.as_bytes());
                continue;
            }
            let desk = Desk::new((!page.models.is_empty()).then_some(&*models));
            for step in page.transcripts.iter().flat_map(|transcript| &transcript.steps) {
                complaints.extend(desk.complaint(step));
            }
        }
        assert!(complaints.is_empty(), "{}", complaints.join("\n\n"));
    }
}
