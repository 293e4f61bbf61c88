//! The settings of a swarm, through the binary: where a key may stand, and that a file that cannot
//! be understood shares nothing.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use super::*;

/// Runs the binary with standard input, and with the only model present.
fn fed(arguments: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_potluck"));
    command.args(arguments).arg("--model").arg(BOOT.path().join("demo.gguf"));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

/// The output of a node with sharing on, on its own interface, when it is asked for its status
/// and a prompt.
fn shares(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let net = [
        "run",
        "--interface",
        "127.0.0.1",
        "--port",
        "17654",
        "--group",
        "239.255.80.99",
        "--max-tokens",
        "3",
    ];
    let model = BOOT.path().join("demo.gguf");
    let mut command = Command::new(env!("CARGO_BIN_EXE_potluck"));
    command.args(net).arg("--model").arg(model).args(arguments).envs(environment.iter().copied());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may exit before it reads.
    let _ = child.stdin.take().unwrap().write_all(b"status\nhello\nstatus --json\n");
    child.wait_with_output().unwrap()
}

/// The status event, and the status text about the swarm.
fn status(ran: &Output) -> (serde_json::Value, &str) {
    assert!(ran.status.success(), "{ran:?}");
    let event = out(ran)
        .lines()
        .find(|line| line.starts_with("{\"event\":\"status\""))
        .unwrap_or_else(|| panic!("{ran:?}"));
    let text = out(ran)
        .lines()
        .find_map(|line| line.strip_prefix("swarm    "))
        .unwrap_or_else(|| panic!("{ran:?}"));
    (serde_json::from_str(event).unwrap(), text)
}

/// Each of these once put the node into the open swarm, and strangers without a key took its state.
#[test]
fn a_swarm_section_or_a_file_that_cannot_be_understood_shares_nothing_and_says_so() {
    for (name, text, told) in [
        (
            "unclosed",
            "[swarm]\nkey = \"sesame\n[memory]\nslab = 64\n",
            ":2:7: key: a quotation mark",
        ),
        ("number", "[swarm]\nkey = 12345\n", ":2:7: key = (hidden): a passphrase"),
        ("inner", "[swarm]\nkey = \"open \"sesame\"\"\n", ":2:"),
        ("unknown", "[swarm]\nkey = \"sesame\"\nkyes = 1\n", ":3:1: kyes is not known"),
        ("section", "[swram]\nkey = \"sesame\"\n", ":1:2: there is no section [swram]"),
        (
            "words",
            &format!("[swarm]\nkey = \"{}zoo\"\n", "zoo ".repeat(23)),
            ":2:7: key = (hidden)",
        ),
        (
            "elsewhere",
            "[node]\nname = \"kitchen\n[swarm]\nkey = \"sesame\"\n",
            ":2:8: name: a quotation mark",
        ),
    ] {
        let file = file(&format!("shut-{name}.toml"), text);
        let ran = shares(&["--config", &file], &[]);
        let (event, said) = status(&ran);
        assert_eq!(event["swarm"]["sharing"], "shut", "{text}");
        assert!(
            event["swarm"]["reason"].as_str().unwrap().starts_with(&format!("{file}{told}")),
            "{event}"
        );
        assert!(
            said.starts_with(&format!("shut: {file}{told}"))
                && said.ends_with("fix it and start again"),
            "{said}"
        );
        assert!(err(&ran).contains(&format!("! nothing is shared: {file}{told}")), "{}", err(&ran));
        assert!(err(&ran).contains("generated; TTFT"), "it must still answer: {}", err(&ran));
        assert!(!format!("{ran:?}").contains("sesame"), "{ran:?}");
        // A port that is not open cannot be asked.
        let ready = fed(
            &["run", "--json", "--interface", "127.0.0.1", "--port", "17654", "--config", &file],
            b"",
        );
        let ready =
            out(&ready).lines().find(|line| line.starts_with("{\"event\":\"ready\"")).unwrap();
        let ready: serde_json::Value = serde_json::from_str(ready).unwrap();
        assert_eq!(ready["tcp_port"], 0, "there is no port for blocks");
        let ordered =
            potluck(&["reset", "--interface", "127.0.0.1", "--port", "17654", "--config", &file]);
        assert_eq!(ordered.status.code(), Some(1), "{ordered:?}");
        assert!(
            err(&ordered).contains(&format!("no node was reset: {file}{told}")),
            "{}",
            err(&ordered)
        );
    }
}

#[test]
fn former_keys_without_a_present_one_open_no_swarm() {
    let ran =
        shares(&["--config", &file("former-only.toml", "[swarm]\nold_keys = [\"sesame\"]\n")], &[]);
    let (event, said) = status(&ran);
    assert_eq!(event["swarm"]["sharing"], "shut", "{event}");
    assert!(said.starts_with("shut: old_keys without a key"), "{said}");
    assert!(!format!("{ran:?}").contains("sesame"), "{ran:?}");
}

#[test]
fn an_open_swarm_is_said_to_be_open_and_a_locked_one_to_be_locked() {
    for (name, text) in [
        ("none", ""),
        ("empty", "[swarm]\nkey = \"\"\n"),
        ("slip", "[memory]\nslap = 3\nslab = 64 MB\n"),
    ] {
        let ran = shares(&["--config", &file(&format!("open-{name}.toml"), text)], &[]);
        let (event, said) = status(&ran);
        assert_eq!(
            (&event["swarm"]["sharing"], said.split(':').next()),
            (&"open".into(), Some("open")),
            "{text}"
        );
        assert_eq!(
            err(&ran).matches("the swarm is open: anyone on this network").count(),
            1,
            "{}",
            err(&ran)
        );
    }
    let drawn = "7f".repeat(32);
    let text = format!("[swarm]\nkey = \"{drawn}\"\nold_keys = [\"sesame\", \"open\"]\n");
    let ran = shares(&["--config", &file("locked.toml", text)], &[]);
    let (event, said) = status(&ran);
    assert_eq!(
        (&event["swarm"]["sharing"], &event["swarm"]["old_keys"]),
        (&"locked".into(), &2.into())
    );
    assert_eq!(said, "locked: with a key; 2 former keys are known");
    assert!(!err(&ran).contains("open") && !format!("{ran:?}").contains(&drawn), "{ran:?}");
    let (event, _) = status(&shares(&["--alone"], &[]));
    assert_eq!(event["swarm"]["sharing"], "alone");
}

/// A key on the command line is visible in the process list.
#[test]
fn a_key_may_stand_in_a_file_or_in_the_environment() {
    const VARIABLE: &str = "POTLUCK_SWARM_KEY";
    let drawn = potluck(&["key", "--qr"]);
    assert!(drawn.status.success() && out(&drawn).contains('\u{2588}'), "{drawn:?}");
    assert_ne!(out(&drawn), out(&potluck(&["key", "--qr"])));
    let key_file = file("swarm.key", out(&drawn));
    for (arguments, environment) in [
        (vec!["--key-file", key_file.as_str()], vec![]),
        (vec![], vec![(VARIABLE, "sesame")]),
        (vec!["--swarm-key", "sesame"], vec![(VARIABLE, "")]),
    ] {
        let (event, _) = status(&shares(&arguments, &environment));
        assert_eq!(event["swarm"]["sharing"], "locked", "{arguments:?} {environment:?}");
    }
    let by_settings = file("by-key-file.toml", "[swarm]\nkey_file = \"swarm.key\"\n");
    assert_eq!(status(&shares(&["--config", &by_settings], &[])).0["swarm"]["sharing"], "locked");
    let lost = file("lost-key-file.toml", "[swarm]\nkey_file = \"lost.key\"\n");
    let (event, _) = status(&shares(&["--config", &lost], &[]));
    assert!(
        event["swarm"]["reason"].as_str().unwrap().contains("lost.key: cannot be read"),
        "{event}"
    );
    // An unusable key named at the start is an error: an empty variable in a script must not
    // open the swarm.
    let digits = "7f".repeat(31);
    for (arguments, environment, code) in [
        (vec!["--key-file", "lost.key"], vec![], 1),
        (vec![], vec![(VARIABLE, "")], 1),
        (vec![], vec![(VARIABLE, digits.as_str())], 1),
        (vec!["--swarm-key", ""], vec![], 2),
        (vec!["--swarm-key", &digits], vec![], 2),
        (vec!["--swarm-key", "sesame", "--key-file", &key_file], vec![], 2),
    ] {
        let ran = shares(&arguments, &environment);
        assert_eq!(
            (ran.status.code(), out(&ran)),
            (Some(code), ""),
            "{arguments:?} {environment:?}: {}",
            err(&ran)
        );
    }
    let asked = Command::new(env!("CARGO_BIN_EXE_potluck"))
        .args(["ask", "--max-tokens", "1", "--model"])
        .arg(BOOT.path().join("demo.gguf"))
        .arg("hello")
        .env(VARIABLE, "")
        .output()
        .unwrap();
    assert!(asked.status.success(), "a command that talks to no peer needs no key: {asked:?}");
}

#[test]
fn a_passphrase_is_stretched_once_and_what_came_out_is_its_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let arguments = ["--swarm-key", "open sesame", "--state", state.to_str().unwrap()];
    status(&shares(&arguments, &[]));
    let path = state.join("key");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let kept = fs::read_to_string(&path).unwrap();
    let written = fs::metadata(&path).unwrap().modified().unwrap();
    status(&shares(&arguments, &[]));
    assert_eq!(
        fs::metadata(&path).unwrap().modified().unwrap(),
        written,
        "nothing may be derived again"
    );
    let digits = kept.lines().nth(2).unwrap().strip_prefix("key ").unwrap();
    assert_eq!(digits.len(), 64);
    status(&shares(&["--swarm-key", "another", "--state", state.to_str().unwrap()], &[]));
    assert_ne!(fs::read_to_string(&path).unwrap(), kept);
}
