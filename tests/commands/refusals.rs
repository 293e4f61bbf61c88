//! Bad input gives one clear line and an exit code, and leaves nothing behind.

use std::net::{TcpListener, UdpSocket};

use potluck::tokenizer::Vocabulary;

use super::*;

/// The single line of the error from `ask`, with `args` after the model.
fn no_answer(args: &[&str]) -> String {
    refused(&ended(potluck().args(["ask", "--model"]).arg(demo()).args(args).spawn().unwrap()))
}

#[track_caller]
fn says(line: &str, parts: &[&str]) {
    assert!(parts.iter().all(|part| line.contains(part)), "{parts:?} in {line}");
}

#[test]
fn a_file_that_is_no_model_is_refused_by_every_command_that_takes_one() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let whole = fs::read(demo()).unwrap();
    fs::write(at("cut.gguf"), &whole[..whole.len() / 2]).unwrap();
    fs::write(at("head.gguf"), &whole[..16]).unwrap();
    fs::write(at("empty.gguf"), "").unwrap();
    fs::write(at("text.gguf"), "once upon a time").unwrap();
    fs::write(
        at("huge.gguf"),
        [b"GGUF\x03\0\0\0".as_slice(), &[0xff; 7], &[0x7f], &[0xff; 7], &[0x7f]].concat(),
    )
    .unwrap();
    for (name, part) in [
        ("missing.gguf", "cannot be read: No such file"),
        ("cut.gguf", "truncated: "),
        ("head.gguf", "truncated: "),
        ("empty.gguf", "is empty; download it again"),
        ("text.gguf", "is not a GGUF file"),
        ("huge.gguf", "damaged: it announces 9223372036854775807 tensors"),
        ("", "is a directory; name a file in it"),
    ] {
        let path = at(name);
        let commands: [&[&str]; 3] =
            [&["inspect"], &["ask", "hello", "--model"], &["run", "--alone", "--model"]];
        for args in commands {
            let line = refused(&ended(potluck().args(args).arg(&path).spawn().unwrap()));
            says(&line, &[&format!("potluck: {}: ", path.display()), part]);
        }
    }
    let line = refused(&run([OsStr::new("inspect"), golden().join("model.safetensors").as_ref()]));
    says(&line, &["it looks like safetensors: run potluck convert on its directory"]);
}

/// Bytes changed anywhere in the header must cause a refusal at worst; where nothing reads them,
/// the file still works.
#[test]
fn a_damaged_head_is_refused_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bent.gguf");
    let whole = fs::read(demo()).unwrap();
    for step in 0..40_usize {
        let mut bytes = whole.clone();
        let at = step * step * 37 % 60_000;
        bytes[at] ^= 1 << (step % 8);
        bytes[at + 5] = 0xff;
        fs::write(&path, bytes).unwrap();
        let output = run([OsStr::new("inspect"), path.as_ref()]);
        if !output.status.success() {
            refused(&output);
        }
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_is_not_waited_for_and_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    says(&refused(&run([OsStr::new("inspect"), pipe.as_ref()])), &["is not a regular file"]);
    says(&no_answer(&["hello", "--tokenizer", pipe.to_str().unwrap()]), &["is not a regular file"]);
    says(&refused(&run([OsStr::new("synth"), pipe.as_ref()])), &["is not a regular file"]);
    says(
        &refused(&run([OsStr::new("convert"), golden().as_ref(), pipe.as_ref()])),
        &["is not a regular file"],
    );
    assert_eq!(names(dir.path()), ["pipe"]);
}

#[test]
fn a_directory_that_is_no_gemma_is_refused_and_nothing_is_written() {
    let vocabulary = Vocabulary::synthetic(512, 1);
    let cases: [(&str, Option<&[u8]>, &str); 8] = [
        ("config.json", None, "config.json: cannot be read"),
        ("config.json", Some(b"{"), "config.json: damaged: not JSON"),
        ("config.json", Some(br#"{"model_type": "llama"}"#), "model_type is llama"),
        ("model.safetensors", None, "has neither model.safetensors"),
        ("model.safetensors", Some(b"once upon a time"), "is not a safetensors file"),
        (
            "model.safetensors",
            Some(b"\xff\xff\xff\xff\xff\xff\xff\x7f{}"),
            "is not a safetensors file",
        ),
        ("tokenizer.json", Some(b"once upon a time"), "tokenizer.json: not a tokenizer.json"),
        (
            "tokenizer.json",
            Some(b"\xff\xfe"),
            "tokenizer.json: not a tokenizer.json: it is not UTF-8",
        ),
    ];
    for (name, bytes, part) in cases {
        let dir = hub(&vocabulary);
        match bytes {
            None => fs::remove_file(dir.path().join(name)).unwrap(),
            Some(bytes) => fs::write(dir.path().join(name), bytes).unwrap(),
        }
        let before = names(dir.path());
        let line = refused(&run([
            OsStr::new("convert"),
            dir.path().as_ref(),
            dir.path().join("out.gguf").as_ref(),
        ]));
        says(&line, &[part]);
        assert_eq!(names(dir.path()), before, "{line}");
    }
    let dir = hub(&vocabulary);
    let shard = dir.path().join("model.safetensors");
    let whole = fs::read(&shard).unwrap();
    fs::write(&shard, &whole[..whole.len() - 100]).unwrap();
    let line = refused(&run([
        OsStr::new("convert"),
        dir.path().as_ref(),
        dir.path().join("out.gguf").as_ref(),
    ]));
    says(&line, &["model.safetensors: damaged: ", "truncated"]);
    says(&refused(&run(["convert", "missing", "out.gguf"])), &["missing: cannot be read"]);
    says(&refused(&run(["verify", "missing"])), &["missing: cannot be read"]);
}

#[test]
fn a_tokenizer_that_is_not_the_models_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_string()
    };
    let own = tokenizer_json(&Vocabulary::synthetic(4_096, 1));
    let cut = write("cut.json", own[..own.len() / 2].to_string());
    says(&no_answer(&["hello", "--tokenizer", &cut]), &["cut.json: not a tokenizer.json: EOF"]);
    let config = golden().join("config.json").display().to_string();
    says(
        &no_answer(&["hello", "--tokenizer", &config]),
        &["config.json: not a tokenizer.json: missing field"],
    );
    says(
        &no_answer(&["hello", "--tokenizer", "missing.json"]),
        &["missing.json: cannot be read: No such file"],
    );
    says(
        &no_answer(&["hello", "--tokenizer", dir.path().to_str().unwrap()]),
        &["is not a regular file; name a tokenizer.json"],
    );
    let small = write("small.json", tokenizer_json(&Vocabulary::synthetic(512, 1)));
    says(
        &no_answer(&["hello", "--tokenizer", &small]),
        &["small.json: ", "it has 512 tokens, the model 4096"],
    );
    let large = write("large.json", tokenizer_json(&Vocabulary::synthetic(5_000, 1)));
    says(
        &no_answer(&["hello", "--tokenizer", &large]),
        &["large.json: ", "does not belong to this model"],
    );
    let mut bent = Vocabulary::synthetic(4_096, 1);
    bent.tokens[4_000] = "potluck".to_string();
    let bent = write("bent.json", tokenizer_json(&bent));
    says(
        &no_answer(&["hello", "--tokenizer", &bent]),
        &["bent.json: ", "token 4000 is \"potluck\", but "],
    );
    let right = write("own.json", own);
    done(&ended(
        potluck()
            .args(["ask", "hello", "--max-tokens", "2", "--tokenizer", &right, "--model"])
            .arg(demo())
            .spawn()
            .unwrap(),
    ));
}

#[test]
fn a_prompt_that_cannot_be_answered_says_what_would_help() {
    let numbers: Vec<String> = (0..900).map(|number| number.to_string()).collect();
    let numbers = numbers.join(" ");
    says(&no_answer(&[""]), &["the prompt is empty: give some text"]);
    says(&no_answer(&[" \n"]), &["the prompt is empty: give some text"]);
    says(
        &no_answer(&[&numbers, "--context", "64"]),
        &["the context takes 63: shorten it or raise --context"],
    );
    says(
        &no_answer(&[&numbers, "--slab", "1", "--context", "4096"]),
        &["blocks, the slab has ", "shorten it or raise --slab"],
    );
    says(
        &no_answer(&["hello", "--context", "5000"]),
        &["with this model --context takes at most 4096"],
    );
    let alone = ended(potluck().args(["ask", "hello"]).spawn().unwrap());
    says(&refused(&alone), &["no model is named: give --model FILE"]);
}

#[test]
fn an_address_or_port_that_cannot_be_had_is_named_with_its_option() {
    let node = |args: &[&str]| {
        refused(&ended(
            potluck()
                .args(["run", "--interface", "127.0.0.1", "--model"])
                .arg(demo())
                .args(args)
                .spawn()
                .unwrap(),
        ))
    };
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port().to_string();
    says(&node(&["--tcp-port", &port]), &[&format!("TCP port {port} "), "in use", "--tcp-port"]);
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = udp.local_addr().unwrap().port().to_string();
    says(&node(&["--port", &port]), &[&format!("UDP port {port} "), "in use", "--port"]);
    // An address reserved for documentation, which no machine has.
    let output = run([
        OsStr::new("run"),
        "--interface".as_ref(),
        "192.0.2.1".as_ref(),
        "--model".as_ref(),
        demo().as_ref(),
    ]);
    says(&refused(&output), &["192.0.2.1 is not an address of this machine", "--interface"]);
    says(
        &refused(&run([
            OsStr::new("swarm"),
            "--mmlu".as_ref(),
            "missing".as_ref(),
            "--model".as_ref(),
            demo().as_ref(),
        ])),
        &["missing", "give --mmlu a directory"],
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_place_that_takes_no_file_is_named_and_keeps_nothing_of_it() {
    says(
        &refused(&run(["synth", "/proc/out.gguf"])),
        &["/proc/out.gguf: cannot be written: ", "choose another place"],
    );
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("absent/out.gguf");
    says(
        &refused(&run([OsStr::new("synth"), absent.as_ref()])),
        &["cannot be written: No such file"],
    );
    says(
        &refused(&run([OsStr::new("synth"), dir.path().as_ref()])),
        &["is a directory; name a file in it"],
    );
    // As on a full disk, a write beyond the limit fails.
    let full = |args: &[&OsStr]| {
        let mut command = potluck_within("trap '' XFSZ; ulimit -f 64; exec \"$@\"");
        refused(&ended(command.args(args).env("TMPDIR", dir.path()).spawn().unwrap()))
    };
    let out = dir.path().join("out.gguf");
    says(
        &full(&["synth".as_ref(), out.as_ref()]),
        &["out.gguf: cannot be written: File too large", "free some space"],
    );
    says(
        &full(&["convert".as_ref(), golden().as_ref(), out.as_ref()]),
        &["out.gguf: cannot be written: File too large"],
    );
    says(&full(&["verify".as_ref(), golden().as_ref()]), &["cannot be written: File too large"]);
    assert!(names(dir.path()).is_empty());
}

/// The binary run by a shell as `script` says; the caller adds the arguments.
#[cfg(target_os = "linux")]
fn potluck_within(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_potluck")]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}
