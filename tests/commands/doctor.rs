//! `potluck doctor`: without starting a node, it says what a node would lack and how to fix it.

use std::net::{TcpListener, UdpSocket};

use serde_json::Value;

use super::*;

/// Its report with these options, on loopback and on a port of this test's own, and whether
/// all is well.
fn doctor(args: &[&str]) -> (Value, bool) {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let net = ["--interface", "127.0.0.1", "--port", &port];
    let output = run([&["doctor", "--json", "--wait", "0"], &net[..], args].concat());
    let mut event: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(event["event"], "doctor");
    (event["doctor"].take(), output.status.success())
}

/// An item's verdict and text.
fn verdict<'a>(report: &'a Value, what: &str) -> (&'a str, &'a str) {
    let checks = report["checks"].as_array().unwrap();
    let check = checks
        .iter()
        .find(|check| check["what"] == what)
        .unwrap_or_else(|| panic!("no item {what}: {report}"));
    (check["verdict"].as_str().unwrap(), check["words"].as_str().unwrap())
}

#[test]
fn all_that_a_node_needs_is_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let [model, state_text] = [demo(), &state].map(|path| path.to_str().unwrap());
    let (report, well) = doctor(&[
        "--model",
        model,
        "--state",
        state_text,
        "--swarm-key",
        "doctor's own",
        "--http",
        "127.0.0.1:0",
    ]);
    for what in ["settings", "cores", "model", "memory", "state", "swarm", "http", "ports", "group"]
    {
        assert_eq!(verdict(&report, what).0, "good", "{what}: {report}");
    }
    // Faults of the machine itself, such as a full card, are reported separately.
    assert_eq!(well, report["faults"].as_array().unwrap().is_empty(), "{report}");
    assert_eq!(
        fs::read_dir(&state).unwrap().count(),
        0,
        "something was left in the state directory"
    );
}

#[test]
fn each_thing_that_is_wrong_says_what_to_do_and_the_rest_is_looked_at_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("potluck.toml");
    fs::write(&file, "[memory]\nslab = \"much\"\n[node]\nstate = \"/dev/null/state\"\n").unwrap();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = held.local_addr().unwrap();
    let (port, http) = (taken.port().to_string(), taken.to_string());
    let (report, well) =
        doctor(&["--config", file.to_str().unwrap(), "--tcp-port", &port, "--http", &http]);
    assert!(!well);
    for (what, remedy) in [
        ("settings", "slab"),
        ("model", "put a .gguf file beside"),
        ("state", "give a directory"),
        ("http", "set another listen"),
        ("ports", "give another --tcp-port"),
    ] {
        let (verdict, words) = verdict(&report, what);
        assert!(verdict == "bad" && words.contains(remedy), "{what}: {verdict}: {words}");
    }
    assert_eq!(verdict(&report, "swarm").0, "note", "an open swarm deserves a note");
    let text = text(&run(["doctor", "--config", "/no/such/potluck.toml"]).stdout);
    assert!(text.starts_with("! settings") && text.contains("cannot be read"), "{text}");
}

#[test]
fn the_console_says_the_same_of_a_running_node() {
    let model = demo().to_str().unwrap();
    let output = fed(["run", "--alone", "--model", model], b"doctor\ndoctor --json\n");
    let text = done(&output);
    let line = |start: &str| {
        text.lines()
            .find(|line| line.starts_with(start))
            .unwrap_or_else(|| panic!("no {start} in {text}"))
    };
    assert!(line("model").contains("demo.gguf, a base model"), "{text}");
    assert!(
        line("memory").contains("MB held") && line("state").contains("no directory is set"),
        "{text}"
    );
    let report = text.lines().find_map(|line| serde_json::from_str::<Value>(line).ok()).unwrap();
    assert_eq!(verdict(&report["doctor"], "swarm").0, "good");
}
