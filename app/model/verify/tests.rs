//! The golden model passes, and the faults that verification is for are detected.

use std::path::Path;

use super::*;

fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/gemma3-tiny")
}

fn run(dir: &Path) -> Result<VerifyReport, VerifyError> {
    let scratch = tempfile::tempdir().unwrap();
    let report = Scratch::new(scratch.path())
        .map_err(VerifyError::from)
        .and_then(|scratch| verify(dir, &scratch, &mut |_| {}));
    assert_eq!(
        fs::read_dir(scratch.path()).unwrap().count(),
        0,
        "converted files were left behind"
    );
    report
}

/// A copy of the golden directory in which `edit` has changed the bytes of the file `name`.
fn bent(name: &str, edit: impl FnOnce(Vec<u8>) -> Vec<u8>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors", "golden.safetensors"] {
        fs::copy(golden_dir().join(file), dir.path().join(file)).unwrap();
    }
    let bytes = edit(fs::read(golden_dir().join(name)).unwrap());
    fs::remove_file(dir.path().join(name)).unwrap();
    fs::write(dir.path().join(name), bytes).unwrap();
    dir
}

#[test]
fn the_golden_model_is_verified_through_converted_files() {
    let report = run(&golden_dir()).unwrap();
    assert!(report.passed, "{report}");
    assert!(report.q8_float.is_some() && report.float.greedy_tokens > 100);
    assert!(report.int8.mean_kl <= 1.2e-2 && report.int8.argmax_agreement >= 0.78, "{report}");
    assert!(report.float_handover.splits > 60 && report.int8_handover.splits > 60, "{report}");
    assert!(report.to_string().ends_with("verified"));

    // One each for logits and KV bytes, in both arithmetics: all distinct, and the same on every
    // run and with every instruction set (tests/bits.rs pins such digests, and
    // tools/firmware-check.sh compares the board's binary with this machine's).
    let again = run(&golden_dir()).unwrap();
    assert_eq!(
        (&report.float_digests, &report.int8_digests),
        (&again.float_digests, &again.int8_digests)
    );
    let Digests { logits, kv } = &report.float_digests;
    let all = [logits, kv, &report.int8_digests.logits, &report.int8_digests.kv];
    assert!(
        all.iter().enumerate().all(|(i, one)| one.len() == 32 && !all[..i].contains(one)),
        "{all:?}"
    );
}

#[test]
fn a_model_whose_logits_are_not_the_golden_ones_fails() {
    let wrong_window = bent("config.json", |bytes| {
        String::from_utf8(bytes)
            .unwrap()
            .replace("\"sliding_window\": 32", "\"sliding_window\": 31")
            .into_bytes()
    });
    let report = run(wrong_window.path()).unwrap();
    assert!(!report.passed && report.to_string().ends_with("not verified"));
    assert!(report.failures[0].starts_with("f32: a logit is off by "), "{report}");
    assert!(
        report.failures.iter().all(|failure| !failure.contains("a hit differs")),
        "reuse must still be exact: {report}"
    );
}

#[test]
fn a_directory_that_cannot_be_verified_says_why() {
    let line = |dir: &tempfile::TempDir| run(dir.path()).unwrap_err().to_string();
    let truncated = bent("golden.safetensors", |bytes| bytes[..bytes.len() / 2].to_vec());
    assert!(
        line(&truncated)
            .contains("golden.safetensors: damaged: its tensors do not fill it exactly")
    );
    let foreign =
        bent("golden.safetensors", |_| fs::read(golden_dir().join("model.safetensors")).unwrap());
    assert!(line(&foreign).contains("it has no ids_0"));
    let missing = bent("config.json", |bytes| bytes);
    fs::remove_file(missing.path().join("golden.safetensors")).unwrap();
    assert!(line(&missing).contains("golden.safetensors: cannot be read"));
}
