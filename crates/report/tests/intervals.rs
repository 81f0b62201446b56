//! Intervals and tests against scipy and statsmodels (`scripts/fixtures/intervals.py`), and against counting out.

use porism_kernels::Pool;
use porism_report::interval::{
    Resampling, Rows, approximate_randomization, bootstrap, mcnemar, mean, paired_bootstrap, wilson,
};
use serde_json::Value;

fn fixture() -> Value {
    serde_json::from_str(include_str!("fixtures/intervals.json")).expect("the fixture")
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|v| v.as_f64().unwrap_or(f64::NAN)).collect()
}

fn close(ours: f64, theirs: f64) -> bool {
    (ours - theirs).abs() < 1e-10 * theirs.abs().max(1.0)
}

/// The mean of the first statistic.
fn average(sums: &[f64], n: usize) -> f64 {
    sums[0] / n as f64
}

#[test]
fn closed_forms_are_those_of_scipy_and_statsmodels() {
    let fixture = fixture();
    let values = numbers(&fixture["values"]);
    for case in fixture["means"].as_array().expect("cases").iter().map(numbers) {
        let ours = mean(&values, case[0]).expect("an interval");
        assert!(close(ours.low, case[1]) && close(ours.high, case[2]), "{case:?}: {ours:?}");
    }
    for case in fixture["wilson"].as_array().expect("cases").iter().map(numbers) {
        let ours = wilson(case[0] as u64, case[1] as u64, case[2]).expect("an interval");
        assert!(close(ours.low, case[3]) && close(ours.high, case[4]), "{case:?}: {ours:?}");
    }
    for case in fixture["mcnemar"].as_array().expect("cases").iter().map(numbers) {
        let ours = mcnemar(case[0] as u64, case[1] as u64);
        assert!(close(ours.exact, case[2]), "{case:?}: {ours:?}");
        if case[3].is_finite() {
            assert!(close(ours.chi_square, case[3]) && close(ours.approximate, case[4]), "{case:?}: {ours:?}");
        }
    }
    assert_eq!(mcnemar(0, 0).exact, 1.0);
}

#[test]
fn the_bootstrap_comes_to_what_all_resamples_give() {
    let values = [0.0, 1.0, 3.0, 7.0, 20.0];
    // All 5^5 resamples, each as likely.
    let mut means: Vec<f64> = (0..5usize.pow(5))
        .map(|code| (0..5).map(|place| values[code / 5usize.pow(place) % 5]).sum::<f64>() / 5.0)
        .collect();
    means.sort_by(f64::total_cmp);
    let share_below = |bar: f64| means.partition_point(|&m| m < bar) as f64 / means.len() as f64;
    let share_up_to = |bar: f64| means.partition_point(|&m| m <= bar) as f64 / means.len() as f64;
    let rows = Rows::new(&values, 1).expect("rows");
    for level in [0.5, 0.8, 0.95] {
        let how = Resampling { resamples: 40_000, level, ..Resampling::default() };
        let interval = bootstrap(rows, how, &Pool::new(2), &average).expect("an interval");
        // The ends are quantiles of the discrete distribution: give or take four standard errors of a share.
        for (end, share) in [(interval.low, (1.0 - level) / 2.0), (interval.high, (1.0 + level) / 2.0)] {
            assert!(share_below(end) < share + 0.01 && share_up_to(end) > share - 0.01, "{level}: {interval:?}");
        }
        assert_eq!(interval, bootstrap(rows, how, &Pool::new(1), &average).expect("the same"));
        let other = bootstrap(rows, Resampling { seed: 1, ..how }, &Pool::new(1), &average).expect("another");
        assert!((other.low - interval.low).abs() < 1.0 && (other.high - interval.high).abs() < 1.0);
    }
}

#[test]
fn approximate_randomization_comes_to_what_all_swaps_give() {
    let first = [3.0, 5.0, 1.0, 4.0, 2.0, 6.0, 3.0, 5.0];
    for shift in [0.0, 0.4, 1.0] {
        let second: Vec<f64> = first.iter().enumerate().map(|(i, v)| v + shift + [0.5, -0.75][i % 2]).collect();
        let real: f64 = second.iter().sum::<f64>() - first.iter().sum::<f64>();
        let beyond = (0..1u32 << first.len())
            .filter(|swaps| {
                let signed = |i: usize| (second[i] - first[i]) * if swaps >> i & 1 == 1 { -1.0 } else { 1.0 };
                (0..first.len()).map(signed).sum::<f64>().abs() >= real.abs() - 1e-9
            })
            .count();
        let exact = beyond as f64 / f64::from(1u32 << first.len());
        let how = Resampling { resamples: 40_000, ..Resampling::default() };
        let rows = [Rows::new(&first, 1).expect("rows"), Rows::new(&second, 1).expect("rows")];
        let test = approximate_randomization(rows[0], rows[1], how, &Pool::new(2), &average).expect("a test");
        assert!((test.p - exact).abs() < 0.01, "{test:?}, exactly {exact}");
        assert!((test.difference - real / 8.0).abs() < 1e-12);
    }
}

#[test]
fn a_paired_test_sees_what_two_intervals_do_not() {
    // Items differ much, systems little but always: the second is better on each.
    let first: Vec<f64> = (0..200).map(|i| f64::from(i * 37 % 101)).collect();
    let second: Vec<f64> = first.iter().enumerate().map(|(i, v)| v + 0.5 + (i % 3) as f64 * 0.1).collect();
    let (a, b) = (Rows::new(&first, 1).expect("rows"), Rows::new(&second, 1).expect("rows"));
    let (how, pool) = (Resampling::default(), Pool::new(2));
    let alone = [a, b].map(|rows| bootstrap(rows, how, &pool, &average).expect("an interval"));
    assert!(alone[0].high > alone[1].low);
    let test = paired_bootstrap(a, b, how, &pool, &average).expect("a test");
    let interval = test.interval.expect("an interval");
    assert!(interval.low > 0.5 && interval.high < 0.7 && test.p < 0.002, "{test:?}");
    // The same system twice.
    let none = paired_bootstrap(a, a, how, &pool, &average).expect("a test");
    assert_eq!((none.difference, none.p), (0.0, 1.0));
    assert_eq!(approximate_randomization(a, a, how, &pool, &average).expect("a test").p, 1.0);
}

#[test]
fn what_cannot_be_computed_is_refused() {
    let values = [1.0, 2.0, 3.0];
    let rows = Rows::new(&values, 1).expect("rows");
    let how = |resamples, level| Resampling { resamples, level, seed: 0 };
    let pool = Pool::new(1);
    let messages = [
        (mean(&values[..1], 0.95).map(|_| ()), "needs two"),
        (mean(&values, 1.0).map(|_| ()), "a level of 1"),
        (wilson(3, 2, 0.95).map(|_| ()), "3 successes in 2"),
        (Rows::new(&values, 2).map(|_| ()), "3 numbers make no rows of 2"),
        (Rows::new(&[], 1).map(|_| ()), "0 numbers"),
        (bootstrap(rows, how(0, 0.95), &pool, &average).map(|_| ()), "no resamples"),
        (bootstrap(rows, how(1, 95.0), &pool, &average).map(|_| ()), "a level of 95"),
        (
            paired_bootstrap(rows, Rows::new(&values[..2], 1).expect("rows"), how(9, 0.9), &pool, &average).map(|_| ()),
            "3 items of one system and 2",
        ),
    ];
    for (result, words) in messages {
        let message = result.expect_err(words).to_string();
        assert!(message.contains(words), "{message}");
    }
}
