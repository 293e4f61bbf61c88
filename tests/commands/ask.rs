//! `potluck ask`: sources of prompts, and what ends an answer.

use serde_json::Value;

use super::*;

const PROMPT: &str = "Why is the sky blue?";

/// `ask` on the demo model with these options, given `input` and then end of file; 40 tokens unless
/// they say otherwise.
fn ask_fed(args: &[&str], input: &[u8]) -> Output {
    let length: &[&str] =
        if args.contains(&"--max-tokens") { &[] } else { &["--max-tokens", "40"] };
    let model = ["ask", "--model", demo().to_str().unwrap()];
    fed([&model, length, args].concat(), input)
}

/// The object that `ask --json` prints.
fn object(args: &[&str]) -> Value {
    let output = ask_fed(&[args, &["--json", PROMPT]].concat(), b"");
    let said = done(&output);
    assert_eq!((said.lines().count(), told(&output).as_str()), (1, ""), "{output:?}");
    serde_json::from_str(&said).unwrap()
}

fn tokens(object: &Value) -> Vec<u64> {
    object["tokens"].as_array().unwrap().iter().map(|token| token.as_u64().unwrap()).collect()
}

#[test]
fn a_prompt_comes_from_the_command_line_a_file_or_standard_input_and_is_the_same_prompt() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("prompt.txt");
    fs::write(&file, format!("{PROMPT}\n")).unwrap();
    let file = file.to_str().unwrap();
    let answer = done(&ask_fed(&[PROMPT], b"something else"));
    assert!(answer.trim().len() > 20, "{answer}");
    let line = format!("{PROMPT}\n");
    for (args, input) in [
        (vec!["-"], line.as_str()),
        (vec![], &line),
        (vec![], PROMPT),
        (vec!["--file", file], "something else"),
    ] {
        assert_eq!(done(&ask_fed(&args, input.as_bytes())), answer, "{args:?}");
    }
    assert_ne!(
        done(&ask_fed(&["-"], format!("{PROMPT}\n\n").as_bytes())),
        answer,
        "one line end is stripped, not two"
    );
    for stdin in ["/dev/stdin", "-"] {
        assert_eq!(done(&ask_fed(&["--file", stdin], line.as_bytes())), answer, "{stdin}");
    }
    let words: Vec<&str> = PROMPT.split(' ').collect();
    assert_eq!(
        done(&ask_fed(&words, b"")),
        answer,
        "without quotation marks the words are the prompt"
    );
}

#[test]
fn a_prompt_that_cannot_be_read_is_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let says = |args: &[&str], input: &[u8], part: &str| {
        let said = refused(&ask_fed(args, input));
        assert!(said.contains(part), "{part} in {said}");
    };
    says(&["-"], b"", "the prompt is empty: give some text");
    says(&[], b" \n", "the prompt is empty: give some text");
    says(&["-"], b"caf\xe9", "standard input: byte 3 is not UTF-8: save it as UTF-8");
    says(
        &["-"],
        &vec![b'x'; 1 << 20],
        "standard input: at most 131072 bytes are taken: shorten it",
    );
    says(&["--file", "missing.txt"], b"", "missing.txt: cannot be read: No such file");
    says(&["--file", dir.path().to_str().unwrap()], b"", "cannot be read: Is a directory");
    let both = misused(&["ask", "--model", "x", "--file", "y", "hello"]);
    assert!(both.contains("cannot be used with") && both.contains("Usage: potluck ask"), "{both}");
}

#[test]
fn a_program_gets_one_object() {
    let answer = object(&[]);
    assert_eq!(answer["event"], "done");
    assert_eq!((tokens(&answer).len(), &answer["figures"]["generated"]), (40, &40.into()));
    assert_eq!(answer["figures"]["finish"], "length");
    assert_eq!(done(&ask_fed(&[PROMPT], b"")), format!("{}\n", answer["text"].as_str().unwrap()));
    let room = answer["figures"]["prompt_tokens"].as_u64().unwrap() + 5;
    let short = object(&["--context", &room.to_string()]);
    assert_eq!((&short["figures"]["finish"], tokens(&short).len()), (&"context".into(), 5));
}

#[test]
fn a_stop_string_ends_an_answer_with_the_token_that_completes_it_and_is_not_shown() {
    let whole = object(&[]);
    let text = whole["text"].as_str().unwrap();
    // Every substring of three characters, so that many of them cross two tokens.
    let cuts: Vec<usize> =
        text.char_indices().map(|(at, _)| at).filter(|at| *at >= 20).step_by(5).take(6).collect();
    for start in cuts {
        let stop: String = text[start..].chars().take(3).collect();
        let first = text.find(&stop).unwrap();
        let stopped = object(&["--stop", "never said", "--stop", &stop]);
        assert_eq!(
            (&stopped["text"], &stopped["figures"]["finish"]),
            (&text[..first].into(), &"stop".into()),
            "{stop:?}"
        );
        let (some, all) = (tokens(&stopped), tokens(&whole));
        assert_eq!(some[..], all[..some.len()]);
        let shorter = (some.len() - 1).to_string();
        let before = object(&["--max-tokens", &shorter]);
        assert!(
            !before["text"].as_str().unwrap().contains(&stop),
            "a token too many was computed: {stop:?}"
        );
    }
    let streamed = ask_fed(&["--stop", &text[20..25], PROMPT], b"");
    assert_eq!(done(&streamed), format!("{}\n", &text[..text.find(&text[20..25]).unwrap()]));
    assert!(told(&streamed).contains("; ended at a stop string]"), "{streamed:?}");
}

#[test]
fn a_repetition_penalty_changes_an_answer_and_one_of_1_does_not() {
    let plain = tokens(&object(&[]));
    assert_eq!(tokens(&object(&["--repeat-penalty", "1", "--repeat-last-n", "8000"])), plain);
    assert_eq!(tokens(&object(&["--repeat-penalty", "1.5", "--repeat-last-n", "0"])), plain);
    let varied = tokens(&object(&["--repeat-penalty", "10", "--repeat-last-n", "8000"]));
    let distinct: std::collections::BTreeSet<u64> = varied.iter().copied().collect();
    assert_eq!(
        distinct.len(),
        varied.len(),
        "with such a penalty no token is repeated: {varied:?}"
    );
    assert!(
        plain.iter().collect::<std::collections::BTreeSet<_>>().len() < plain.len(),
        "this answer repeats itself: {plain:?}"
    );
}

#[test]
fn a_wrong_value_shows_the_usage_of_its_own_command_and_what_would_be_taken() {
    for (args, usage, needs) in [
        (
            vec!["ask", "--max-tokens", "x", "hi"],
            "ask [OPTIONS]",
            "a whole number from 1 to 8192 is needed",
        ),
        (vec!["ask", "--temperature", "hot", "hi"], "ask [OPTIONS]", "a number from 0"),
        (vec!["ask", "--repeat-penalty", "0", "hi"], "ask [OPTIONS]", "where 1 is off"),
        (vec!["ask", "--stop", "", "hi"], "ask [OPTIONS]", "a text of 1 to 256 bytes"),
        (
            vec!["run", "--alone", "--peer", "192.168.1.2:7654", "--model", "x"],
            "run [OPTIONS]",
            "--alone shares nothing",
        ),
        (vec!["ask", "--seed", "-1", "hi"], "ask [OPTIONS]", "a whole number is needed"),
        (vec!["run", "--slab", "lots"], "run [OPTIONS]", "a size such as"),
        (vec!["run", "--port", "0"], "run [OPTIONS]", "a port from 1 to 65535"),
        (
            vec!["bench", "--steps", "many"],
            "bench [OPTIONS]",
            "a whole number from 0 to 8192 is needed",
        ),
        (vec!["bench", "--threads", "-3"], "bench [OPTIONS]", "a whole number from 0 to 64"),
        (vec!["reset", "--wait", "1"], "reset [OPTIONS]", "a whole number from 3 to 600 is needed"),
        (
            vec!["swarm", "--model", "m", "--mmlu", "d", "--nodes", "9"],
            "swarm [OPTIONS]",
            "a whole number from 2 to 8 is needed",
        ),
        (vec!["synth", "--seed", "x", "o"], "synth [OPTIONS]", "a whole number from 0 to"),
        (vec!["synth", "--shape", "round", "o"], "synth [OPTIONS]", "choose gemma3-270m"),
        (vec!["convert", "--type", "q9", "a", "b"], "convert [OPTIONS]", "choose q8_0"),
        (vec!["ask", "--model"], "ask [OPTIONS]", "a value is required"),
        (vec!["ask", "--nosuch"], "ask [OPTIONS]", "--nosuch"),
        (vec!["config", "get", "x"], "config get <SECTION.KEY> <FILE>", "required"),
        (vec!["nosuch"], "<COMMAND>", "nosuch"),
    ] {
        let said = misused(&args);
        assert!(
            said.contains(&format!("Usage: potluck {usage}")) && said.contains(needs),
            "{args:?}: {said}"
        );
        assert!(said.starts_with("error: "), "{said}");
    }
}
