//! I.5.1: word2vec, its analogies, and what two matrices are for.

use porism_report::plot::{Axis, Plot, Series};

use crate::logistic::sigmoid;
use crate::solution::Step;
use crate::vector::{cosine, difference, dot, unit};
use crate::word2vec::{Corpus, Embeddings, Neighbour, PEOPLE, Training, analogies, analogy, nearest, train};
use crate::{Error, Exercise, Result, Setting, Settings, Solution};

pub(crate) static EXERCISE: Exercise = Exercise {
    section: "I.5.1",
    chapter: "Part I, NLP Foundations",
    title: "Word embeddings: an analogy, and why there are two matrices",
    settings: &[
        Setting::whole("width", "numbers a word", 16.0, 2.0, 128.0),
        Setting::whole("window", "how far apart words of a pair are at most", 4.0, 1.0, 10.0),
        Setting::whole("negatives", "words drawn against each pair", 5.0, 1.0, 20.0),
        Setting::whole("epochs", "passes over the text", 8.0, 1.0, 50.0),
        Setting::real("lr", "the step size at first", 0.05, 0.0001, 0.5),
        Setting::whole("sentences", "sentences of the text", 6000.0, 300.0, 20_000.0),
        Setting::whole("seed", "of the text and the training", 1.0, 0.0, 1e6),
    ],
    solve,
};

/// What one training gave, and the text.
struct Learnt<'a> {
    corpus: &'a Corpus,
    embeddings: Embeddings,
}

impl Learnt<'_> {
    fn number(&self, word: &str) -> Result<usize> {
        let missing = || Error::Together(format!("the text has too few sentences: `{word}` does not occur in it"));
        self.corpus.find(word).ok_or_else(missing)
    }

    /// The vector of a word, made length 1.
    fn vector(&self, word: &str) -> Result<Vec<f64>> {
        Ok(unit(&self.embeddings.centers[self.number(word)?]))
    }

    /// Where king - man + woman lies.
    fn question(&self) -> Result<Vec<f64>> {
        self.number("queen")?;
        let given = ["king", "man", "woman"];
        given.iter().try_for_each(|word| self.number(word).map(drop))?;
        Ok(analogy(self.corpus, &self.embeddings, given).unwrap_or_default())
    }

    fn nearest(&self, to: &[f64], without: &[&str], count: usize) -> Vec<Neighbour> {
        nearest(self.corpus, &self.embeddings, to, without, count)
    }
}

/// Words with their cosines as a step.
fn neighbours(key: &str, what: impl Into<String>, work: impl Into<String>, found: &[Neighbour]) -> Step {
    let cosines: Vec<f64> = found.iter().map(|n| n.cosine).collect();
    let words: Vec<String> = found.iter().map(|n| format!("{} {:.2}", n.word, n.cosine)).collect();
    Step::numbers(key, what, work, &cosines).shown(words.join(", "))
}

const GIVEN: [&str; 3] = ["king", "man", "woman"];

fn solve(settings: &Settings) -> Result<Solution> {
    let seed = settings.count("seed") as u64;
    let corpus = Corpus::generate(settings.count("sentences"), seed);
    let training = Training {
        width: settings.count("width"),
        window: settings.count("window"),
        negatives: settings.count("negatives"),
        epochs: settings.count("epochs"),
        lr: settings.get("lr"),
        seed,
        tied: false,
    };
    let learn = |tied: bool| Learnt { corpus: &corpus, embeddings: train(&corpus, &Training { tied, ..training }) };
    let (two, one) = (learn(false), learn(true));
    let mut solution = Solution::new(figure(&two)?);

    let part = solution
        .part("What does king - man + woman = queen say of the space? (skip-gram, trained here on a small text)");
    let pairs = corpus.pairs(training.window).len() as f64;
    part.number("sentences", "sentences", "generated, see the crate's word2vec", corpus.sentences.len() as f64);
    part.number("vocabulary", "words", "", corpus.words.len() as f64);
    part.number("pairs", "pairs within the window", "", pairs);
    let losses = &two.embeddings.losses;
    part.number("loss_first", "loss in the first pass", "nats a pair", losses[0]);
    part.number("loss_last", "loss in the last pass", "", losses[losses.len() - 1]);
    part.add(neighbours("near_king", "nearest to king", "cosines", &two.nearest(&two.vector("king")?, &["king"], 3)));
    part.add(neighbours("near_girl", "nearest to girl", "", &two.nearest(&two.vector("girl")?, &["girl"], 3)));
    let point = two.question()?;
    part.add(neighbours("analogy", "king - man + woman", "but for these three", &two.nearest(&point, &GIVEN, 3)));
    let direction = |he: &str, she: &str| Ok::<_, Error>(difference(&two.vector(she)?, &two.vector(he)?));
    let (royal, common) = (direction("king", "queen")?, direction("man", "woman")?);
    part.number("direction", "cosine of queen - king and woman - man", "one direction, she", cosine(&royal, &common));
    let crossed = difference(&two.vector("king")?, &two.vector("man")?);
    part.number("crossed", "cosine of woman - man and king - man", "another, royal", cosine(&common, &crossed));
    let asked = analogies(&corpus, &two.embeddings);
    let right = format!("{} of {}", asked.right, asked.asked);
    part.add(
        Step::number(
            "analogies",
            "analogies of he and she that are right",
            right.clone(),
            share(asked.right, asked.asked),
        )
        .shown(right),
    );
    let all = format!("{} of {}", asked.right_with_given, asked.asked);
    let right = share(asked.right_with_given, asked.asked);
    part.add(Step::number("analogies_all", "the same, given words not left out", "", right).shown(all));
    part.remark(match cosine(&royal, &common) {
        c if c > 0.5 => {
            "Differences of words are directions: the one from he to she is much the same for a king and for a man. \
             No single number of a vector means she."
        }
        _ => "With these settings he and she are no direction: the vectors are too short, or saw too little text.",
    });
    part.remark(
        "In vectors of large texts the nearest word is often one of the three given ones, so it is usual to leave \
         these out (Linzen 2016).",
    );

    let part = solution.part("Why a matrix for centers and another for contexts?");
    let scores =
        |learnt: &Learnt<'_>| (0..corpus.words.len()).map(|w| learnt.embeddings.self_score(w)).collect::<Vec<f64>>();
    let (apart, tied) = (scores(&two), scores(&one));
    let negative = |scores: &[f64]| scores.iter().filter(|s| **s < 0.0).count();
    let king = two.number("king")?;
    part.number("self_king", "king as context of itself, two matrices", "v . u", apart[king]);
    part.number("self_king_tied", "the same, one matrix", "v . v = |v|^2", tied[king]);
    part.number("probable_king", "so taken for a pair with a chance of", "sigmoid(v . u)", sigmoid(apart[king]));
    part.number("probable_king_tied", "the same, one matrix", "sigmoid(v . v)", sigmoid(tied[king]));
    let count = corpus.pairs(training.window).iter().filter(|(a, b)| *a == king && *b == king).count();
    part.number("pairs_king", "pairs of king with king in the text", "", count as f64);
    part.number("negative", "words with a score of themselves below 0", "two matrices", negative(&apart) as f64);
    part.number("negative_tied", "the same, one matrix", "never: a square", negative(&tied) as f64);
    part.number(
        "lowest_tied",
        "lowest score of a word and itself",
        "one matrix",
        tied.iter().copied().fold(f64::INFINITY, f64::min),
    );
    let last = |learnt: &Learnt<'_>| learnt.embeddings.losses.last().copied().unwrap_or(0.0);
    part.number("loss_tied", "loss in the last pass, one matrix", "", last(&one));
    part.add(neighbours(
        "analogy_tied",
        "king - man + woman, one matrix",
        "",
        &one.nearest(&one.question()?, &GIVEN, 3),
    ));
    let asked_tied = analogies(&corpus, &one.embeddings);
    let right = format!("{} of {}", asked_tied.right, asked_tied.asked);
    part.add(
        Step::number(
            "analogies_tied",
            "analogies right, one matrix",
            right.clone(),
            share(asked_tied.right, asked_tied.asked),
        )
        .shown(right),
    );
    part.remark(
        "With one matrix a word has to predict itself with a chance of at least one half, whatever the text says.",
    );

    if 2 * asked_tied.right > asked_tied.asked {
        part.remark(
            "The analogies do not need the second matrix: they are answered by directions among words, which one \
             matrix has too. What it cannot have is a low score of a word with itself.",
        );
    }
    Ok(solution)
}

fn share(of: usize, all: usize) -> f64 {
    of as f64 / all.max(1) as f64
}

/// The people on the plane of man, woman and king: to the right towards woman, upwards towards king.
fn figure(learnt: &Learnt<'_>) -> Result<Plot> {
    let man = learnt.vector("man")?;
    let across = unit(&difference(&learnt.vector("woman")?, &man));
    let towards_king = difference(&learnt.vector("king")?, &man);
    let share = dot(&towards_king, &across);
    let rest: Vec<f64> = towards_king.iter().zip(&across).map(|(k, a)| k - share * a).collect();
    let up = unit(&rest);
    let mut plot = Plot::new(
        "Eight people in the plane of man, woman and king",
        Axis::linear("from man towards woman"),
        Axis::linear("towards king, at a right angle to that"),
    );
    let names = ["royal, old", "old", "royal, young", "young"];
    for (pair, name) in PEOPLE.chunks(2).zip(names) {
        let mut points = Vec::new();
        for person in pair {
            let place = difference(&learnt.vector(person.word)?, &man);
            points.push([dot(&place, &across), dot(&place, &up)]);
        }
        let labels = pair.iter().map(|p| p.word.to_string()).collect();
        plot.series.push(Series::trace(name, points).labelled(labels));
    }
    plot.true_angles = true;
    Ok(plot)
}
