//! Split GGUF files: `name-00001-of-00005.gguf` has the metadata and the first tensors, the others hold the rest. The
//! parts say which they are (`split.no`, from 0, and `split.count`); they are opened from the first one.

use std::path::{Path, PathBuf};

use super::Gguf;
use crate::{Error, Result, mapping};

/// More parts than any real file has.
const MOST_PARTS: u32 = 10_000;

/// Opens the other parts of a file that is the first of several, and adds their tensors.
pub(super) fn complete(first: &mut Gguf, path: &Path) -> Result<()> {
    let Some(count) = first.find_u32("split.count")?.filter(|&n| n > 1) else { return Ok(()) };
    let name = first.file.clone();
    if count > MOST_PARTS {
        return Err(Error::invalid(
            &name,
            format!("it claims to be one of {count} parts; {MOST_PARTS} at most are read"),
        ));
    }
    let number = first.get_u32("split.no")?;
    let file = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let own = suffix(number, count);
    let Some(stem) = file.strip_suffix(&own) else {
        return Err(Error::invalid(
            &name,
            format!(
                "it is part {} of {count}, so its name has to end in \"{own}\": the others are found by it",
                number + 1
            ),
        ));
    };
    let part_at = |i: u32| -> PathBuf { path.with_file_name(format!("{stem}{}", suffix(i, count))) };
    if number != 0 {
        let first = part_at(0).display().to_string();
        return Err(Error::invalid(&name, format!("it is part {} of {count}: open the first, {first}", number + 1)));
    }
    for i in 1..count {
        let path = part_at(i);
        if !path.exists() {
            let shown = path.display();
            let problem =
                format!("part {} of {count} is missing: {shown}; fetch it, and leave the parts together", i + 1);
            return Err(Error::invalid(&name, problem));
        }
        let part = Gguf::from_bytes(mapping::map(&path)?, &path.display().to_string())?;
        let (no, of) = (part.get_u32("split.no")?, part.get_u32("split.count")?);
        if (no, of) != (i, count) {
            let problem = format!("it says that it is part {} of {of}, its name part {} of {count}", no + 1, i + 1);
            return Err(Error::invalid(&part.file, problem));
        }
        first.join(part)?;
    }
    let total = first.find_u64("split.tensors.count")?;
    let found = first.header.tensors.len() as u64;
    match total {
        Some(total) if total != found => {
            Err(Error::invalid(&name, format!("its {count} parts have {found} tensors together, not {total}")))
        }
        _ => Ok(()),
    }
}

/// The end of the name of part `number`, counted from 0.
fn suffix(number: u32, count: u32) -> String {
    format!("-{:05}-of-{count:05}.gguf", number + 1)
}
