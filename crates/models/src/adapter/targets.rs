//! Which projections to adapt, by the names that PEFT takes.

use super::base::Base;
use super::problem;
use crate::Result;
use crate::site::Site;

/// The word for every projection but the head.
pub const ALL_LINEAR: &str = "all-linear";

/// The sites of modules by name: whole paths or their last parts (`q_proj`, `mlp.down_proj`), or [`ALL_LINEAR`]. A module that
/// holds several projections (`qkv_proj`) stands for all of them. In the order of a forward pass, each once.
///
/// # Errors
/// A name means no projection of the model; the message lists those that there are.
pub fn targets(base: &Base<'_>, names: &[impl AsRef<str>]) -> Result<Vec<Site>> {
    let modules = base.modules();
    let means =
        |name: &str, path: &str| path.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    let chosen = |name: &str, (path, sites): &(String, Vec<Site>)| match name {
        ALL_LINEAR => *sites != [Site::Head],
        _ => means(name, path),
    };
    for name in names.iter().map(AsRef::as_ref) {
        if name.is_empty() || !modules.iter().any(|module| chosen(name, module)) {
            return Err(unknown(name, &modules));
        }
    }
    let wanted = modules.iter().filter(|module| names.iter().any(|name| chosen(name.as_ref(), module)));
    let sites: Vec<Site> = wanted.flat_map(|(_, sites)| sites.iter().copied()).collect();
    if sites.is_empty() { Err(unknown("", &modules)) } else { Ok(sites) }
}

fn unknown(name: &str, modules: &[(String, Vec<Site>)]) -> crate::Error {
    let mut there: Vec<&str> = Vec::new();
    for last in modules.iter().filter_map(|(path, _)| path.rsplit('.').next()) {
        if !there.contains(&last) {
            there.push(last);
        }
    }
    let there = there.join(", ");
    let shown: String = name.chars().take(60).collect();
    problem(
        "targets",
        format!("no projection is called \"{}\"; there are {there}, and {ALL_LINEAR}", shown.escape_debug()),
    )
}
