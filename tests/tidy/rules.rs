//! The checkers: each turns the text of one file into complaints that say where, what, and
//! how to fix it.

use super::house::{
    DOORS, HOSTS, OTHERS_NAMES, PRIVATE_PATHS, PURE_DEPENDENCIES, ROOMS, TOO_LONG, UNFINISHED,
    UNSAFE,
};
use super::paths::{Path, paths};

/// Complaints about one file; none when it is tidy.
pub type Complaints = Vec<String>;

/// The room that a source file belongs to: `app/kv/shape.rs` and `app/kv.rs` both belong to `kv`.
pub fn room_of(file: &str) -> Option<&str> {
    let inside = file.strip_prefix("app/")?;
    let room = inside.split('/').next()?;
    Some(room.strip_suffix(".rs").unwrap_or(room))
}

/// Rooms name only the rooms that they may depend on, and only their own external paths. (Tests may
/// use all of `std`.)
pub fn edges(file: &str, source: &str, submodules: &[String]) -> Complaints {
    let Some(room) = room_of(file).filter(|&room| room != "lib") else { return Vec::new() };
    let Some((_, may_use)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return vec![format!(
            "{file}: the room `{room}` is new; list what it may depend on in tests/tidy/house.rs and ARCHITECTURE.md"
        )];
    };
    let mut out = Vec::new();
    for Path { line, in_test, segments } in paths(source) {
        if let Some(other) = named_room(room, &segments, submodules)
            .filter(|other| *other != room && !may_use.contains(other))
        {
            out.push(format!(
                "{file}:{line}: `{room}` names `{other}`, but may depend only on {may_use:?}; \
                 move what they share to `kv` or `id`, or let `node` join them"
            ));
        }
        for (door, rooms) in DOORS {
            let door_segments: Vec<&str> = door.split("::").collect();
            let spared = door_segments[0] == "std" && (in_test || file.ends_with("tests.rs"));
            if segments.starts_with(&door_segments) && !rooms.contains(&room) && !spared {
                out.push(format!(
                    "{file}:{line}: `{room}` names `{door}`, which belongs to {rooms:?}; pass the value in instead"
                ));
            }
        }
    }
    out
}

/// The room that a path leads to, if any: by `crate::`, by `potluck::`, or by `super::` out of
/// its own room.
fn named_room<'a>(room: &str, segments: &[&'a str], submodules: &[String]) -> Option<&'a str> {
    let is_room = |name: &str| ROOMS.iter().any(|(known, _)| *known == name);
    match segments {
        ["crate", name, ..] if room != "main" => Some(*name).filter(|name| is_room(name)),
        ["potluck", name, ..] => Some(*name).filter(|name| is_room(name)),
        ["super", rest @ ..] => {
            let name = rest.iter().find(|name| **name != "super")?;
            Some(*name).filter(|name| is_room(name) && !submodules.iter().any(|own| own == name))
        }
        _ => None,
    }
}

/// The compiler denies `unsafe`; only some files may allow it.
pub fn allowed_unsafe(file: &str, source: &str) -> Complaints {
    let allows = |line: &str| line.contains("unsafe_code") && !line.contains("deny(unsafe_code");
    let lines = source
        .lines()
        .enumerate()
        .filter(|(_, line)| allows(line) && !UNSAFE.iter().any(|place| file.starts_with(place)));
    lines
        .map(|(at, _)| {
            format!(
                "{file}:{}: `unsafe` is allowed only in {UNSAFE:?}; call a safe function there",
                at + 1
            )
        })
        .collect()
}

/// Phrases that mark unfinished work, comments included.
pub fn unfinished(file: &str, source: &str) -> Complaints {
    let named = |line: &str| {
        OTHERS_NAMES.iter().fold(line.to_string(), |line, name| line.replace(name, ""))
    };
    let phrase =
        |line: &str| UNFINISHED.iter().find(|phrase| named(line).contains(**phrase)).copied();
    let found = source.lines().enumerate().filter_map(|(at, line)| Some((at + 1, phrase(line)?)));
    found
        .map(|(line, phrase)| {
            format!("{file}:{line}: \"{phrase}\": finish it, or track what is left elsewhere and remove it")
        })
        .collect()
}

/// A file opens with its purpose, and fits in the head.
pub fn shape(file: &str, source: &str) -> Complaints {
    let mut out = Vec::new();
    if !source.starts_with("//! ") {
        out.push(format!(
            "{file}: opens without `//!`; begin with what the file is for and what it promises"
        ));
    }
    let lines = source.lines().count();
    if lines > TOO_LONG {
        out.push(format!(
            "{file}: {lines} lines, at most {TOO_LONG} allowed; should it be two files?"
        ));
    }
    if source.contains(concat!("#[", "ignore")) {
        out.push(format!("{file}: contains a test that never runs; enable or remove it"));
    }
    out
}

/// Every limit gives its reason.
pub fn limits(file: &str, source: &str) -> Complaints {
    let mut reason = false;
    let mut out = Vec::new();
    for (at, line) in source.lines().enumerate() {
        let name = line
            .trim_start_matches("pub ")
            .trim_start_matches("pub(crate) ")
            .strip_prefix("const ")
            .and_then(|rest| rest.split(':').next());
        if let Some(name) = name.filter(|name| *name != "_" && !reason) {
            out.push(format!(
                "{file}:{}: {name} gives no reason; say above it why it has this value",
                at + 1
            ));
        }
        reason = line.starts_with("/// ") || (reason && line.starts_with('#'));
    }
    out
}

/// Targets of the relative links in a Markdown text, without their anchors.
pub fn relative_links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    let files = targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:"));
    files
        .filter_map(|target| target.split('#').next())
        .filter(|target| !target.is_empty())
        .collect()
}

/// Finds paths of one machine, and hosts that the project does not point to.
pub fn places(file: &str, text: &str) -> Complaints {
    let mut out = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let at = at + 1;
        if let Some(path) = PRIVATE_PATHS.iter().find(|path| line.contains(**path)) {
            out.push(format!(
                "{file}:{at}: names {path}, which exists on one machine only; use a relative path"
            ));
        }
        // `file://NAME` names no host: bitbake recipes name the files beside them this way.
        for rest in line.replace("file://", "").split("://").skip(1) {
            let host = rest
                .split(|c: char| !(c.is_ascii_alphanumeric() || ".-".contains(c)))
                .next()
                .unwrap_or_default();
            if host.contains('.') && !HOSTS.contains(&host.trim_end_matches('.')) {
                out.push(format!("{file}:{at}: points to {host}; use a host that every reader can reach, or add it to HOSTS"));
            }
        }
    }
    out
}

/// The pure core stays pure: Cargo.toml's non-optional dependencies are on the list, and every
/// optional dependency is enabled by a feature.
pub fn manifest(text: &str) -> Complaints {
    let mut section = "";
    let mut out = Vec::new();
    let mut optional = Vec::new();
    let mut awaited = Vec::new();
    for line in text.lines() {
        if line.starts_with('[') {
            section = line;
        }
        let Some((name, value)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) else {
            continue;
        };
        match section {
            "[dependencies]" if value.contains("optional = true") => optional.push(name),
            "[dependencies]" if !PURE_DEPENDENCIES.contains(&name) => out.push(format!(
                "Cargo.toml: {name} would enter the pure core; make it optional and let the feature `model` or `net` enable it"
            )),
            "[features]" => awaited.extend(value.split('"').filter_map(|word| word.strip_prefix("dep:"))),
            _ => {}
        }
    }
    if optional.is_empty() {
        out.push("Cargo.toml: no optional dependency found; tests/tidy/rules.rs no longer parses the manifest".into());
    }
    let lost = optional.iter().filter(|name| !awaited.contains(*name));
    out.extend(lost.map(|name| {
        format!("Cargo.toml: no feature asks for {name}; add `dep:{name}` to one or remove it")
    }));
    out
}
