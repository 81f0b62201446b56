//! Pulling from a hub: a small server on this machine answers as the real one does, and as it
//! should not.

mod stand;

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use porism_hub::{CacheDir, Error, Network, Plan, Resolved, Result, Silent, dataset_file, list, pull, resolve, verify};
use stand::*;

fn plan(name: &str, cache: &CacheDir, network: &Network) -> Result<Plan> {
    match resolve(name, cache, network)? {
        Resolved::Fetch(plan) => Ok(plan),
        Resolved::Present(path) => panic!("already at {}", path.display()),
    }
}

fn cache() -> (tempfile::TempDir, CacheDir) {
    let dir = tempfile::tempdir().unwrap();
    let cache = CacheDir::at(dir.path().join("cache"));
    (dir, cache)
}

/// A hub with one repository `a/b` that holds one GGUF file.
fn gguf_hub(bytes: Vec<u8>, file: impl Fn(&Request, usize, &[u8]) -> Reply + Send + 'static) -> Server {
    Server::start(move |request, n| match request.path.as_str() {
        "/api/models/a/b/revision/main?blobs=true" => text(listing(&[("m-Q8_0.gguf", &bytes, true)])),
        path if path == format!("/a/b/resolve/{COMMIT}/m-Q8_0.gguf") => file(request, n, &bytes),
        _ => status(404),
    })
}

#[test]
fn a_quantization_is_listed_planned_pulled_and_then_used_without_the_network() {
    let (_dir, cache) = cache();
    let bytes = noise(300_000);
    let hub = gguf_hub(bytes.clone(), |request, _, bytes| ranged(request, bytes));
    let network = network(&hub.url());
    let plan = plan("a/b:q8_0", &cache, &network).unwrap();
    assert_eq!(plan.to_string(), "a/b:Q8_0, 300 kB, from the model hub (a/b)");
    assert_eq!(plan.bytes(), 300_000);
    let mut heard = Heard::default();
    let path = pull(&plan, &network, &mut heard).unwrap();
    assert_eq!(path, cache.root().join("hub/a--b/main/m-Q8_0.gguf"));
    assert_eq!(path, plan.path());
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(heard.started, [("m-Q8_0.gguf".to_string(), Some(300_000))]);
    assert_eq!((heard.finished, heard.last), (1, 300_000));
    drop(hub);
    let offline = Network { offline: true, ..network };
    let Resolved::Present(again) = resolve("a/b:Q8_0", &cache, &offline).unwrap() else { panic!() };
    assert_eq!(again, path);
    assert_eq!(verify("a/b:q8_0", &cache, &mut Silent).unwrap(), path);
    let installed = list(&cache).unwrap();
    assert_eq!(installed.len(), 1);
    assert_eq!((installed[0].name.as_str(), installed[0].bytes), ("a/b:Q8_0", 300_000));

    // A cut file is no longer there for `resolve`; a changed one is found by `verify`.
    fs::write(&path, &bytes[1..]).unwrap();
    assert!(matches!(resolve("a/b:q8_0", &cache, &offline), Err(Error::Offline(_))));
    let mut changed = bytes.clone();
    changed[7] ^= 1;
    fs::write(&path, &changed).unwrap();
    let error = verify("a/b:q8_0", &cache, &mut Silent).unwrap_err().to_string();
    assert!(error.contains(&sha256(&bytes)) && error.contains(&sha256(&changed)), "{error}");
    assert!(!path.exists());
    assert!(matches!(verify("a/b:q8_0", &cache, &mut Silent), Err(Error::NotInstalled(_))));
}

#[test]
fn a_safetensors_folder_comes_with_what_belongs_to_it() {
    let (_dir, cache) = cache();
    let weights = noise(50_000);
    let shown = weights.clone();
    let hub = Server::start(move |request, _| match request.path.as_str() {
        "/api/models/a/b/revision/main?blobs=true" => text(listing(&[
            (".gitattributes", b"x", false),
            ("config.json", b"{}", false),
            ("model.safetensors", &weights, true),
            ("tokenizer.json", b"{\"a\":1}", false),
        ])),
        path if path.ends_with("/config.json") => text("{}"),
        path if path.ends_with("/tokenizer.json") => text("{\"a\":1}"),
        path if path.ends_with("/model.safetensors") => ranged(request, &weights),
        _ => status(404),
    });
    let network = network(&hub.url());
    let folder = pull(&plan("a/b", &cache, &network).unwrap(), &network, &mut Silent).unwrap();
    assert_eq!(folder, cache.root().join("hub/a--b/main"));
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), shown);
    assert_eq!(files_below(&folder), [".porism.json", "config.json", "model.safetensors", "tokenizer.json"]);
    assert_eq!(verify("a/b", &cache, &mut Silent).unwrap(), folder);
}

#[test]
fn a_broken_transfer_goes_on_where_it_stopped() {
    let (_dir, cache) = cache();
    let bytes = noise(400_000);
    let hub = gguf_hub(bytes.clone(), |request, _, bytes| {
        let mut reply = ranged(request, bytes);
        if request.from.is_none() {
            reply.cut = Some(150_000);
        }
        reply
    });
    let network = network(&hub.url());
    let mut heard = Heard::default();
    let path = pull(&plan("a/b", &cache, &network).unwrap(), &network, &mut heard).unwrap();
    assert_eq!(fs::read(path).unwrap(), bytes);
    let ranges: Vec<_> = hub.seen().iter().map(|request| request.from).collect();
    assert_eq!(ranges, [None, None, Some(150_000)]);
    assert!(heard.messages[0].contains("broke off at 150000 of 400000"), "{:?}", heard.messages);
}

#[test]
fn a_pull_that_failed_is_resumed_by_the_next_one() {
    let (_dir, cache) = cache();
    let bytes = noise(200_000);
    let hub = gguf_hub(bytes.clone(), |request, n, bytes| {
        let mut reply = ranged(request, bytes);
        if n < 3 {
            reply.cut = Some(60_000);
        }
        reply
    });
    let network = Network { attempts: 2, ..network(&hub.url()) };
    let plan = plan("a/b", &cache, &network).unwrap();
    let error = pull(&plan, &network, &mut Silent).unwrap_err();
    assert!(matches!(error, Error::Interrupted { at: 120_000, total: 200_000, .. }), "{error}");
    assert!(!plan.path().exists());
    let path = pull(&plan, &network, &mut Silent).unwrap();
    assert_eq!(fs::read(path).unwrap(), bytes);
    assert_eq!(hub.seen().last().unwrap().from, Some(120_000));
}

#[test]
fn servers_that_cannot_resume_are_asked_from_the_start() {
    for refusal in ["plain 200", "416", "another range"] {
        let (_dir, cache) = cache();
        let bytes = noise(90_000);
        let hub = gguf_hub(bytes.clone(), move |request, n, bytes| {
            let whole = Request { from: None, ..request.clone() };
            match (request.from, refusal) {
                (None, _) if n == 1 => Reply { cut: Some(40_000), ..ranged(request, bytes) },
                (Some(_), "plain 200") => ranged(&whole, bytes),
                (Some(_), "416") => status(416),
                (Some(_), _) => ranged(&Request { from: Some(10), ..whole }, bytes),
                _ => ranged(request, bytes),
            }
        });
        let network = network(&hub.url());
        let path = pull(&plan("a/b", &cache, &network).unwrap(), &network, &mut Silent).unwrap();
        assert_eq!(fs::read(path).unwrap(), bytes, "{refusal}");
    }
}

#[test]
fn a_stale_beginning_is_thrown_away() {
    let (_dir, cache) = cache();
    let bytes = noise(90_000);
    let hub = gguf_hub(bytes.clone(), |request, _, bytes| ranged(request, bytes));
    let network = network(&hub.url());
    let plan = plan("a/b", &cache, &network).unwrap();
    fs::create_dir_all(plan.path().parent().unwrap()).unwrap();
    fs::write(plan.path().with_extension("gguf.partial"), [7; 1000]).unwrap();
    let mut heard = Heard::default();
    let path = pull(&plan, &network, &mut heard).unwrap();
    assert_eq!(fs::read(path).unwrap(), bytes);
    assert!(heard.messages[0].contains("from the start"), "{:?}", heard.messages);
    let ranges: Vec<_> = hub.seen().iter().map(|request| request.from).collect();
    assert_eq!(ranges, [None, Some(1000), None]);
}

#[test]
fn wrong_bytes_never_get_into_the_cache() {
    let bytes = noise(70_000);
    let mut flipped = bytes.clone();
    flipped[69_999] ^= 0x40;
    let long = [bytes.clone(), noise(10_000)].concat();
    for (wrong, unsized_body, what) in [
        (flipped, false, "SHA-256"),
        (long.clone(), false, "the file has 80000 bytes, expected 70000"),
        (long, true, "expected 70000 bytes, found 70001"),
    ] {
        let (_dir, cache) = cache();
        let served = wrong.clone();
        let hub = gguf_hub(bytes.clone(), move |request, _, _| Reply { unsized_body, ..ranged(request, &served) });
        let network = network(&hub.url());
        let plan = plan("a/b", &cache, &network).unwrap();
        let error = pull(&plan, &network, &mut Silent).unwrap_err().to_string();
        assert!(error.contains(what) && error.contains("m-Q8_0.gguf"), "{error}");
        if what == "SHA-256" {
            assert!(error.contains(&sha256(&bytes)) && error.contains(&sha256(&wrong)), "{error}");
        }
        assert_eq!(files_below(cache.root()), [""; 0]);
        assert_eq!(list(&cache).unwrap(), []);
    }
}

#[test]
fn each_refusal_says_what_to_do() {
    let cases: [(u16, Option<&str>, &str, usize); 6] = [
        (401, None, "set HF_TOKEN to an access token", 1),
        (403, None, "accept its terms on its page", 1),
        (403, Some("t0ken"), "check that the token in HF_TOKEN may read it", 1),
        (404, None, "does not exist", 1),
        (400, None, "HTTP 400", 1),
        (503, None, "HTTP 503", 5),
    ];
    for (code, token, words, asked) in cases {
        let (_dir, cache) = cache();
        let hub = Server::start(move |_, _| status(code));
        let network = Network { token: token.map(Into::into), ..network(&hub.url()) };
        let error = plan("a/b", &cache, &network).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("/api/models/a/b"), "{code}: {error}");
        assert!(!error.contains("t0ken"), "{error}");
        assert_eq!(hub.seen().len(), asked, "{code}");
    }
}

#[test]
fn passing_faults_are_tried_again() {
    let (_dir, cache) = cache();
    let bytes = noise(1_000);
    let shown = bytes.clone();
    let hub = Server::start(move |request, n| match n {
        0 => status(500),
        1 => status(429),
        2 => text(listing(&[("m.gguf", &bytes, true)])),
        3 => status(502),
        _ => ranged(request, &bytes),
    });
    let network = network(&hub.url());
    let path = pull(&plan("a/b", &cache, &network).unwrap(), &network, &mut Silent).unwrap();
    assert_eq!(fs::read(path).unwrap(), shown);
    assert_eq!(hub.seen().len(), 5);
}

#[test]
fn the_token_stays_with_the_hub() {
    let (_dir, cache) = cache();
    let bytes = noise(5_000);
    let stored = bytes.clone();
    let elsewhere = Server::start(move |request, _| ranged(request, &stored));
    let away = format!("{}/blob?signature=s", elsewhere.url());
    // First to another path of the hub (a renamed repository), then to another port.
    let front = Server::start(move |request, _| match request.path.as_str() {
        "/moved" => redirect(away.clone()),
        path if path.contains("/resolve/") => redirect("/moved".into()),
        _ => text(listing(&[("m-Q8_0.gguf", &bytes, true)])),
    });
    let network = Network { token: Some(" t0ken\n".into()), ..network(&front.url()) };
    pull(&plan("a/b", &cache, &network).unwrap(), &network, &mut Silent).unwrap();
    let bearer = Some("Bearer t0ken".to_string());
    assert_eq!(front.seen().len(), 3);
    assert!(front.seen().iter().all(|request| request.token == bearer));
    assert_eq!(elsewhere.seen().len(), 1);
    assert_eq!(elsewhere.seen()[0].token, None);
}

#[test]
fn a_listing_that_makes_no_sense_is_refused() {
    let ok = noise(10);
    let cases = [
        ("nonsense".to_string(), "gave an answer that cannot be used"),
        ("{}".into(), "missing field"),
        (listing(&[("m.gguf", &ok, true)]).replace(COMMIT, "../../x"), "its commit is"),
        (listing(&[("m.gguf", &ok, true)]).replace(&sha256(&ok), "abc"), "has SHA-256"),
        (listing(&[("m.gguf", &ok, false)]).replace("\"size\":10", "\"size\":null"), "has no size"),
        (listing(&[("../m.gguf", &ok, true)]), "unsafe name"),
        (listing(&[("/tmp/m.gguf", &ok, true)]), "unsafe name"),
        (listing(&[]), "no safetensors and no GGUF file"),
        (format!("{{\"x\":{}", "[".repeat(100_000)), "gave an answer that cannot be used"),
    ];
    for (body, words) in cases {
        let (_dir, cache) = cache();
        let shown: String = body.chars().take(200).collect();
        let hub = Server::start(move |_, _| text(body.clone()));
        let error = plan("a/b", &cache, &network(&hub.url())).unwrap_err().to_string();
        assert!(error.contains(words), "{shown}: {error}");
        assert_eq!(files_below(cache.root()), [""; 0]);
    }
}

#[test]
fn endless_redirects_and_wrong_endpoints_end() {
    let (_dir, cache) = cache();
    let hub = Server::start(|_, _| redirect("/again".into()));
    let error = plan("a/b", &cache, &network(&hub.url())).unwrap_err().to_string();
    assert!(error.contains("too many redirects"), "{error}");
    assert_eq!(hub.seen().len(), 9);
    let error = plan("a/b", &cache, &network("ftp://hub")).unwrap_err().to_string();
    assert!(error.contains("HF_ENDPOINT"), "{error}");
    let quick = Network { attempts: 2, ..network(&nowhere()) };
    let error = plan("a/b", &cache, &quick).unwrap_err().to_string();
    assert!(error.contains("cannot reach http://127.0.0.1"), "{error}");
    // One that takes the connection and then says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let network = Network {
        attempts: 2,
        connect_timeout: Duration::from_millis(50),
        ..network(&format!("http://{}", silent.local_addr().unwrap()))
    };
    let error = plan("a/b", &cache, &network).unwrap_err().to_string();
    assert!(error.contains("timeout"), "{error}");
}

#[test]
fn pulls_of_the_same_model_at_the_same_time_share_the_work() {
    let (_dir, cache) = cache();
    let bytes = noise(2_000_000);
    let hub = gguf_hub(bytes.clone(), |request, _, bytes| ranged(request, bytes));
    let network = network(&hub.url());
    let plans: Vec<Plan> = (0..4).map(|_| plan("a/b", &cache, &network).unwrap()).collect();
    std::thread::scope(|scope| {
        for plan in &plans {
            scope.spawn(|| pull(plan, &network, &mut Silent).unwrap());
        }
    });
    assert_eq!(fs::read(plans[0].path()).unwrap(), bytes);
    let fetched = hub.seen().iter().filter(|request| request.path.contains("/resolve/")).count();
    assert_eq!(fetched, 1);
}

#[test]
fn names_that_are_nothing_say_what_a_name_can_be() {
    let (dir, cache) = cache();
    let offline = Network { offline: true, ..network(&nowhere()) };
    let error = |name: &str| resolve(name, &cache, &offline).unwrap_err().to_string();
    let unknown = error("smolm2");
    for words in ["smollm2-135m-instruct", "all-minilm-l6-v2", "owner/repo:quant", "did you mean smollm2?"] {
        assert!(unknown.contains(words), "{unknown}");
    }
    assert!(!error("gpt-oss-20b").contains("did you mean"));
    assert!(error("./nothing.gguf").contains("no file or folder './nothing.gguf'"));
    assert!(error("/nothing/x").contains("no file or folder"));
    assert!(error("models/nothing.gguf").contains("no file or folder"));
    assert!(error("smollm2").contains("smollm2-135m-instruct is not in the cache"));
    assert!(error("a/b:q8_0").contains("offline"));
    assert!(error("a/b/../../x").contains("not a usable hub id"));
    let here = dir.path().join("x.gguf");
    fs::write(&here, "x").unwrap();
    let found = resolve(here.to_str().unwrap(), &cache, &offline).unwrap();
    assert!(matches!(found, Resolved::Present(path) if path == here));
}

#[test]
fn a_cache_that_cannot_be_used_is_named() {
    // Permissions mean nothing to root, so a file stands where the folder should be.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cache");
    fs::write(&file, "not a folder").unwrap();
    let cache = CacheDir::at(&file);
    let bytes = noise(10);
    let hub = gguf_hub(bytes, |request, _, bytes| ranged(request, bytes));
    let network = network(&hub.url());
    let named = |error: Error| {
        let text = error.to_string();
        assert!(text.contains(file.to_str().unwrap()) && text.contains("PORISM_HOME"), "{text}");
    };
    named(resolve("a/b", &cache, &network).unwrap_err());
    named(resolve("smollm2", &cache, &network).unwrap_err());
    named(list(&cache).unwrap_err());
    named(verify("smollm2", &cache, &mut Silent).unwrap_err());
    assert_eq!(list(&CacheDir::at(dir.path().join("not there yet"))).unwrap(), []);
    // Or a folder where a file should be.
    let cache = CacheDir::at(dir.path().join("other"));
    let plan = plan("a/b", &cache, &network).unwrap();
    fs::create_dir_all(plan.path()).unwrap();
    let error = pull(&plan, &network, &mut Silent).unwrap_err();
    assert!(error.to_string().contains(plan.path().to_str().unwrap()), "{error}");
}

#[test]
fn a_file_of_a_data_set_is_fetched_once() {
    let (_dir, cache) = cache();
    let bytes = noise(20_000);
    let served = bytes.clone();
    let hub = Server::start(move |request, _| match request.path.as_str() {
        "/api/datasets/a/b/revision/main?blobs=true" => text(listing(&[("c/test-0.parquet", &served, true)])),
        path if path == format!("/datasets/a/b/resolve/{COMMIT}/c/test-0.parquet") => ranged(request, &served),
        _ => status(404),
    });
    let network = network(&hub.url());
    let fetch = |path: &str, network: &Network| dataset_file("a/b", path, &cache, network, &mut Silent);
    let error = fetch("c/train-0.parquet", &network).unwrap_err().to_string();
    assert!(error.contains("no file c/train-0.parquet") && error.contains("c/test-0.parquet"), "{error}");
    let offline = Network { offline: true, ..network.clone() };
    assert!(matches!(fetch("c/test-0.parquet", &offline), Err(Error::Offline(_))));
    assert!(matches!(fetch("../x", &network), Err(Error::UnsafeName { .. })));

    let path = fetch("c/test-0.parquet", &network).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes);
    drop(hub);
    assert_eq!(fetch("c/test-0.parquet", &offline).unwrap(), path);
}
