//! Tuning through the binary: what a run leaves and what reads it, what it refuses, and that nothing is lost when it is killed.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use support::{Fixture, Tiny, porism};

/// A tiny model whose template says when an answer is to begin, and where it ends.
fn fixture() -> Fixture {
    let fixture = Fixture::new();
    let template = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|end|>\n{% endfor %}\
                    {% if add_generation_prompt %}assistant: {% endif %}";
    Tiny { template, ..Tiny::default() }.write(Path::new(&fixture.model));
    fixture
}

/// A file in the fixture's folder.
fn file(fixture: &Fixture, name: &str, text: &str) -> String {
    let path = fixture.path().join(name);
    std::fs::write(&path, text).expect("a file");
    path.to_str().expect("UTF-8").to_owned()
}

fn inside(fixture: &Fixture, name: &str) -> String {
    fixture.path().join(name).to_str().expect("UTF-8").to_owned()
}

/// Examples that have one answer.
fn examples(fixture: &Fixture) -> String {
    let lines: Vec<String> = ["sun", "moon", "star", "sea"]
        .iter()
        .map(|word| {
            let turns = [json!({"role": "user", "content": word}), json!({"role": "assistant", "content": "yes"})];
            json!({"messages": turns}).to_string()
        })
        .collect();
    file(fixture, "examples.jsonl", &lines.join("\n"))
}

/// The arguments of a short run.
fn arguments<'a>(fixture: &'a Fixture, data: &'a str, output: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["tune", "-m", &fixture.model, "--data", data, "--output", output, "--length", "32"];
    args.extend(["--packing", "off", "--batch", "2", "--rank", "4", "--lr", "0.02", "--threads", "1"]);
    args.extend(more);
    args
}

fn log(folder: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(Path::new(folder).join("log.jsonl")).expect("a log");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

#[test]
fn every_variant_learns_runs_and_merges() {
    let fixture = fixture();
    let (model, data) = (fixture.model.as_str(), examples(&fixture));
    let text = file(&fixture, "text.txt", &"sun moon star and the sea; ".repeat(12));
    for variant in ["lora", "rslora", "dora", "pissa"] {
        let out = inside(&fixture, variant);
        let more = ["--method", "lora", "--variant", variant, "--steps", "12", "--dropout"];
        let dropout = if variant == "dora" { "0" } else { "0.1" };
        fixture.run(&arguments(&fixture, &data, &out, &[&more[..], &[dropout]].concat()));
        for name in ["adapter_config.json", "adapter_model.safetensors", "recipe.toml", "log.jsonl", "loss.svg"] {
            assert!(Path::new(&out).join(name).is_file(), "{variant}: {name}");
        }
        let log = log(&out);
        let loss = |row: &Value| row["loss"].as_f64().expect("a loss");
        assert_eq!(log.len(), 12);
        assert!(loss(&log[11]) < 0.7 * loss(&log[0]), "{variant}: {log:?}");
        for key in ["step", "val_loss", "learning_rate", "grad_norm", "tokens_per_second", "peak_rss_bytes"] {
            assert!(log[0].get(key).is_some(), "{variant}: {key}");
        }
        // At scale 0 the adapter is not there; at 1 it is, and the merged model does what base and adapter do.
        let kl = |args: &[&str]| {
            let line = [&["measure", "divergence"], args, &["--context", "32", "--json"]].concat();
            fixture.json(&line)["mean_kl"].as_f64().expect("a number")
        };
        let with = |scale: &str| kl(&[model, model, &text, "--adapter", &format!("{out}:{scale}")]);
        if variant != "dora" {
            // Of DoRA what is scaled is the direction: the lengths stay the trained ones.
            assert_eq!(with("0"), 0.0, "{variant}");
        }
        assert!(with("1") > 0.01, "{variant}: {}", with("1"));
        let merged = inside(&fixture, &format!("{variant}.gguf"));
        let told = fixture.json(&["tune", "merge", &out, "-m", model, "-o", &merged, "--json"]);
        assert!(told["mean_kl"].as_f64().expect("a number") < 1e-6, "{variant}: {told}");
        assert!(kl(&[model, &merged, &text, "--adapter-a", &out]) < 1e-6, "{variant}");
        let answer = |more: &[&str]| {
            let args = [&["run", "-m", model, "sun", "--temperature", "0", "--max-tokens", "6"], more].concat();
            fixture.run(&args).stdout
        };
        assert_ne!(answer(&[]), answer(&["--adapter", &out]), "{variant}");
    }
    // As a file of llama.cpp and back it is the same.
    let (gguf, back) = (inside(&fixture, "lora-adapter.gguf"), inside(&fixture, "back"));
    fixture.run(&["tune", "export", &inside(&fixture, "rslora"), "-m", model, "-o", &gguf]);
    fixture.run(&["tune", "export", &gguf, "-m", model, "-o", &back]);
    for other in [&gguf, &back] {
        let args = ["measure", "divergence", model, model, &text, "--context", "32", "--json"];
        let both = ["--adapter-a", &inside(&fixture, "rslora"), "--adapter", other];
        let told = fixture.json(&[&args[..], &both].concat());
        assert!(told["mean_kl"].as_f64().expect("a number") < 1e-9, "{other}: {told}");
    }
    let dora = inside(&fixture, "dora");
    let ran = porism(fixture.path(), &[], &["tune", "export", &dora, "-m", model, "-o", &inside(&fixture, "d.gguf")]);
    assert!(ran.code == Some(1) && ran.stderr.contains("merge it instead"), "{ran:?}");
    // Two at once are the sum: one at scale 1 and the same at -1 are nothing.
    let [plus, minus] = ["1", "-1"].map(|scale| format!("{}:{scale}", inside(&fixture, "lora")));
    let args = ["measure", "divergence", model, model, &text, "--context", "32", "--json"];
    let told = fixture.json(&[&args[..], &["--adapter", &plus, "--adapter", &minus]].concat());
    assert!(told["mean_kl"].as_f64().expect("a number") < 1e-10, "{told}");
}

/// A base in four bits: what is trained is run on the folder that `convert` writes, which has the same weights.
#[test]
fn a_base_in_four_bits_is_the_folders() {
    let fixture = fixture();
    // Rows of 64 weights at least, of which four-bit blocks are made.
    let tale = file(&fixture, "tale.txt", &"one two three four five six seven\n".repeat(40));
    let wide = file(&fixture, "wide.toml", "layers = 1\nwidth = 64\nheads = 2\ncontext = 64\nvocab_size = 260\n");
    let nano = inside(&fixture, "nano");
    let args = ["tune", "--method", "full", "--from-scratch", &wide, "--data", &tale, "--output", &nano];
    fixture.run(&[&args[..], &["--length", "32", "--steps", "20", "--lr", "0.01"]].concat());
    let model = format!("{nano}/model");
    for (kind, double) in [("nf4", None), ("nf4", Some("--double-quant")), ("fp4", None)] {
        let name = format!("{kind}{}", double.map_or(0, |_| 1));
        let (folder, out) = (inside(&fixture, &name), inside(&fixture, &format!("{name}-out")));
        let mut convert = vec!["convert", model.as_str(), "-o", folder.as_str(), "--to", kind];
        convert.extend(double);
        fixture.run(&convert);
        let mut tune =
            vec!["tune", "--method", "qlora", "--base-type", kind, "-m", model.as_str(), "--data", tale.as_str()];
        tune.extend(["--output", out.as_str(), "--length", "32", "--steps", "6", "--lr", "0.01", "--rank", "4"]);
        tune.extend(double);
        fixture.run(&tune);
        let other = inside(&fixture, &format!("{name}-folder"));
        let on_folder: Vec<&str> = tune.iter().map(|&word| if word == out { other.as_str() } else { word }).collect();
        let on_folder: Vec<&str> =
            on_folder.iter().map(|&word| if word == model { folder.as_str() } else { word }).collect();
        let plain: Vec<&str> =
            on_folder.iter().filter(|word| !["--base-type", kind, "--double-quant"].contains(*word)).copied().collect();
        fixture.run(&plain);
        let losses =
            |folder: &str| -> Vec<f64> { log(folder).iter().map(|row| row["loss"].as_f64().expect("it")).collect() };
        assert_eq!(losses(&out), losses(&other), "{name}");
    }
}

#[test]
fn a_whole_model_is_trained_and_written() {
    let fixture = fixture();
    let (data, out) = (examples(&fixture), inside(&fixture, "full"));
    let ran = fixture.run(&arguments(&fixture, &data, &out, &["--method", "full", "--steps", "8"]));
    assert!(ran.stderr.contains("(100.00 %)"), "{ran:?}");
    let log = log(&out);
    assert!(log[7]["loss"].as_f64() < log[0]["loss"].as_f64(), "{log:?}");
    let model = format!("{out}/model");
    let told = fixture.run(&["run", "-m", &model, "sun", "--temperature", "0", "--max-tokens", "8"]);
    assert!(told.stdout.starts_with("yes"), "{told:?}");
}

#[test]
fn a_model_begins_with_nothing() {
    let fixture = fixture();
    let text = file(&fixture, "tale.txt", &"the cat sat on the mat and the dog sat on the cat.\n".repeat(60));
    let spec = file(&fixture, "model.toml", "layers = 1\nwidth = 32\nheads = 2\ncontext = 64\nvocab_size = 280\n");
    let out = inside(&fixture, "scratch");
    let args = ["tune", "--method", "full", "--from-scratch", &spec, "--data", &text, "--output", &out];
    fixture.run(&[&args[..], &["--length", "32", "--lr", "0.01", "--steps", "30", "--threads", "1"]].concat());
    let log = log(&out);
    let (first, last) = (log[0]["loss"].as_f64().expect("a loss"), log[29]["loss"].as_f64().expect("a loss"));
    // It knew nothing: a uniform guess. The text has few words.
    assert!((first - 280f64.ln()).abs() < 0.3 && last < 0.4 * first, "from {first} to {last}");
    let told = fixture.run(&["run", "--raw", "-m", &format!("{out}/model"), "the c", "--max-tokens", "4"]);
    assert!(!told.stdout.is_empty());
}

/// A command of which nothing is shown.
fn silent<'a>(command: &'a mut Command, fixture: &Fixture) -> &'a mut Command {
    let silent = command.env("PORISM_HOME", fixture.path()).stdin(Stdio::null());
    silent.stdout(Stdio::null()).stderr(Stdio::null())
}

/// The most that a run has, in bytes: of anonymous memory, which the system cannot put back into a file, and of all private
/// memory that it may write to, which `ulimit -d` limits.
#[cfg(target_os = "linux")]
fn most_memory(fixture: &Fixture, args: &[&str]) -> [u64; 2] {
    let mut child =
        silent(Command::new(env!("CARGO_BIN_EXE_porism")).args(args), fixture).spawn().expect("the binary runs");
    let files = [("smaps_rollup", "Anonymous:"), ("status", "VmData:")];
    let mut most = [0; 2];
    loop {
        for ((name, key), most) in files.iter().zip(&mut most) {
            let lines = std::fs::read_to_string(format!("/proc/{}/{name}", child.id())).unwrap_or_default();
            let number = lines.lines().find_map(|line| line.strip_prefix(key)?.trim().strip_suffix(" kB"));
            *most = number.and_then(|n| n.parse::<u64>().ok()).map_or(0, |n| 1024 * n).max(*most);
        }
        if let Some(end) = child.try_wait().expect("a child") {
            assert!(end.success(), "{args:?}: {end}");
            return most;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// AdamW's two numbers for each weight, which are most of what full training needs, lie in files with `--paged`: such a run
/// completes where memory is too short for the state.
#[cfg(target_os = "linux")]
#[test]
fn paged_state_is_not_anonymous() {
    let fixture = fixture();
    let text = file(&fixture, "tale.txt", &"the cat sat on the mat and the dog sat on the cat.\n".repeat(60));
    let spec = file(&fixture, "model.toml", "layers = 4\nwidth = 512\nheads = 8\ncontext = 64\nvocab_size = 280\n");
    let args = |out: &'static str, more: &[&'static str]| {
        let mut args =
            ["tune", "--method", "full", "--from-scratch", &spec, "--data", &text].map(String::from).to_vec();
        args.extend(["--output".into(), inside(&fixture, out)]);
        args.extend(["--length", "32", "--steps", "4", "--batch", "1", "--checkpoint-every", "0"].map(String::from));
        args.extend(more.iter().map(|word| (*word).to_owned()));
        args
    };
    let run = |out, more: &[&'static str]| {
        let args = args(out, more);
        most_memory(&fixture, &args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let (plain, paged) = (run("plain", &[]), run("paged", &["--paged"]));
    let model = format!("{}/model/model.safetensors", inside(&fixture, "plain"));
    let weights = std::fs::metadata(model).expect("a model").len() / 4;
    assert!(weights > 10_000_000, "{weights}");
    for (plain, paged) in plain.iter().zip(paged) {
        assert!(paged + 7 * weights < *plain, "{paged} bytes paged, {plain} not, for {weights} weights");
    }
    let losses = |out| log(&inside(&fixture, out)).iter().map(|row| row["loss"].as_f64()).collect::<Vec<_>>();
    assert_eq!(losses("plain"), losses("paged"));

    // A limit between the two.
    let kilobytes = ((plain[1] + paged[1]) / 2 / 1024).to_string();
    let completes = |out, more: &[&'static str]| {
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -d \"$0\" && exec \"$@\"", &kilobytes, env!("CARGO_BIN_EXE_porism")]);
        silent(shell.args(args(out, more)), &fixture).status().expect("a shell").success()
    };
    assert!(!completes("short", &[]), "{kilobytes} KiB were enough");
    assert!(completes("enough", &["--paged"]), "{kilobytes} KiB");
    assert_eq!(losses("plain"), losses("enough"));
}

#[test]
fn a_dry_run_shows_what_counts() {
    let fixture = fixture();
    let data = examples(&fixture);
    let args = ["tune", "-m", &fixture.model, "--method", "lora", "--data", &data, "--dry-run", "1"];
    let shown = fixture.run(&args).stdout;
    assert!(shown.contains("user: sun") && shown.contains("[yes"), "{shown}");
    assert!(!shown.contains("[user") && !shown.contains("moon"), "{shown}");
}

#[test]
fn a_folder_has_splits() {
    let fixture = fixture();
    let data = inside(&fixture, "splits");
    std::fs::create_dir(&data).expect("a folder");
    let text = std::fs::read_to_string(examples(&fixture)).expect("examples");
    for name in ["train", "valid", "test"] {
        std::fs::write(format!("{data}/{name}.jsonl"), &text).expect("a split");
    }
    let out = inside(&fixture, "out");
    let told = fixture.run(&arguments(&fixture, &data, &out, &["--method", "lora", "--steps", "2"]));
    for name in ["train", "valid", "test"] {
        assert!(told.stderr.lines().any(|line| line.starts_with(&format!("{name}: "))), "{told:?}");
    }
    // All three are the same, and the test split is measured once, at the end.
    let last = log(&out)[1]["val_loss"].as_f64().expect("a validation loss");
    assert!(told.stdout.contains(&format!("test loss {last:.4}\n")), "{told:?}");
}

#[test]
fn recipes_and_flags_say_the_same() {
    let fixture = fixture();
    let data = examples(&fixture);
    let text = fixture.run(&["tune", "--init", "lora"]).stdout;
    let recipe = file(&fixture, "recipe.toml", &text);
    let [by_flags, by_recipe] = ["flags", "recipe"].map(|name| inside(&fixture, name));
    fixture.run(&arguments(&fixture, &data, &by_flags, &["--method", "lora", "--steps", "2"]));
    let settings = [
        format!("model={}", fixture.model),
        format!("data={data}"),
        format!("output={by_recipe}"),
        "length=32".into(),
        "packing=off".into(),
        "batch=2".into(),
        "rank=4".into(),
        "lr=0.02".into(),
        "steps=2".into(),
    ];
    let mut args = vec!["tune", recipe.as_str(), "--threads", "1"];
    settings.iter().for_each(|setting| args.extend(["--set", setting.as_str()]));
    fixture.run(&args);
    let weights = |folder: &str| std::fs::read(Path::new(folder).join("adapter_model.safetensors")).expect("weights");
    assert!(weights(&by_flags) == weights(&by_recipe));
    // The resolved recipe is a recipe again.
    let resolved = format!("{by_flags}/recipe.toml");
    let again = inside(&fixture, "again");
    fixture.run(&["tune", &resolved, "--set", &format!("output={again}"), "--threads", "1"]);
    assert!(weights(&by_flags) == weights(&again));
}

#[test]
fn bad_input_is_named() {
    let fixture = fixture();
    let data = examples(&fixture);
    let broken = file(&fixture, "broken.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"a\", \n");
    let shape = file(&fixture, "shape.jsonl", "{\"prompt\": \"a\", \"answer\": \"b\"}\n");
    let long = file(&fixture, "long.jsonl", &json!({"prompt": "a".repeat(40), "completion": "b"}).to_string());
    let spec = file(&fixture, "odd.toml", "width = 30\nheads = 4\n");
    let key = file(&fixture, "key.toml", "layers = 2\nlayer_norm = true\n");
    let out = inside(&fixture, "out");
    // Of another base: a wider model's.
    let wide = file(&fixture, "wide.toml", "layers = 1\nwidth = 64\nheads = 2\ncontext = 64\nvocab_size = 260\n");
    let tale = file(&fixture, "tale.txt", &"one two three four five six seven\n".repeat(20));
    let nano = inside(&fixture, "nano");
    let args = ["tune", "--method", "full", "--from-scratch", &wide, "--data", &tale, "--output", &nano];
    fixture.run(&[&args[..], &["--length", "16", "--steps", "1"]].concat());
    let other = inside(&fixture, "other");
    let model = format!("{nano}/model");
    let args = ["tune", "-m", &model, "--method", "lora", "--data", &tale, "--output", &other, "--steps", "1"];
    fixture.run(&[&args[..], &["--length", "16"]].concat());
    let used = inside(&fixture, "used");
    fixture.run(&arguments(&fixture, &data, &used, &["--method", "lora", "--steps", "1"]));

    let train = |data: &str, out: &str, more: &[&str]| -> Vec<String> {
        arguments(&fixture, data, out, more).into_iter().map(str::to_owned).collect()
    };
    let words = |words: &[&str]| -> Vec<String> { words.iter().map(|word| (*word).to_owned()).collect() };
    let table: Vec<(Vec<String>, i32, &[&str])> = vec![
        (
            train(&data, &out, &["--targets", "q_proj,w_proj"]),
            1,
            &["\"w_proj\"", "there are q_proj, k_proj", "all-linear"],
        ),
        (
            words(&[
                "tune",
                "-m",
                &fixture.model,
                "--data",
                &data,
                "--output",
                &out,
                "--rank",
                "17",
                "--targets",
                "k_proj",
            ]),
            1,
            &["rank 17", "16 x 32", "at most 16"],
        ),
        (train(&broken, &out, &[]), 1, &["broken.jsonl", "line 2"]),
        (train(&shape, &out, &[]), 1, &["shape.jsonl", "line 1", "completion"]),
        (train(&long, &out, &[]), 1, &["nothing is left to learn", "within 32 tokens"]),
        (train("none.jsonl", &out, &[]), 1, &["none.jsonl"]),
        (train(&data, &out, &["--init-adapter", &other]), 1, &["other", "another base"]),
        (train(&data, &used, &[]), 1, &["used", "holds a run already", "--resume"]),
        (train(&data, &used, &["--resume", "--seed", "9"]), 1, &["another model, recipe or data", "--output"]),
        (train(&data, &out, &["--dropout", "1"]), 1, &["dropout is 1"]),
        (train(&data, &out, &["--method", "full", "--dropout", "0.1"]), 1, &["dropout is for adapters"]),
        (train(&data, &out, &["--double-quant"]), 1, &["double_quant", "base_type nf4"]),
        (train(&data, &out, &["--method", "full", "--base-type", "nf4"]), 1, &["base_type is for adapters"]),
        (train(&data, &out, &["--base-type", "nf4"]), 1, &["multiple of 64"]),
        (train(&data, &out, &["--method", "loar"]), 2, &["loar", "full"]),
        (train(&data, &out, &["--steps", "2", "--epochs", "1"]), 2, &["cannot be used with"]),
        (words(&["tune", "--method", "lora", "--output", &out]), 2, &["no examples", "--data"]),
        (words(&["tune", "--method", "lora", "--data", &data]), 2, &["nowhere to write", "--output"]),
        (
            words(&["tune", "--method", "full", "--from-scratch", &spec, "--data", &tale, "--output", &out]),
            1,
            &["odd.toml", "a width of 30", "multiple of 8"],
        ),
        (
            words(&["tune", "--method", "full", "--from-scratch", &key, "--data", &tale, "--output", &out]),
            1,
            &["key.toml, line 2", "layer_norm"],
        ),
        (words(&["tune", "--from-scratch", &wide, "--data", &tale, "--output", &out]), 1, &["needs method full"]),
        (words(&["run", "-m", &fixture.model, "--adapter", &other, "sun"]), 1, &["other", "another base"]),
        (words(&["run", "-m", &fixture.model, "--adapter", "none", "sun"]), 2, &["no such folder or file"]),
        (words(&["run", "-m", &fixture.model, "--adapter", &format!("{used}:nan"), "sun"]), 1, &["no number"]),
        (words(&["tune", "merge", &used, "-m", &fixture.model, "-o", &fixture.model]), 1, &["exists already"]),
        (words(&["tune", "merge", &other, "-m", &fixture.model, "-o", &out]), 1, &["another base"]),
    ];
    let mut wrong = Vec::new();
    for (args, code, words) in table {
        let ran = porism(fixture.path(), &[], &args.iter().map(String::as_str).collect::<Vec<_>>());
        let missing: Vec<_> = words.iter().filter(|word| !ran.stderr.contains(**word)).collect();
        if ran.code != Some(code) || !missing.is_empty() || ran.stderr.contains("panicked") {
            wrong.push(format!("{args:?}\n  expected {code}, missing {missing:?}\n  {ran:?}"));
        }
        assert!(!Path::new(&out).join("adapter_model.safetensors").exists(), "{args:?} left an adapter");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // What is broken may be left out, if one says so.
    let ran = fixture.run(&arguments(&fixture, &broken, &out, &["--steps", "1", "--skip-bad"]));
    assert!(ran.stderr.contains("1 broken"), "{ran:?}");
}

/// Thirty times a run is killed at some moment and goes on: the adapter is that of a run which nobody disturbed, and no more than
/// the updates since the last checkpoint are done again.
#[test]
fn what_is_killed_goes_on() {
    const EVERY: u64 = 2;
    let fixture = fixture();
    let data = examples(&fixture);
    let more = ["--method", "lora", "--steps", "24", "--checkpoint-every", "2", "--resume"];
    let weights = |folder: &str| std::fs::read(Path::new(folder).join("adapter_model.safetensors"));
    let whole = inside(&fixture, "whole");
    let begun = std::time::Instant::now();
    fixture.run(&arguments(&fixture, &data, &whole, &more));
    let long = begun.elapsed();
    let want = weights(&whole).expect("an adapter");
    let (mut killed, mut resumed) = (0, 0);
    for number in 0..30u32 {
        let out = inside(&fixture, &format!("killed{number}"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_porism"));
        let mut child =
            silent(command.args(arguments(&fixture, &data, &out, &more)), &fixture).spawn().expect("the binary runs");
        // From the first moment to the last, in no order.
        std::thread::sleep(long.mul_f64(f64::from(number * 7 % 30) / 29.0));
        killed += u32::from(child.kill().is_ok() && !child.wait().expect("an end").success());
        if let Ok(early) = weights(&out) {
            assert!(early == want, "an adapter that is there is a finished one");
        }
        let logged = if Path::new(&out).join("log.jsonl").exists() { log(&out).len() as u64 } else { 0 };
        let newest = std::fs::read_dir(&out).into_iter().flatten().flatten().filter_map(|entry| {
            entry.file_name().to_str().and_then(|name| name.strip_prefix("checkpoint-")?.parse::<u64>().ok())
        });
        let newest = newest.max().unwrap_or(0);
        assert!(logged <= newest + EVERY, "{number}: {logged} updates are logged, and the checkpoint has {newest}");
        resumed += u32::from(newest > 0);
        fixture.run(&arguments(&fixture, &data, &out, &more));
        assert!(weights(&out).expect("an adapter") == want, "{number}: killed after {newest} updates");
        let left: Vec<_> = std::fs::read_dir(&out)
            .expect("a folder")
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().ends_with(".part"))
            .collect();
        assert!(left.is_empty(), "{number}: {left:?}");
        assert_eq!(log(&out).len(), 24, "{number}");
    }
    assert!(killed >= 10 && resumed >= 5, "killed {killed}, with a checkpoint {resumed}");
}

/// A disk that takes no more: a shell's limit on the size of files stands for it.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_what_was_there() {
    let fixture = fixture();
    let (data, out) = (examples(&fixture), inside(&fixture, "out"));
    let more = ["--method", "lora", "--steps", "2", "--checkpoint-every", "1"];
    fixture.run(&arguments(&fixture, &data, &out, &more));
    let before = std::fs::read(Path::new(&out).join("adapter_model.safetensors")).expect("an adapter");
    let longer = ["--method", "lora", "--steps", "4", "--checkpoint-every", "1", "--resume"];
    let args = arguments(&fixture, &data, &out, &longer);
    // 4 blocks of 512 bytes: a log line fits, a checkpoint does not.
    let ran = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 4; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_porism")])
        .args(args)
        .env("PORISM_HOME", fixture.path())
        .stdin(Stdio::null())
        .output()
        .expect("a shell");
    let told = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.code() == Some(1) && told.contains("error: cannot write"), "{told}");
    assert!(Path::new(&out).join("checkpoint-00000002").is_dir(), "the last good checkpoint stays");
    assert!(std::fs::read(Path::new(&out).join("adapter_model.safetensors")).expect("it") == before);
    std::thread::sleep(Duration::from_millis(1));
    fixture.run(&arguments(&fixture, &data, &out, &longer));
    assert_eq!(log(&out).len(), 4);
}
