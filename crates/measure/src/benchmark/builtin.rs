//! The tasks that come with the program.

use super::task::Task;
use crate::Result;

/// Names and files, in the order of the book.
const FILES: [(&str, &str); 11] = [
    ("mmlu", include_str!("tasks/mmlu.toml")),
    ("arc_easy", include_str!("tasks/arc_easy.toml")),
    ("arc_challenge", include_str!("tasks/arc_challenge.toml")),
    ("hellaswag", include_str!("tasks/hellaswag.toml")),
    ("truthfulqa_mc1", include_str!("tasks/truthfulqa_mc1.toml")),
    ("truthfulqa_mc2", include_str!("tasks/truthfulqa_mc2.toml")),
    ("gsm8k", include_str!("tasks/gsm8k.toml")),
    ("gsm8k_cot", include_str!("tasks/gsm8k_cot.toml")),
    ("hendrycks_math", include_str!("tasks/hendrycks_math.toml")),
    ("boolq", include_str!("tasks/boolq.toml")),
    ("openbookqa", include_str!("tasks/openbookqa.toml")),
];

/// The names of the built-in tasks.
pub fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}

/// The file of a built-in task.
pub fn source(name: &str) -> Option<&'static str> {
    FILES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// A built-in task; `None` if there is none of this name.
///
/// # Errors
/// Never, as the tests see to: the files are read as a person's are.
pub fn task(name: &str) -> Option<Result<Task>> {
    source(name).map(|text| Task::parse(&format!("{name}.toml"), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_can_be_read_and_say_their_name() {
        for name in names() {
            assert_eq!(task(name).unwrap().unwrap().name, name);
        }
    }
}
