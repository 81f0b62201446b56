//! Metrics against the programs that define them: `scripts/fixtures/metrics.py` wrote what they score.

use std::io::Write as _;

use porism_kernels::Pool;
use porism_measure::metric::{
    Bleu, Chrf, Corpus, ExactMatch, Meteor, Metric, Rouge, RougeKind, Smoothing, Ter, TokenF1, Tokenizer, WordNet,
    score,
};
use serde_json::Value;

/// The largest difference from sacrebleu, rouge_score and NLTK.
const TOLERANCE: f64 = 1e-9;

fn fixture() -> Value {
    serde_json::from_str(include_str!("fixtures/metrics.json")).expect("the fixture")
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn numbers(value: &Value) -> Vec<f64> {
    rows(value).iter().map(|v| v.as_f64().expect("a number")).collect()
}

/// Segments as hypotheses and so many sets of references.
fn corpus(segments: &Value, references: usize) -> Corpus<'_> {
    let column = |c: usize| rows(segments).iter().map(|row| row[c].as_str().expect("a text")).collect::<Vec<_>>();
    Corpus::new(column(0), (1..=references).map(column).collect()).expect("a corpus")
}

fn references(case: &Value) -> usize {
    case["references"].as_u64().expect("a number") as usize
}

/// Checks the corpus's score, each segment's, and the signature but for the version; gives the largest difference.
fn check<M: Metric>(metric: &M, single: &M, segments: &Value, case: &Value) -> f64 {
    let corpus = corpus(segments, references(case));
    let scored = score(metric, &corpus, &Pool::new(2));
    let expected = case["corpus"].as_f64().expect("a number");
    assert!((scored.score - expected).abs() < TOLERANCE, "{case}: {} instead of {expected}", scored.score);
    let mut largest = (scored.score - expected).abs();
    let rows = scored.rows.chunks_exact(metric.width());
    for ((row, expected), text) in rows.zip(numbers(&case["sentences"])).zip(self::rows(segments)) {
        let sentence = single.score(row, 1);
        largest = largest.max((sentence - expected).abs());
        assert!((sentence - expected).abs() < TOLERANCE, "{text} {}: {sentence}, not {expected}", case["options"]);
    }
    let (theirs, _) = case["signature"].as_str().expect("a text").split_once("|version:").expect("a version");
    let ours = metric.signature(references(case)).to_string();
    assert_eq!(ours.split_once("|version:porism-").map(|(keys, _)| keys), Some(theirs));
    largest
}

fn say(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Says how far scores lie apart at most.
fn tell(what: &str, largest: f64) {
    say(&format!("{what}: the largest difference is {largest:.1e}"));
}

fn flag(options: &Value, name: &str) -> bool {
    options[name].as_bool().unwrap_or(false)
}

#[test]
fn bleu_is_sacrebleus() {
    let fixture = fixture();
    let mut largest = 0.0f64;
    for case in rows(&fixture["bleu"]) {
        let options = &case["options"];
        let tokenizer = options["tokenize"].as_str().unwrap_or("13a");
        let value = options["smooth_value"].as_f64();
        let bleu = Bleu {
            tokenizer: Tokenizer::ALL.into_iter().find(|t| t.name() == tokenizer).expect("a tokenizer"),
            smoothing: match options["smooth_method"].as_str() {
                Some("none") => Smoothing::None,
                Some("floor") => Smoothing::Floor(value.unwrap_or(0.1)),
                Some("add-k") => Smoothing::AddK(value.unwrap_or(1.0)),
                _ => Smoothing::Exp,
            },
            effective_order: flag(options, "effective_order"),
            lowercase: flag(options, "lowercase"),
        };
        largest = largest.max(check(&bleu, &bleu, &fixture["segments"], case));
        let corpus = corpus(&fixture["segments"], references(case));
        let detail = bleu.detail(&score(&bleu, &corpus, &Pool::new(1)).sums);
        for (ours, theirs) in detail.precisions.iter().zip(numbers(&case["precisions"])) {
            assert!((ours - theirs).abs() < TOLERANCE, "{case}: {detail:?}");
        }
        assert!((detail.brevity_penalty - case["bp"].as_f64().expect("a number")).abs() < TOLERANCE);
        assert_eq!(case["words"], serde_json::json!([detail.hypothesis_words, detail.reference_words]));
    }
    tell("BLEU", largest);
}

#[test]
fn chrf_is_sacrebleus() {
    let fixture = fixture();
    let mut largest = 0.0f64;
    for case in rows(&fixture["chrf"]) {
        let options = &case["options"];
        let number = |name: &str, default: u32| options[name].as_u64().map_or(default, |v| v as u32);
        let mut chrf = Chrf::default().with_orders(number("char_order", 6), number("word_order", 0));
        chrf.beta = number("beta", 2);
        chrf.lowercase = flag(options, "lowercase");
        chrf.whitespace = flag(options, "whitespace");
        chrf.epsilon_smoothing = flag(options, "eps_smoothing");
        largest = largest.max(check(&chrf, &chrf, &fixture["segments"], case));
    }
    tell("chrF", largest);
    assert_eq!(Chrf::plus_plus(), Chrf::default().with_orders(6, 2));
    assert_eq!([Chrf::default().name(), Chrf::plus_plus().name()], ["chrF2", "chrF2++"]);
}

#[test]
fn ter_is_sacrebleus() {
    let fixture = fixture();
    let mut largest = 0.0f64;
    for case in rows(&fixture["ter"]) {
        let options = &case["options"];
        let ter = Ter {
            normalized: flag(options, "normalized"),
            no_punctuation: flag(options, "no_punct"),
            asian_support: flag(options, "asian_support"),
            case_sensitive: flag(options, "case_sensitive"),
        };
        largest = largest.max(check(&ter, &ter, &fixture["segments"], case));
    }
    tell("TER", largest);
}

/// Checks columns of the rows of statistics.
fn check_rows<M: Metric>(metric: &M, segments: &Value, references: usize, columns: &[&Value], tolerance: f64) {
    let corpus = corpus(segments, references);
    let scored = score(metric, &corpus, &Pool::new(2));
    let mut largest = 0.0f64;
    for (column, expected) in columns.iter().enumerate() {
        let ours = scored.rows.chunks_exact(metric.width()).map(|row| row[column]);
        for ((ours, theirs), text) in ours.zip(numbers(expected)).zip(rows(segments)) {
            largest = largest.max((ours - theirs).abs());
            assert!((ours - theirs).abs() < tolerance, "{} {text}: {ours}, not {theirs}", metric.name());
        }
    }
    let values = numbers(columns[0]);
    let mean = metric.score(&[1.0; 3][..metric.width()], 1) * values.iter().sum::<f64>() / values.len() as f64;
    assert!((scored.score - mean).abs() < tolerance * 100.0, "{}: {}, not {mean}", metric.name(), scored.score);
    tell(&metric.name(), largest);
}

#[test]
fn rouge_is_rouge_scores() {
    let fixture = fixture();
    for case in rows(&fixture["rouge"]) {
        let kind = match case["kind"].as_str() {
            Some("rougeL") => RougeKind::L,
            Some("rougeLsum") => RougeKind::Lsum,
            Some(name) => RougeKind::N(name["rouge".len()..].parse().expect("an order")),
            None => panic!("no kind in {case}"),
        };
        let rouge = Rouge { kind, stemmed: flag(case, "stemmed") };
        assert_eq!(rouge.name(), case["kind"]);
        let columns = [&case["f"], &case["precision"], &case["recall"]];
        check_rows(&rouge, &fixture["segments"], references(case), &columns, TOLERANCE);
    }
}

#[test]
fn meteor_is_nltks() {
    let fixture = fixture();
    for case in rows(&fixture["meteor"]) {
        check_rows(&Meteor::default(), &fixture["segments"], references(case), &[&case["scores"]], TOLERANCE);
    }
    for case in rows(&fixture["synonyms"]).iter().filter(|case| case["synonyms"] == "none") {
        check_rows(&Meteor::default(), &fixture["synonym_segments"], references(case), &[&case["scores"]], TOLERANCE);
    }
}

#[test]
fn meteor_with_synonyms_is_nltks() {
    let folder = std::env::var_os("PORISM_TEST_DATA").map(|data| std::path::Path::new(&data).join("wordnet"));
    let Some(folder) = folder.filter(|folder| folder.is_dir()) else {
        say("skipped: PORISM_TEST_DATA has no folder `wordnet` with WordNet 3.0's files");
        return;
    };
    let wordnet = std::sync::Arc::new(WordNet::open(&folder).expect("WordNet"));
    let meteor = Meteor { wordnet: Some(wordnet), ..Meteor::default() };
    let fixture = fixture();
    let cases: Vec<&Value> = rows(&fixture["synonyms"]).iter().filter(|case| case["synonyms"] == "wordnet").collect();
    assert_eq!(cases.len(), 2);
    for case in cases {
        check_rows(&meteor, &fixture["synonym_segments"], references(case), &[&case["scores"]], TOLERANCE);
    }
}

#[test]
fn exact_match_and_token_f1_are_squads() {
    let fixture = fixture();
    for case in rows(&fixture["squad"]) {
        check_rows(&ExactMatch, &fixture["segments"], references(case), &[&case["exact"]], TOLERANCE);
        // The peer computes in f32.
        check_rows(&TokenF1, &fixture["segments"], references(case), &[&case["f1"]], 1e-6);
    }
}

#[test]
fn a_corpus_has_one_reference_for_each_hypothesis() {
    let message = |h: &[&'static str], r: &[&[&'static str]]| {
        let references = r.iter().map(|set| set.to_vec()).collect();
        Corpus::new(h.to_vec(), references).expect_err("an error").to_string()
    };
    assert!(message(&["a", "b"], &[&["a", "b"], &["a"]]).contains("2 hypotheses and 1 references in set 2"));
    assert!(message(&[], &[&[]]).contains("no segments"));
    assert!(message(&["a"], &[]).contains("no references"));
}

#[test]
fn scores_do_not_depend_on_the_number_of_threads() {
    let fixture = fixture();
    let many: Vec<Value> = rows(&fixture["segments"]).iter().cycle().take(1000).cloned().collect();
    let many = Value::Array(many);
    let corpus = corpus(&many, 2);
    let one = score(&Meteor::default(), &corpus, &Pool::new(1));
    assert_eq!(one, score(&Meteor::default(), &corpus, &Pool::new(3)));
    assert_eq!(score(&Ter::default(), &corpus, &Pool::new(1)), score(&Ter::default(), &corpus, &Pool::new(3)));
}
