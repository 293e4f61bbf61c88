//! Commands that work on files, and the help.

use std::fs;
use std::process::Stdio;

use potluck::tokenizer::Vocabulary;
use safetensors::SafeTensors;

use super::*;

#[test]
fn a_hugging_face_directory_becomes_a_file_of_every_type_that_says_what_it_is_and_answers() {
    let dir = hub(&Vocabulary::synthetic(512, 1));
    let out = tempfile::tempdir().unwrap();
    for (ty, tensors) in [("q8_0", "Q8_0"), ("q4_0", "Q4_0"), ("f16", "F16"), ("f32", "F32")] {
        let file = out.path().join(format!("{ty}.gguf"));
        let said = done(&run([
            OsStr::new("convert"),
            dir.path().as_ref(),
            file.as_ref(),
            "--type".as_ref(),
            ty.as_ref(),
        ]));
        assert!(
            said.starts_with(&file.display().to_string()) && said.contains("80 tensors"),
            "{said}"
        );
        let said = done(&run([OsStr::new("inspect"), file.as_ref()]));
        for part in [
            "6 (1 global, 5 sliding over 32 tokens)",
            "512 tokens, in the file",
            "fingerprint",
            "in all",
            tensors,
        ] {
            assert!(said.contains(part), "{part} in {said}");
        }
        let json: serde_json::Value = serde_json::from_str(&done(&run([
            OsStr::new("inspect"),
            "--json".as_ref(),
            file.as_ref(),
        ])))
        .unwrap();
        assert!(said.contains(json["fingerprint"].as_str().unwrap()), "{said}");
        assert_eq!(json["architecture"], "gemma3");
        assert!(json["tensors"][tensors]["bytes"].as_u64().unwrap() > 0);
        assert!(json["memory"]["weights_bytes"].as_u64() < json["file_bytes"].as_u64());
        let output = ended(
            potluck()
                .args(["ask", "--max-tokens", "3", "hello", "--model"])
                .arg(&file)
                .spawn()
                .unwrap(),
        );
        done(&output);
        assert!(text(&output.stderr).contains("prompt tokens"), "{output:?}");
    }
    assert_eq!(names(out.path()), ["f16.gguf", "f32.gguf", "q4_0.gguf", "q8_0.gguf"]);
}

#[test]
fn a_directory_without_a_tokenizer_is_converted_and_says_what_is_missing() {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("tiny.gguf");
    let output = run([OsStr::new("convert"), golden().as_ref(), file.as_ref()]);
    assert!(
        text(&output.stderr).starts_with("· the directory has no tokenizer.json"),
        "{output:?}"
    );
    assert!(!done(&output).contains("vocabulary"), "notes do not belong in the output");
    let ask = |tokenizer: Option<&Path>| {
        let mut command = potluck();
        command.args(["ask", "--max-tokens", "3", "hello", "--model"]).arg(&file);
        if let Some(path) = tokenizer {
            command.arg("--tokenizer").arg(path);
        }
        ended(command.spawn().unwrap())
    };
    assert!(refused(&ask(None)).contains("holds no vocabulary: give --tokenizer"));
    let beside = out.path().join("tokenizer.json");
    fs::write(&beside, tokenizer_json(&Vocabulary::synthetic(512, 1))).unwrap();
    done(&ask(Some(&beside)));
    fs::write(&beside, tokenizer_json(&Vocabulary::synthetic(700, 1))).unwrap();
    assert!(refused(&ask(Some(&beside))).contains("does not belong to this model"));
}

#[test]
fn the_same_seed_makes_the_same_model_and_another_seed_another() {
    let out = tempfile::tempdir().unwrap();
    let make = |name: &str, seed: &str| {
        let file = out.path().join(name);
        done(&run([OsStr::new("synth"), "--seed".as_ref(), seed.as_ref(), file.as_ref()]));
        fs::read(file).unwrap()
    };
    let one = make("one.gguf", "1");
    assert!(one == fs::read(demo()).unwrap(), "the library's and the command's models differ");
    assert!(one != make("two.gguf", "2"));
    assert_eq!(names(out.path()), ["one.gguf", "two.gguf"]);
}

#[test]
fn the_golden_model_verifies_and_one_wrong_logit_is_found() {
    let scratch = tempfile::tempdir().unwrap();
    let verify = |dir: &Path, json: bool| {
        let mut command = potluck();
        command.arg("verify").arg(dir).args(json.then_some("--json")).env("TMPDIR", scratch.path());
        ended(command.spawn().unwrap())
    };
    let right = verify(&golden(), true);
    let report: serde_json::Value = serde_json::from_str(&done(&right)).unwrap();
    assert_eq!(report["passed"], true, "{report}");
    assert!(right.stderr.is_empty(), "progress is for terminals: {right:?}");

    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(golden().join(file), dir.path().join(file)).unwrap();
    }
    let mut bytes = fs::read(golden().join("golden.safetensors")).unwrap();
    let (head, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let at = 8 + head + metadata.info("logits_2").unwrap().data_offsets.0;
    let logit = f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    bytes[at..at + 4].copy_from_slice(&(logit + 1e-3).to_le_bytes());
    fs::write(dir.path().join("golden.safetensors"), bytes).unwrap();
    let wrong = verify(dir.path(), false);
    assert_eq!(wrong.status.code(), Some(1), "{wrong:?}");
    let said = text(&wrong.stdout);
    assert!(
        said.contains("FAILED: f32: a logit is off by 1.") && said.ends_with("not verified\n"),
        "{said}"
    );
    assert!(names(scratch.path()).is_empty(), "converted files are left behind");
}

#[test]
fn every_command_has_a_help_that_names_its_options() {
    let overview = done(&run(["--help"]));
    let wanted = [
        (
            "run",
            vec!["--model", "--interface", "--port", "--peer", "--json", "--slab", "--context"],
        ),
        ("ask", vec!["--model", "--max-tokens", "--temperature", "--chat", "<TEXT>"]),
        ("convert", vec!["<FROM>", "<OUT>", "q8_0|q4_0|f16|f32"]),
        ("synth", vec!["gemma3-270m|gemma3-1b|demo", "--seed", "<OUT>"]),
        ("inspect", vec!["<FILE>", "--measure", "--json"]),
        ("verify", vec!["<DIR>", "--json"]),
        ("perplexity", vec!["<MODEL>", "<TEXT>", "--reference", "--context", "--json"]),
        ("swarm", vec!["--model", "--mmlu", "--nodes"]),
    ];
    for (command, options) in wanted {
        assert!(overview.contains(&format!("\n  {command} ")), "{overview}");
        let help = done(&run([command, "--help"]));
        for option in options {
            assert!(help.contains(option), "{option} in {help}");
        }
    }
    assert_eq!(done(&run(["--version"])), concat!("potluck ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn a_wrong_use_is_answered_with_what_would_be_right() {
    let model = demo();
    let model = model.to_str().unwrap();
    for (args, part) in [
        (vec!["frobnicate"], "unrecognized subcommand"),
        (vec!["inspect"], "<FILE>"),
        (vec!["ask", "--model", model, "--loud", "hello"], "'--loud'"),
        (vec!["ask", "--model", model, "--temperature", "warm", "hello"], "warm"),
        (vec!["ask", "--model", model, "--context", "1", "hello"], "from 2 to 8192"),
        (vec!["ask", "--model", model, "--max-tokens", "0", "hello"], "--max-tokens"),
        (vec!["ask", "--model", model, "--slab", "-1", "hello"], "a size such as"),
        (vec!["ask", "--model", model, "--slab", "0", "hello"], "a size such as"),
        (
            vec!["ask", "--model", model, "--slab", "18446744073709551615", "hello"],
            "at most \"16 GB\"",
        ),
        (vec!["ask", "--model", model, "--temperature", "nan", "hello"], "a number from 0"),
        (vec!["ask", "--model", model, "--temperature", "-1", "hello"], "a number from 0"),
        (vec!["ask", "--model", model, "--temperature", "1e9", "hello"], "to 100"),
        (vec!["ask", "--model", model, "--top-p", "0", "hello"], "above 0 and at most 1"),
        (vec!["run", "--model", model, "--interface", "192.168.1.300"], "an interface's name"),
        (vec!["run", "--model", model, "--group", "10.0.0.1"], "a multicast address such as"),
        (vec!["run", "--model", model, "--peer", "[::]:7654"], "192.168.1.20:7654"),
        (vec!["run", "--model", model, "--port", "0"], "from 1 to 65535"),
        (vec!["run", "--model", model, "--id", "me"], "hexadecimal"),
        (vec!["run", "--model", model, "--no-reuse"], "--alone"),
        (vec!["synth", "--shape", "gemma9", "out.gguf"], "choose gemma3-270m"),
        (vec!["convert", "--type", "q5_k", "dir", "out.gguf"], "choose q8_0"),
        (vec!["swarm", "--model", model, "--mmlu", ".", "--nodes", "1"], "from 2 to 8"),
    ] {
        let said = misused(&args);
        assert!(said.contains(part), "{part} in {said}");
    }
    let peers: Vec<String> = (1..=17).map(|port| format!("--peer=127.0.0.1:{port}")).collect();
    let args: Vec<&str> =
        ["run", "--model", model].into_iter().chain(peers.iter().map(String::as_str)).collect();
    assert!(misused(&args).contains("at most 16 times"));
}

#[cfg(unix)]
#[test]
fn a_prompt_that_is_not_utf_8_is_refused_on_the_command_line() {
    use std::os::unix::ffi::OsStrExt;
    let output = run([
        OsStr::new("ask"),
        "--model".as_ref(),
        demo().as_ref(),
        OsStr::from_bytes(b"caf\xe9"),
    ]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("invalid UTF-8"), "{output:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_an_error_and_a_reader_that_leaves_is_none() {
    let full = || Stdio::from(fs::File::options().write(true).open("/dev/full").unwrap());
    let model = demo();
    let commands: [&[&str]; 4] = [
        &["inspect"],
        &["inspect", "--json"],
        &["ask", "hello", "--max-tokens", "3", "--model"],
        &["run", "--alone", "--json", "--model"],
    ];
    for args in commands {
        let output = ended(potluck().args(args).arg(model).stdout(full()).spawn().unwrap());
        assert!(
            refused(&output).contains("the output cannot be written: No space left on device"),
            "{args:?}: {output:?}"
        );
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = ended(potluck().args(args).arg(model).stdout(writer).spawn().unwrap());
        assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
        assert!(!text(&output.stderr).contains("potluck: "), "{args:?}: {output:?}");
    }
    let output = ended(potluck().args(["inspect", "missing.gguf"]).stderr(full()).spawn().unwrap());
    assert_eq!(
        output.status.code(),
        Some(1),
        "an error that cannot be printed must not panic: {output:?}"
    );
}

#[test]
fn perplexity_compares_the_arithmetics_on_a_text() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.txt");
    fs::write(
        &text,
        "Which of the following statements about the energy of the system is correct? ".repeat(4),
    )
    .unwrap();
    let arguments = [
        OsStr::new("perplexity"),
        demo().as_ref(),
        text.as_ref(),
        "--context".as_ref(),
        "40".as_ref(),
    ];
    let shown = done(&run(arguments));
    for row in ["float ", "int8 KV ", "int8 ", "perplexity", "bits/byte", "KL 0..40"] {
        assert!(shown.contains(row), "{row} in {shown}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&done(&run(arguments.into_iter().chain(["--json".as_ref()]))))
            .unwrap();
    assert_eq!(json["rows"].as_array().unwrap().len(), 3);
    assert_eq!(json["rows"][0]["total"]["kl"], 0.0);
    assert!(json["rows"][2]["total"]["kl"].as_f64().unwrap() > 0.0, "{json}");
    assert_eq!(json["bytes"], 77 * 4);
    fs::write(&text, "").unwrap();
    let line = refused(&run(arguments));
    assert!(line.contains("text.txt: has too little text to predict"), "{line}");
}
