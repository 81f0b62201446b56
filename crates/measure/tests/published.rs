//! The test cases that the reference programs publish: their sentences, their settings and the scores that they expect, to
//! the digits that they print. Sentences and numbers are from the tests of sacrebleu (test_bleu, test_sentence_bleu,
//! test_chrf, test_ter), of rouge_score (rouge_scorer_test) and of NLTK (test_meteor, and the examples of meteor_score's
//! documentation), all under the Apache License 2.0.

use porism_kernels::Pool;
use porism_measure::metric::{Bleu, Chrf, Corpus, Meteor, Metric, Rouge, RougeKind, Smoothing, Ter, Tokenizer, score};

fn scored<M: Metric>(metric: &M, hypotheses: &[&'static str], references: &[&[&'static str]]) -> f64 {
    let references = references.iter().map(|set| set.to_vec()).collect();
    score(metric, &Corpus::new(hypotheses.to_vec(), references).expect("a corpus"), &Pool::new(1)).score
}

/// The first segment's statistics.
fn row<M: Metric>(metric: &M, hypothesis: &'static str, references: &[&'static str]) -> Vec<f64> {
    let references = references.iter().map(|&text| vec![text]).collect();
    score(metric, &Corpus::new(vec![hypothesis], references).expect("a corpus"), &Pool::new(1)).rows
}

#[track_caller]
fn near(got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() < tolerance, "{got}, not {want}");
}

#[test]
fn bleu_of_corpora() {
    let first: &[&str] = &["The dog bit the man.", "It was not unexpected.", "The man bit him first."];
    let second: &[&str] = &["The dog had bit the man.", "No one was surprised.", "The man had bitten the dog."];
    let hypotheses = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."];
    let with = |tokenizer| Bleu { tokenizer, ..Bleu::default() };
    let unsmoothed = Bleu { smoothing: Smoothing::None, ..Bleu::default() };
    let table = [
        (Bleu::default(), 48.530827),
        (with(Tokenizer::None), 49.1919566),
        (with(Tokenizer::V13a), 48.530827),
        (with(Tokenizer::International), 43.91623493),
        (unsmoothed, 48.530827),
    ];
    for (bleu, want) in table {
        near(scored(&bleu, &hypotheses, &[first, second]), want, 1e-6);
    }
    near(scored(&Bleu::default(), &["", "", ""], &[first, second]), 0.0, 1e-12);
}

#[test]
fn bleu_of_words_that_are_not_touched() {
    // sacrebleu's raw_corpus_bleu: no tokenizer, floor smoothing, effective order.
    let raw = |floor| Bleu {
        tokenizer: Tokenizer::None,
        smoothing: Smoothing::Floor(floor),
        effective_order: true,
        ..Bleu::default()
    };
    let table: &[(&[&str], &[&str], f64)] = &[
        (&["this is a test", "another test"], &["ref1", "ref2"], 0.0),
        (&["this is a test"], &["this is a test"], 1.0),
        (&["this is a fest"], &["this is a test"], 0.223606797749979),
        (&["test"], &["a test"], 0.3678794411714425),
        (&["a test"], &["a test"], 1.0),
        (&["a little test"], &["a test"], 0.03218297948685433),
    ];
    for (hypotheses, references, want) in table {
        near(scored(&raw(0.01), hypotheses, &[references]) / 100.0, *want, 1e-8);
    }
    let (hypothesis, reference) = (["am I am a character sequence"], ["I am a symbol string sequence a a"]);
    near(scored(&raw(0.1), &hypothesis, &[&reference]) / 100.0, 0.1555722182, 1e-8);
    near(scored(&raw(0.0), &hypothesis, &[&reference]), 0.0, 1e-8);
}

#[test]
fn bleu_of_a_sentence() {
    let reference = "producţia de zahăr brut se exprimă în zahăr alb;";
    let hypothesis = "Producția de zahăr primă va fi exprimată în ceea ce privește zahărul alb;";
    let table = [
        (Smoothing::Exp, false, Tokenizer::V13a, 8.493),
        (Smoothing::None, false, Tokenizer::V13a, 0.0),
        (Smoothing::Floor(0.1), false, Tokenizer::V13a, 4.51688),
        (Smoothing::Floor(0.5), false, Tokenizer::V13a, 10.10),
        (Smoothing::AddK(1.0), false, Tokenizer::V13a, 14.882),
        (Smoothing::AddK(2.0), false, Tokenizer::V13a, 21.389),
        (Smoothing::Exp, false, Tokenizer::None, 7.347),
        (Smoothing::Exp, false, Tokenizer::International, 8.493),
        (Smoothing::Exp, false, Tokenizer::Char, 40.8759),
        (Smoothing::Exp, true, Tokenizer::Char, 42.0267),
    ];
    for (smoothing, lowercase, tokenizer, want) in table {
        let bleu = Bleu { tokenizer, smoothing, lowercase, effective_order: true };
        near(scored(&bleu, &[hypothesis], &[&[reference]]), want, 1e-3);
    }
    for smoothing in [Smoothing::Exp, Smoothing::None, Smoothing::Floor(0.1), Smoothing::AddK(1.0)] {
        let bleu = Bleu { smoothing, effective_order: true, ..Bleu::default() };
        near(scored(&bleu, &["this is a cat"], &[&["okay thanks"]]), 0.0, 1e-3);
    }
}

#[test]
fn chrf_of_corpora() {
    let chrf = |epsilon_smoothing| {
        let mut chrf = Chrf::default().with_orders(6, 0);
        (chrf.beta, chrf.epsilon_smoothing) = (3, epsilon_smoothing);
        chrf
    };
    let risk = (
        " risk assessment must be made of those who are qualified and expertise in the sector - these are the scientists .",
        "risk assessment has to be undertaken by those who are qualified and expert in that area - that is the scientists .",
    );
    let obama = (
        " Die    Beziehung zwischen  Obama und Netanjahu ist nicht gerade  freundlich. ",
        "Das Verhältnis zwischen Obama und Netanyahu ist nicht gerade freundschaftlich.",
    );
    let wall = "Niemand hat die Absicht, eine Mauer zu errichten";
    let smoothed: &[(&[&str], &[&str], f64)] = &[
        (&["abcdefg"], &["hijklmnop"], 0.0),
        (&["a"], &["b"], 0.0),
        (&[""], &["b"], 0.0),
        (&[""], &["reference"], 0.0),
        (&["aa"], &["ab"], 8.3333),
        (&["a", "b"], &["a", "c"], 8.3333),
        (&["a"], &["a"], 16.6667),
        (&["a b c"], &["a b c"], 50.0),
        (&["a b c"], &["abc"], 50.0),
        (&[risk.0], &[risk.1], 63.361730),
        (&[obama.0], &[obama.1], 64.1302698),
        (&[wall], &[wall], 100.0),
    ];
    for (hypotheses, references, want) in smoothed {
        near(scored(&chrf(true), hypotheses, &[references]), *want, 1e-4);
    }
    let plain: &[(&[&str], &[&str], f64)] = &[
        (&["a"], &["a"], 100.0),
        (&[""], &["reference"], 0.0),
        (&["a b c"], &["a b c"], 100.0),
        (&["a b c"], &["abc"], 100.0),
        (&["a", "b"], &["a", "c"], 50.0),
        (&["aa"], &["ab"], 25.0),
    ];
    for (hypotheses, references, want) in plain {
        near(scored(&chrf(false), hypotheses, &[references]), *want, 1e-4);
    }
    let mut whitespace = chrf(false);
    whitespace.whitespace = true;
    let neat = "Die Beziehung zwischen Obama und Netanjahu ist nicht gerade freundlich.";
    near(scored(&whitespace, &[neat], &[&[obama.1]]), 67.3481606, 1e-4);
    near(scored(&whitespace, &[risk.0.trim_start()], &[&[risk.1]]), 65.2414427, 1e-4);
}

#[test]
fn chrf_of_sentences() {
    let mut chrf = Chrf::default();
    chrf.epsilon_smoothing = true;
    let table = [
        (
            "Co nás nejvíc trápí, protože lékaři si vybírají, kdo bude žít a kdo zemře.",
            "Nejvíce smutní jsme z toho, že musíme rozhodovat o tom, kdo bude žít a kdo zemře.",
            39.14078509,
        ),
        (
            "Nebo prostě nemají vybavení, které by jim pomohlo, uvedli lékaři.",
            "A někdy nemáme ani potřebný materiál, abychom jim pomohli, popsali lékaři.",
            31.22557079,
        ),
        (
            "Lapali po dechu, jejich životy skončily dřív, než skutečně začaly.",
            "Lapali po dechu a pak jejich život skončil - dřív, než skutečně mohl začít, připomněli.",
            57.15704367,
        ),
    ];
    for (hypothesis, reference, want) in table {
        near(scored(&chrf, &[hypothesis], &[&[reference]]), want, 1e-4);
    }
}

#[test]
fn ter_of_corpora() {
    let german = (
        [
            "wählen Sie \" Bild neu berechnen , \" um beim Ändern der Bildgröße Pixel hinzuzufügen oder zu entfernen , damit das Bild ungefähr dieselbe Größe aufweist wie die andere Größe .",
            "wenn Sie alle Aufgaben im aktuellen Dokument aktualisieren möchten , wählen Sie im Menü des Aufgabenbedienfelds die Option \" Alle Aufgaben aktualisieren . \"",
            "klicken Sie auf der Registerkarte \" Optionen \" auf die Schaltfläche \" Benutzerdefiniert \" und geben Sie Werte für \" Fehlerkorrektur-Level \" und \" Y / X-Verhältnis \" ein .",
            "Sie können beispielsweise ein Dokument erstellen , das ein Auto über die Bühne enthält .",
            "wählen Sie im Dialogfeld \" Neu aus Vorlage \" eine Vorlage aus und klicken Sie auf \" Neu . \"",
        ],
        [
            "wählen Sie \" Bild neu berechnen , \" um beim Ändern der Bildgröße Pixel hinzuzufügen oder zu entfernen , damit die Darstellung des Bildes in einer anderen Größe beibehalten wird .",
            "wenn Sie alle Aufgaben im aktuellen Dokument aktualisieren möchten , wählen Sie im Menü des Aufgabenbedienfelds die Option \" Alle Aufgaben aktualisieren . \"",
            "klicken Sie auf der Registerkarte \" Optionen \" auf die Schaltfläche \" Benutzerdefiniert \" und geben Sie für \" Fehlerkorrektur-Level \" und \" Y / X-Verhältnis \" niedrigere Werte ein .",
            "Sie können beispielsweise ein Dokument erstellen , das ein Auto enthalt , das sich über die Bühne bewegt .",
            "wählen Sie im Dialogfeld \" Neu aus Vorlage \" eine Vorlage aus und klicken Sie auf \" Neu . \"",
        ],
    );
    let table: &[(&[&str], &[&str], f64)] = &[
        (&["aaaa bbbb cccc dddd"], &["aaaa bbbb cccc dddd"], 0.0),
        (&["dddd eeee ffff"], &["aaaa bbbb cccc"], 1.0),
        (&[""], &["a"], 1.0),
        (&["a"], &[""], 1.0),
        (&[""], &[""], 0.0),
        (&["d e f g h a b c"], &["a b c d e f g h"], 1.0 / 8.0),
        (&german.0, &german.1, 0.136),
    ];
    for (hypotheses, references, want) in table {
        near(scored(&Ter::default(), hypotheses, &[references]), 100.0 * want, 1e-3);
    }
}

#[test]
fn rouge_of_summaries() {
    let words = ("w1 w2 w3 w4 w5", "w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5");
    // Kind, reference, hypothesis; precision, recall, F.
    let table = [
        (RougeKind::N(1), "testing one two", "testing", [1.0, 1.0 / 3.0, 0.5]),
        (RougeKind::N(2), "testing one two", "testing one", [1.0, 0.5, 2.0 / 3.0]),
        (RougeKind::L, "testing one two", "testing one", [1.0, 2.0 / 3.0, 0.8]),
        (RougeKind::L, "testing one two", "testing two", [1.0, 2.0 / 3.0, 0.8]),
        (RougeKind::N(1), "testing one two", "testing one", [1.0, 2.0 / 3.0, 0.8]),
        (RougeKind::Lsum, words.0, words.1, [0.4, 0.8, 0.5333333333]),
        (RougeKind::N(1), "testing one two", "", [0.0; 3]),
        (RougeKind::N(2), "testing one two", "", [0.0; 3]),
        (RougeKind::L, "testing one two", "", [0.0; 3]),
        (RougeKind::Lsum, words.0, "", [0.0; 3]),
        (RougeKind::Lsum, "", "w1", [0.0; 3]),
        (RougeKind::Lsum, words.0, "/", [0.0; 3]),
    ];
    for (kind, reference, hypothesis, [precision, recall, f]) in table {
        let got = row(&Rouge { kind, stemmed: false }, hypothesis, &[reference]);
        for (got, want) in got.iter().zip([f, precision, recall]) {
            near(*got, want, 1e-7);
        }
    }
}

#[test]
fn meteor_of_sentences() {
    let meteor = |hypothesis, references: &[&'static str]| row(&Meteor::default(), hypothesis, references)[0];
    near(meteor("THIS Is a tEST", &["this is a test", "this istest"]), 0.9921875, 1e-12);
    let guide = "It is a guide to action which ensures that the military always obeys the commands of the party";
    let party = "It is a guide to action that ensures that the military will forever heed Party commands";
    near(meteor(guide, &[party]), 0.6944, 5e-5);
    near(meteor("x y z", &["this is a cat"]), 0.0, 1e-12);
    near(meteor("non matching hypothesis", &["this is a cat"]), 0.0, 1e-12);
}
