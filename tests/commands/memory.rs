//! What a start reports about memory, and what it keeps for the next start.

use std::fs;
use std::path::PathBuf;

use xxhash_rust::xxh3::xxh3_64;

use super::*;

/// `run --alone` with a state directory, given `input` and then end of file.
fn node(state: &Path, input: &[u8]) -> Output {
    fed(
        [
            "run".as_ref(),
            "--alone".as_ref(),
            "--model".as_ref(),
            demo().as_os_str(),
            "--state".as_ref(),
            state.as_os_str(),
        ],
        input,
    )
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

fn kept(state: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(state.join("models")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn the_memory_that_is_said_adds_up() {
    let output = run([
        "ask".as_ref(),
        "--model".as_ref(),
        demo().as_os_str(),
        "--max-tokens".as_ref(),
        "1".as_ref(),
        "x".as_ref(),
    ]);
    let said = said(&output);
    let line = said
        .lines()
        .find(|line| line.contains("memory: "))
        .unwrap_or_else(|| panic!("no line about memory: {said}"));
    let numbers: Vec<u64> = line
        .split(|c: char| !c.is_ascii_digit())
        .filter(|word| !word.is_empty())
        .map(|word| word.parse().unwrap())
        .collect();
    let [total, parts @ .., _available] = numbers.as_slice() else { panic!("{line}") };
    let sum: u64 = parts.iter().sum();
    // Each part is rounded up.
    assert!(parts.len() == 7 && sum >= *total && sum - total < parts.len() as u64, "{line}");
}

#[test]
fn what_one_start_worked_out_the_next_one_takes() {
    let state = TempDir::new().unwrap();
    let first = node(state.path(), b"status\n");
    assert!(first.status.success() && said(&first).contains("MB held"), "{}", said(&first));
    let files = kept(state.path());
    assert_eq!(files.len(), 2, "{files:?}");
    let times = |files: &[PathBuf]| {
        files.iter().map(|file| fs::metadata(file).unwrap().modified().unwrap()).collect::<Vec<_>>()
    };
    let made = times(&files);
    let again = node(state.path(), b"ask hello\n");
    assert!(again.status.success(), "{}", said(&again));
    assert_eq!(times(&kept(state.path())), made, "the work was done again");
}

#[test]
fn a_node_whose_model_is_not_what_it_was_ends_and_starts_anew() {
    let state = TempDir::new().unwrap();
    assert!(node(state.path(), b"").status.success());
    let content =
        kept(state.path()).into_iter().find(|file| file.extension().unwrap() == "content").unwrap();
    let line = format!("potluck content 1 {:032x}", 12_345);
    fs::write(&content, format!("{line} {:016x}\n", xxh3_64(line.as_bytes()))).unwrap();

    // Its input never ends, so it does not exit by itself.
    let mut child = potluck();
    child
        .args(["run", "--alone", "--model"])
        .arg(demo())
        .arg("--state")
        .arg(state.path())
        .stdin(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let input = child.stdin.take();
    let output = ended(child);
    drop(input);
    assert_eq!(
        output.status.code(),
        Some(1),
        "it kept running under a wrong fingerprint: {}",
        said(&output)
    );
    assert!(said(&output).contains("the model file is not what it was"), "{}", said(&output));
    assert!(!content.exists(), "the next start would fail as well");
    assert!(node(state.path(), b"").status.success());
}

#[test]
fn a_model_answers_alike_from_packed_tables_that_are_new_old_or_damaged() {
    let state = TempDir::new().unwrap();
    let answer = || {
        String::from_utf8(node(state.path(), b"ask The state of the other side\n").stdout).unwrap()
    };
    let new = answer();
    assert_eq!(answer(), new);
    for file in kept(state.path()) {
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    }
    assert_eq!(answer(), new);
}
