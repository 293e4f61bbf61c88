//! The tokens that a model gets, whatever its file claims, and the command that shows them.

use super::*;

/// The model in the repository, which answers in English.
fn trained() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/demo-model/model/potluck-demo.gguf")
}

/// The offset of a metadata entry's value.
fn value_at(file: &[u8], key: &str) -> usize {
    let entry = [&(key.len() as u64).to_le_bytes(), key.as_bytes()].concat();
    let at = file.windows(entry.len()).position(|part| part == entry).expect(key);
    at + entry.len() + 4
}

/// The trained model with a metadata entry overwritten in place.
fn bent(change: impl FnOnce(&mut Vec<u8>)) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bent.gguf");
    let mut bytes = fs::read(trained()).unwrap();
    change(&mut bytes);
    fs::write(&path, bytes).unwrap();
    (dir, path)
}

fn set(file: &mut [u8], key: &str, value: &[u8]) {
    let at = value_at(file, key);
    file[at..at + value.len()].copy_from_slice(value);
}

/// Files that contradict their vocabulary: a name, part of the note about it if there must be one,
/// and the file.
fn contradictions() -> Vec<(&'static str, Option<&'static str>, (TempDir, PathBuf))> {
    let bos = "tokenizer.ggml.bos_token_id";
    let id = |key: &'static str, id: u32| bent(move |file| set(file, key, &id.to_le_bytes()));
    let absent = bent(|file| {
        let at = value_at(file, bos) - 4 - bos.len();
        file[at..at + 9].copy_from_slice(b"other-way");
    });
    vec![
        (
            "add_bos_token = false",
            Some("add_bos_token"),
            bent(|file| set(file, "tokenizer.ggml.add_bos_token", &[0])),
        ),
        ("bos absent", None, absent),
        ("bos wrong", Some("token 1 (\"<eos>\")"), id(bos, 1)),
        ("bos out of range", Some("a token beyond its"), id(bos, 1_000_000)),
        ("bos none", None, id(bos, u32::MAX)),
        (
            "eos out of range",
            Some("as the end of an answer"),
            id("tokenizer.ggml.eos_token_id", 1_000_000),
        ),
        ("eos a word", Some("as the end of an answer"), id("tokenizer.ggml.eos_token_id", 1_500)),
    ]
}

fn tokenize(model: &Path, args: &[&str], input: &[u8]) -> Output {
    let args: Vec<&OsStr> = ["tokenize", "--model"]
        .iter()
        .map(OsStr::new)
        .chain([model.as_os_str()])
        .collect::<Vec<_>>()
        .into_iter()
        .chain(args.iter().map(OsStr::new))
        .collect();
    fed(args, input)
}

const ODD: &str =
    "The  sky   is\tblue\r\n\n\nWhy? <bos>né <h1>🙂👩‍👩‍👧</h1> <0x0A> \u{202e}שלום ▁x\u{0}";

/// Whatever the file claims, the model gets the same tokens and gives the same answer, and the
/// user is told.
#[test]
fn a_file_that_contradicts_its_vocabulary_answers_as_a_right_one_and_it_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let prose = dir.path().join("prose.txt");
    fs::write(
        &prose,
        "The sun is a star. It gives light and heat to the planets that go around it.",
    )
    .unwrap();
    let ask = |model: &Path| {
        let output = ended(
            potluck()
                .args(["ask", "--max-tokens", "8", "The sky is", "--model"])
                .arg(model)
                .spawn()
                .unwrap(),
        );
        (done(&output), told(&output))
    };
    let perplexity = |model: &Path| {
        let output = done(&run([
            OsStr::new("perplexity"),
            "--json".as_ref(),
            model.as_ref(),
            prose.as_ref(),
        ]));
        let mut report: serde_json::Value = serde_json::from_str(&output).unwrap();
        let notes = report["notes"].take();
        report["rows"].as_array_mut().unwrap().iter_mut().for_each(|row| row["file"] = "".into());
        (report, notes)
    };
    let node = |model: &Path| {
        let args: [&OsStr; 5] = [
            "run".as_ref(),
            "--alone".as_ref(),
            "--json".as_ref(),
            "--model".as_ref(),
            model.as_ref(),
        ];
        let said = done(&fed(args, b"{\"ask\": \"The sky is\", \"id\": 1, \"max_tokens\": 8}\n"));
        let events: Vec<serde_json::Value> =
            said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let end = events
            .iter()
            .find(|event| event["event"] == "done")
            .unwrap_or_else(|| panic!("{said}"));
        let notes: Vec<_> = events
            .iter()
            .filter(|event| event["event"] == "note")
            .map(|event| event["text"].to_string())
            .collect();
        (end["tokens"].clone(), end["figures"]["prompt_tokens"].clone(), notes.join("\n"))
    };
    let ids = |model: &Path| done(&tokenize(model, &["--ids", "The sky is"], b""));
    let right = trained();
    let (answer, said) = ask(&right);
    assert!(!said.contains("the model's file"), "{said}");
    let (figures, _) = perplexity(&right);
    let (tokens, count, _) = node(&right);
    for (what, part, (_dir, model)) in contradictions() {
        let noted = |said: &str| match part {
            Some(part) => said.contains("the model's file") && said.contains(part),
            None => !said.contains("the model's file"),
        };
        let (found, said) = ask(&model);
        assert!(found == answer && noted(&said), "{what}: {found:?} {said}");
        let (found, notes) = perplexity(&model);
        assert!(
            found == figures && noted(&notes.to_string().replace("\\\"", "\"")),
            "{what}: {notes}"
        );
        let (found, prompt, notes) = node(&model);
        assert!(
            (&found, &prompt) == (&tokens, &count) && noted(&notes.replace("\\\"", "\"")),
            "{what}: {found} {prompt} {notes}"
        );
        assert_eq!(ids(&model), ids(&right), "{what}");
    }
}

/// Some fine-tunes are exported with control tokens typed as text.
#[test]
fn control_tokens_typed_as_text_are_still_no_text() {
    let key = "tokenizer.ggml.token_type";
    for kind in [1_i32, 4] {
        let (_dir, model) = bent(|file| {
            // The elements' type and count precede them.
            let first = value_at(file, key) + 12;
            for id in 0..6 {
                file[first + 4 * id..first + 4 * id + 4].copy_from_slice(&kind.to_le_bytes());
            }
        });
        let text = "<pad><eos><bos><unk><start_of_turn>user\nHi<end_of_turn>";
        for args in [&["--ids", text][..], &["--ids", "--chat", text]] {
            assert_eq!(
                done(&tokenize(&model, args, b"")),
                done(&tokenize(&trained(), args, b"")),
                "type {kind}"
            );
        }
    }
}

#[test]
fn tokens_are_shown_and_go_back_to_the_very_text() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("text.txt");
    fs::write(&file, ODD).unwrap();
    let model = trained();
    let from_file = tokenize(&model, &["--ids", "--file", file.to_str().unwrap()], b"");
    let ids = done(&from_file);
    assert!(ids.starts_with("2 ") && ids.ends_with('\n') && ids.lines().count() == 1, "{ids}");
    for stdin in [&["--ids", "-"][..], &["--ids"], &["--ids", "--file", "-"]] {
        assert_eq!(done(&tokenize(&model, stdin, ODD.as_bytes())), ids, "{stdin:?}");
    }
    assert_eq!(done(&tokenize(&model, &["--ids", "--no-bos", "-"], ODD.as_bytes())), ids[2..]);
    assert!(told(&from_file).contains("<bos> in the text is taken as plain text"), "{from_file:?}");
    let back = |args: &[&str], input: &str| done(&tokenize(&model, args, input.as_bytes()));
    let (once, listed) = (ODD.replace('▁', " "), format!("[{}]", ids.trim().replace(' ', ", ")));
    for (args, input) in [
        (&["--decode", "-"][..], ids.as_str()),
        (&["--decode", "-"], &listed),
        (&["--decode", &listed], ""),
    ] {
        assert_eq!(back(args, input), once);
    }

    let table = tokenize(&model, &["The\nsky 🙂"], b"");
    let said = done(&table);
    assert!(
        said.starts_with("      2  <bos>\n")
            && said.contains("\"The\"")
            && said.contains("\"\\n\"")
            && said.contains("  <0xF0>\n"),
        "{said}"
    );
    assert!(
        told(&table)
            .contains(&format!("[{} tokens, with <bos>; 12 bytes of text]", said.lines().count())),
        "{table:?}"
    );

    let json = |args: &[&str]| {
        serde_json::from_str::<serde_json::Value>(&done(&tokenize(&model, args, b""))).unwrap()
    };
    let chat = json(&["--json", "--chat", "Hi <eos>"]);
    let pieces: Vec<_> = chat["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| token["piece"].as_str().unwrap())
        .collect();
    assert_eq!(
        pieces.concat(),
        "<bos><start_of_turn>user\nHi <eos><end_of_turn>\n<start_of_turn>model\n"
    );
    assert_eq!(
        (&chat["bos"], &chat["chat"], &chat["bytes"]),
        (&true.into(), &true.into(), &8.into())
    );
    assert!(chat["notes"][0].as_str().unwrap().contains("<eos> in the text"), "{chat}");
    assert_eq!(json(&["--json", "--decode", "2", "4", "497"])["text"], "<start_of_turn>user");
    assert_eq!(json(&["--json", "--no-bos", ""])["tokens"], serde_json::json!([]));
}

#[test]
fn what_cannot_be_tokenized_is_said_in_one_line() {
    let model = trained();
    let dir = tempfile::tempdir().unwrap();
    let binary = dir.path().join("binary");
    fs::write(&binary, [0xff; 9]).unwrap();
    let said = |args: &[&str], input: &[u8]| refused(&tokenize(&model, args, input));
    assert!(
        said(&["--file", binary.to_str().unwrap()], b"").contains("is not UTF-8: save it as UTF-8")
    );
    assert!(said(&["--file", "/no/such/file"], b"").contains("/no/such/file: cannot be read"));
    assert!(said(&["--file", dir.path().to_str().unwrap()], b"").contains("cannot be read"));
    assert!(
        said(&["-"], &vec![b'x'; 131_073])
            .contains("standard input: at most 131072 bytes are taken")
    );
    assert!(said(&["--decode", "-"], b"12 twelve").contains("\"twelve\" is not a token id"));
    assert!(said(&["--decode", "99999999"], b"").contains("beyond the vocabulary's"));
    for wrong in [&["tokenize", "--chat", "--no-bos", "x"][..], &["tokenize", "--file", "a", "b"]] {
        assert!(misused(wrong).contains("Usage: potluck tokenize"), "{wrong:?}");
    }
}
