//! Paged state, as the system sees it.

use porism_ops::OpContext;
use porism_tune::optimizer::{Optimizer, OptimizerKind, StateStorage};

use super::tensors;

#[test]
fn a_folder_that_is_not_there_is_named() {
    let storage = StateStorage::Paged("/no/such/folder".into());
    let error = Optimizer::new(&OpContext::new(1), OptimizerKind::ADAMW, tensors(&[4]), &storage).unwrap_err();
    assert!(error.to_string().contains("/no/such/folder"), "{error}");
}

/// The figures, in kB, that Linux has of the maps of files in this folder, and whether they are shared.
#[cfg(target_os = "linux")]
fn smaps(folder: &std::path::Path) -> Vec<(bool, std::collections::HashMap<String, u64>)> {
    let mut maps = Vec::new();
    let mut inside = false;
    for line in std::fs::read_to_string("/proc/self/smaps").unwrap().lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words[0].contains('-') && !words[0].ends_with(':') {
            inside = line.contains(folder.to_str().unwrap());
            if inside {
                maps.push((words[1].ends_with('s'), std::collections::HashMap::new()));
            }
        } else if let (true, Some((_, figures)), [key, value, "kB"]) = (inside, maps.last_mut(), &words[..]) {
            figures.insert(key.trim_end_matches(':').to_owned(), value.parse().unwrap());
        }
    }
    maps
}

#[cfg(target_os = "linux")]
#[test]
fn the_state_is_the_files_and_not_the_processs() {
    const LENGTH: usize = 1 << 20;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let storage = StateStorage::Paged(folder.path().to_owned());
    let mut optimizer =
        Optimizer::new(&OpContext::new(2), OptimizerKind::ADAMW, tensors(&[LENGTH, LENGTH]), &storage).unwrap();
    assert_eq!(optimizer.state_bytes(), 16 << 20);
    let (mut values, gradient) = (vec![0.0; LENGTH], vec![1.0; LENGTH]);
    for _ in 0..2 {
        for index in 0..2 {
            optimizer.step(index, &mut values, &gradient, 1e-3, 0.0).unwrap();
            let maps = smaps(folder.path());
            let [(shared, figures)] = &maps[..] else { panic!("{maps:?}") };
            assert!(shared);
            assert_eq!(figures["Size"], 16 << 10);
            assert_eq!(figures["Anonymous"], 0);
            // The pages of the step were given back.
            assert_eq!(figures["Rss"], 0);
        }
    }
    // A file without a name, which is gone with the map.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    drop(optimizer);
    assert_eq!(smaps(folder.path()).len(), 0);
}
