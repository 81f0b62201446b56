//! Schedules against transformers.

use porism_tune::Schedule;

use super::{FIXTURE, numbers};

#[test]
fn factors_are_those_of_transformers() {
    let rows = FIXTURE["schedules"].as_array().unwrap();
    assert_eq!(rows.len(), 6);
    for row in rows {
        let schedule: Schedule = serde_json::from_value(row["name"].clone()).unwrap();
        let (warmup, total) = (row["warmup"].as_u64().unwrap(), row["total"].as_u64().unwrap());
        for (step, want) in numbers(&row["factors"]).into_iter().enumerate() {
            let got = schedule.factor(step as u64, total, warmup);
            assert!((got - want).abs() < 1e-12, "{schedule:?}, warmup {warmup}, step {step}: {got} and {want}");
        }
    }
}

#[test]
fn odd_lengths_have_factors_too() {
    for schedule in [Schedule::Constant, Schedule::Linear, Schedule::Cosine] {
        // A warmup as long as the run or longer, no step at all, a step beyond the end.
        for (step, total, warmup) in [(0, 0, 0), (3, 3, 3), (5, 3, 8), (9, 3, 0), (u64::MAX, u64::MAX, 0)] {
            let factor = schedule.factor(step, total, warmup);
            assert!((0.0..=1.0).contains(&factor), "{schedule:?} {step} of {total}: {factor}");
        }
    }
}
