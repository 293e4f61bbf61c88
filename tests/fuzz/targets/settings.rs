//! `potluck.toml` with any content: it never stops a board, and the values that it shows parse to
//! the same values again. Also a swarm's key.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

use potluck::config::{Config, SwarmKey, TABLE};

fuzz_target!(|data: &[u8]| {
    if let Some(SwarmKey::Drawn(key)) = str::from_utf8(data).ok().and_then(SwarmKey::parse) {
        for text in [SwarmKey::hex(&key), SwarmKey::words(&key)] {
            assert_eq!(SwarmKey::parse(&text), Some(SwarmKey::Drawn(key)), "{text}");
        }
    }
    let folder = Path::new("/boot");
    let (config, problems) = Config::read(data, folder);
    for problem in problems {
        let _ = problem.to_string();
    }
    for key in TABLE.iter().filter(|key| !key.secret) {
        let Some(toml) = key.toml(&config) else { continue };
        assert!(!toml.contains('\n'), "{toml}");
        let (again, problems) = Config::read(format!("{} = {toml}\n", key.name()).as_bytes(), folder);
        assert!(problems.is_empty(), "{} = {toml}: {problems:?}", key.name());
        assert_eq!((key.show)(&again), (key.show)(&config), "{}", key.name());
    }
});
