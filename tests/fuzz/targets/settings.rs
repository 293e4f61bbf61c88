//! `potluck.toml` as anything: it never stops a board, and what it shows of itself is read back as the same.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

use potluck::config::{Config, TABLE};

fuzz_target!(|data: &[u8]| {
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
