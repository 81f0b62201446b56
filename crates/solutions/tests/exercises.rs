//! What holds for every exercise: keys are unique, figures can be drawn, and every setting does something, at both ends
//! of its range too.

use porism_solutions::{Comparison, Exercise, Solution, Value, all};

fn with(exercise: &Exercise, set: &[String]) -> Solution {
    let mut settings = exercise.defaults();
    set.iter().for_each(|text| settings.set(text).unwrap_or_else(|e| panic!("{}: {e}", exercise.section)));
    exercise.solve(&settings).unwrap_or_else(|e| panic!("{} with {set:?}: {e}", exercise.section))
}

fn sound(exercise: &Exercise, solution: &Solution, set: &[String]) {
    let mut keys: Vec<&str> = solution.steps().map(|s| s.key.as_str()).collect();
    keys.sort_unstable();
    let count = keys.len();
    keys.dedup();
    assert_eq!(keys.len(), count, "{}: a key stands twice", exercise.section);
    assert!(solution.parts.iter().all(|p| !p.question.is_empty() && !p.steps.is_empty()), "{}", exercise.section);
    let svg = solution.figure.svg().unwrap_or_else(|e| panic!("{} with {set:?}: {e}", exercise.section));
    assert!(svg.ends_with("</svg>\n"));
}

#[test]
fn every_exercise_is_sound() {
    assert_eq!(all().count(), 10);
    for exercise in all() {
        let solution = with(exercise, &[]);
        sound(exercise, &solution, &[]);
        for step in solution.steps() {
            let numbers = match &step.value {
                Value::Number(x) => vec![*x],
                Value::Numbers(xs) => xs.clone(),
            };
            // What overflows and what is no number is shown on purpose in one exercise.
            let finite = numbers.iter().all(|x| x.is_finite());
            assert!(finite || exercise.section == "III.IV", "{} {}: {numbers:?}", exercise.section, step.key);
        }
        assert_eq!(with(exercise, &[]).parts, solution.parts, "{} is not reproducible", exercise.section);
    }
}

/// Texts are trained in seconds; their extremes are left to the shorter exercises.
fn is_quick(exercise: &Exercise) -> bool {
    exercise.section != "I.5.1"
}

#[test]
fn every_setting_changes_something() {
    for exercise in all() {
        let before = with(exercise, &[]);
        for setting in exercise.settings {
            // Towards whichever end is further from the default.
            let nudged = match setting.whole {
                true if setting.default >= 100.0 => (setting.default * 1.5).floor().min(setting.high),
                true if setting.default + 1.0 <= setting.high => setting.default + 1.0,
                true => setting.default - 1.0,
                false if setting.default == 0.0 => (setting.high * 0.1).min(0.3),
                false => (setting.default * 1.3).min(setting.high),
            };
            let nudged = match (setting.name, nudged) {
                // Heads have to divide the width.
                ("heads", _) if exercise.section == "I.6.4" => 8.0,
                ("width", _) if exercise.section == "I.6.4" => 320.0,
                // The output has a zero in the third decimal.
                ("decimals", _) => 5.0,
                (_, n) if n == setting.default => setting.default * 0.7,
                (_, n) => n,
            };
            let set = [format!("{}={nudged}", setting.name)];
            let after = with(exercise, &set);
            sound(exercise, &after, &set);
            let both = Comparison::of(&before, &after, ["before", "after"]);
            let changed = both.parts.iter().flat_map(|(_, steps)| steps).any(|s| s.differs);
            assert!(changed, "{}: {set:?} changes nothing", exercise.section);
            both.figure.svg().unwrap_or_else(|e| panic!("{} with {set:?}: {e}", exercise.section));
        }
    }
}

#[test]
fn the_ends_of_every_range_can_be_solved() {
    for exercise in all().filter(|e| is_quick(e)) {
        for setting in exercise.settings {
            for end in [setting.low, setting.high] {
                let set = [format!("{}={end}", setting.name)];
                let mut settings = exercise.defaults();
                settings.set(&set[0]).expect("a setting");
                match exercise.solve(&settings) {
                    Ok(solution) => sound(exercise, &solution, &set),
                    // Numbers that do not go together are refused in words.
                    Err(error) => {
                        assert!(error.to_string().contains("set "), "{} with {set:?}: {error}", exercise.section)
                    }
                }
            }
        }
    }
}
