//! The real default model, fetched once into the shared cache (`PORISM_HOME`, else the user's).

use std::env::var_os;
use std::fs::File;
use std::io::Read;

use porism_hub::{CacheDir, Network, Resolved, Silent, default_model, ensure_default_model, list, resolve, verify};

#[test]
fn the_default_model_is_fetched_once_and_is_what_the_catalogue_says() {
    let (porism, xdg, home) = (var_os("PORISM_HOME"), var_os("XDG_CACHE_HOME"), var_os("HOME"));
    let cache = CacheDir::resolve(porism, xdg, home).unwrap();
    let path = ensure_default_model(&cache, &Network::default(), &mut Silent).unwrap();
    // Reads all of it: the SHA-256 is the catalogue's.
    let entry = default_model();
    assert_eq!(verify(entry.name, &cache, &mut Silent).unwrap(), path);
    let mut magic = [0; 4];
    File::open(&path).unwrap().read_exact(&mut magic).unwrap();
    assert_eq!(&magic, b"GGUF");
    // From now on without a network.
    let offline = Network { offline: true, ..Network::default() };
    assert_eq!(ensure_default_model(&cache, &offline, &mut Silent).unwrap(), path);
    let resolved = resolve(entry.name, &cache, &offline).unwrap();
    assert!(matches!(resolved, Resolved::Present(found) if found == path));
    let installed = list(&cache).unwrap();
    assert!(installed.iter().any(|m| m.name == entry.name && m.bytes == 98_362_432));
}
