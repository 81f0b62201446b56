//! `plan speculate`: what drafts are worth (Leviathan et al. 2023).

use crate::formula::{Symbols, compute};
use crate::{Answer, Error, Result, Unit};

/// What speculation is asked about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speculation {
    /// The share of drafted tokens that the target accepts.
    pub acceptance: f64,
    /// Tokens drafted before each pass of the target.
    pub drafted: u64,
    /// What a token of the draft model costs, of a pass of the target.
    pub cost: f64,
    /// What a pass over the drafted tokens and one more costs, of a pass over one.
    pub check: f64,
}

/// Drafts that are tried when the best length is looked for.
const LONGEST: u64 = 64;

/// Tokens of a pass: accepted drafts and one more.
fn expected(acceptance: f64, drafted: u64) -> f64 {
    (0..=drafted).map(|i| acceptance.powi(i as i32)).sum()
}

/// The answer of `plan speculate`.
///
/// # Errors
/// The numbers are no speculation.
pub fn answer(s: &Speculation) -> Result<Answer> {
    if s.drafted == 0 || s.drafted > 1 << 16 {
        return Err(Error::Range(format!("{} drafted tokens: it has to be from 1 to 65536", s.drafted)));
    }
    if !(s.acceptance > 0.0 && s.acceptance <= 1.0 && s.cost > 0.0 && s.check >= 1.0) {
        return Err(Error::Range(
            "acceptance has to be above 0 and at most 1, the cost above 0, the check at least 1".into(),
        ));
    }
    let mut answer = Answer::new("speculative decoding");
    answer.give("a", "share of drafts accepted", s.acceptance);
    answer.give("y", "tokens drafted", s.drafted);
    answer.give("c", "cost of a draft token, of a pass", s.cost);
    answer.give("q", "cost of a pass over y + 1 tokens", s.check);
    let symbols = Symbols::new().with("a", s.acceptance).with("y", s.drafted).with("c", s.cost).with("q", s.check);
    let tokens = if s.acceptance < 1.0 { "(1 - a^(y + 1)) / (1 - a)" } else { "y + 1" };

    let part = answer.part("each pass of the target");
    part.line("tokens", "tokens, expected", tokens, &symbols, Unit::Number("tokens"))?;
    part.line("cost", "cost, in passes", "y * c + q", &symbols, Unit::Number(""))?;
    let speedup = format!("({tokens}) / (y * c + q)");
    let gain = part.line("speedup", "speed, of decoding without", &speedup, &symbols, Unit::Number("x"))?;

    let at = |drafted: u64| expected(s.acceptance, drafted) / (drafted as f64 * s.cost + s.check);
    let best = (1..=LONGEST).max_by(|&a, &b| at(a).total_cmp(&at(b))).unwrap_or(1);
    let part = answer.part("the best length of a draft");
    part.known("best_drafted", "tokens drafted", best, Unit::Count("tokens"));
    part.line(
        "best_speedup",
        "speed, of decoding without",
        &speedup,
        &symbols.clone().with("y", best),
        Unit::Number("x"),
    )?;
    // Where one token drafted is worth its cost: 1 + a > c + q.
    part.line("least_acceptance", "acceptance that pays, y = 1", "c + q - 1", &symbols, Unit::Number(""))?;

    let pays = at(best) > 1.0;
    if !pays {
        answer.note("it does not pay at any length: the draft costs more than the tokens that are accepted save");
    } else if gain.real() <= 1.0 {
        answer.note(format!("{} drafted tokens do not pay; {best} do", s.drafted));
    }
    answer.note("tokens with p_target >= p_draft are always accepted, others with probability p_target / p_draft");
    if s.check == 1.0 {
        answer.note(
            "a pass over several tokens is taken to cost as much as over one, as where reading weights is the bound",
        );
    }
    Ok(answer)
}

/// The cost of a draft model's token, of a target's pass, where both are bound by reading their weights.
///
/// # Errors
/// The target has no bytes.
pub fn cost(draft_bytes: u64, target_bytes: u64) -> Result<f64> {
    let symbols = Symbols::new().with("draft", draft_bytes).with("target", target_bytes);
    compute("draft / target", &symbols).map(|c| c.value.real())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(answer: &Answer, key: &str) -> f64 {
        answer.find(key).unwrap_or_else(|| panic!("{key}")).value.real()
    }

    const USUAL: Speculation = Speculation { acceptance: 0.8, drafted: 5, cost: 0.05, check: 1.0 };

    #[test]
    fn drafts_are_worth_what_the_paper_says() {
        // Leviathan et al. 2023, equation 1 and theorem 3.8.
        let answer = answer(&USUAL).expect("an answer");
        assert!((value(&answer, "tokens") - (1.0 - 0.8f64.powi(6)) / 0.2).abs() < 1e-12);
        assert!((value(&answer, "speedup") - 3.689_28 / 1.25).abs() < 1e-4);
        assert!(value(&answer, "best_speedup") >= value(&answer, "speedup"));
        let all = super::answer(&Speculation { acceptance: 1.0, ..USUAL }).expect("an answer");
        assert_eq!(value(&all, "tokens"), 6.0);
    }

    #[test]
    fn it_is_said_when_drafts_do_not_pay() {
        let dear = answer(&Speculation { acceptance: 0.3, cost: 0.5, ..USUAL }).expect("an answer");
        assert!(dear.notes[0].contains("does not pay at any length"), "{:?}", dear.notes);
        let long = answer(&Speculation { acceptance: 0.5, cost: 0.3, drafted: 8, ..USUAL }).expect("an answer");
        assert!(long.notes[0].contains("8 drafted tokens do not pay; 1 do"), "{:?}", long.notes);
        assert!(answer(&Speculation { drafted: 0, ..USUAL }).is_err());
        assert!(answer(&Speculation { acceptance: 1.2, ..USUAL }).is_err());
    }

    proptest::proptest! {
        #[test]
        fn a_draft_pays_if_and_only_if_it_is_accepted_more_often_than_it_costs(a in 0.01f64..0.99, c in 0.01f64..0.99) {
            let answer = answer(&Speculation { acceptance: a, cost: c, drafted: 1, check: 1.0 }).expect("an answer");
            proptest::prop_assert_eq!(value(&answer, "speedup") > 1.0, a > c);
        }
    }
}
