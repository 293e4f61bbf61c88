//! The house rules, checked on the repository's files. A violation breaks no answer today; it
//! breaks the reasons to trust tomorrow's answers. The tables are in tests/tidy/house.rs.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

mod house;
mod paths;
mod rules;
mod samples;

use rules::Complaints;

/// Every text file that git tracks or would add, by its path from the root.
fn files() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listed = Command::new("git")
        .current_dir(root)
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .output();
    let names: Vec<String> = match listed {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
        }
        _ => walk(root, PathBuf::new()),
    };
    let texts = names
        .into_iter()
        .filter_map(|name| Some((name.clone(), fs::read_to_string(root.join(name)).ok()?)));
    texts.filter(|(name, _)| !name.starts_with("tests/data/") && !name.ends_with(".lock")).collect()
}

/// The files below `folder`, for a copy that is not a git checkout.
fn walk(root: &Path, folder: PathBuf) -> Vec<String> {
    let entries = fs::read_dir(root.join(&folder)).into_iter().flatten().flatten();
    let visited =
        entries.filter(|entry| entry.file_name() != "target" && entry.file_name() != ".git");
    let below = visited.map(|entry| {
        (folder.join(entry.file_name()), entry.file_type().is_ok_and(|kind| kind.is_dir()))
    });
    below
        .flat_map(
            |(path, is_dir)| {
                if is_dir { walk(root, path) } else { vec![path.display().to_string()] }
            },
        )
        .collect()
}

/// Runs `rule` over the files that `wanted` picks. There must be at least one, or the rule has
/// lost its target.
fn keep(wanted: impl Fn(&str) -> bool, rule: impl Fn(&str, &str) -> Complaints) {
    let files = files();
    let picked: Vec<_> = files.iter().filter(|(name, _)| wanted(name)).collect();
    assert!(!picked.is_empty(), "the rule finds no files to check: have they moved?");
    let complaints: Complaints =
        picked.into_iter().flat_map(|(name, text)| rule(name, text)).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn app(file: &str) -> bool {
    file.starts_with("app/") && file.ends_with(".rs")
}

fn sources(file: &str) -> bool {
    app(file) || (file.starts_with("tests/") && file.ends_with(".rs"))
}

#[test]
fn rooms_know_only_the_rooms_and_crates_that_they_may() {
    let files = files();
    let submodules = |room: Option<&str>| -> Vec<String> {
        let inside = files.keys().filter(|name| app(name) && rules::room_of(name) == room);
        inside.filter_map(|name| Some(Path::new(name).file_stem()?.to_str()?.to_owned())).collect()
    };
    keep(app, |file, source| rules::edges(file, source, &submodules(rules::room_of(file))));
}

#[test]
fn only_arithmetic_and_mapped_files_may_be_unsafe() {
    // The samples of this rule are exempt.
    keep(|file| sources(file) && !file.starts_with("tests/tidy/"), rules::allowed_unsafe);
}

#[test]
fn nothing_is_left_unfinished() {
    let built = |file: &str| {
        ["app/", "tests/", "buildroot/", "yocto-layer/", "Makefile"]
            .iter()
            .any(|at| file.starts_with(at))
    };
    keep(built, rules::unfinished);
}

#[test]
fn every_file_says_what_it_is_for_and_fits_in_the_head() {
    keep(sources, rules::shape);
    let long = files()
        .into_iter()
        .filter(|(name, text)| sources(name) && text.lines().count() > house::LONG);
    for (name, text) in long {
        // Bypasses libtest's capture, because this is advice and not a failure.
        let _ = writeln!(
            std::io::stderr(),
            "note: {name} has {} lines: should it be two files?",
            text.lines().count()
        );
    }
}

#[test]
fn every_limit_says_its_reason() {
    keep(|file| file.starts_with("app/limits"), rules::limits);
}

#[test]
fn every_relative_link_of_the_documents_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    keep(
        |file| file.ends_with(".md"),
        |file, text| {
            let folder = root.join(file).parent().map(Path::to_path_buf).unwrap_or_default();
            let broken = rules::relative_links(text)
                .into_iter()
                .filter(|target| !folder.join(target).exists());
            broken
                .map(|target| format!("{file}: the link to {target} is broken; fix or remove it"))
                .collect()
        },
    );
}

#[test]
fn the_code_map_of_the_architecture_names_every_room() {
    let map = files().remove("ARCHITECTURE.md").unwrap_or_default();
    keep(app, |file, _| {
        let room = rules::room_of(file).unwrap_or_default();
        let named = room == "lib" || map.contains(&format!("`{room}`"));
        if named {
            Vec::new()
        } else {
            vec![format!("{file}: ARCHITECTURE.md has no line for the room `{room}`; add one")]
        }
    });
}

#[test]
fn files_name_no_machine_of_ours_and_no_unknown_host() {
    keep(|_| true, rules::places);
}

#[test]
fn the_pure_core_depends_on_neither_burn_nor_smol() {
    keep(|file| file == "Cargo.toml", |_, text| rules::manifest(text));
}

#[test]
fn cargo_fetches_from_its_own_registry_wherever_the_clone_lies() {
    keep(
        |file| file == ".cargo/config.toml",
        |file, text| {
            let diverts = |line: &&str| {
                line.starts_with("[source")
                    || line.starts_with("[registries")
                    || line.starts_with("[net")
            };
            let found = text.lines().filter(diverts);
            found
                .map(|line| format!("{file}: {line} belongs in a machine's own configuration, not in the project's"))
                .collect()
        },
    );
}
