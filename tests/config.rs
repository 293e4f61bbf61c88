//! `potluck.toml` through the binary: a good file is obeyed, a broken one is told and stops nothing, scripts get what they need.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use potluck::config::default_file;
use potluck::model::convert::ConvertType;
use potluck::model::synth::{Shape, synth};
use tempfile::TempDir;

/// A boot partition: a model that no file need name.
static BOOT: LazyLock<TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    synth(Shape::Demo, 7, ConvertType::Q8_0, &dir.path().join("demo.gguf"), &mut |_| {}).unwrap();
    dir
});

fn potluck(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_potluck")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// The same, with something on standard input, and the only model there is.
fn fed(arguments: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_potluck"));
    command.args(arguments).arg("--model").arg(BOOT.path().join("demo.gguf"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn out(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

/// Writes a file beside the model and gives its path.
fn file(name: &str, text: impl AsRef<[u8]>) -> String {
    let path = BOOT.path().join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_string()
}

/// A node that shares nothing, started with `file`; it ends at once, for its console is empty.
fn run(file: &str, options: &[&str]) -> Output {
    potluck(&[&["run", "--alone", "--config", file], options].concat())
}

#[test]
fn a_good_file_is_obeyed_and_options_override_it() {
    let file = file("good.toml", "[node]\nname = \"kitchen\"\nid = \"c0ffee\"\n[memory]\nslab = \"8 MB\"\n");
    let ran = run(&file, &[]);
    assert!(ran.status.success(), "{ran:?}");
    assert!(err(&ran).contains("kitchen (node 0000000000c0ffee) is ready with demo.gguf"), "{}", err(&ran));
    let ran = run(&file, &["--id", "1"]);
    assert!(err(&ran).contains("kitchen (node 0000000000000001)"), "{}", err(&ran));
    assert!(!err(&ran).contains("good.toml"), "there is nothing to say about a good file: {}", err(&ran));
}

#[test]
fn a_broken_file_is_told_line_by_line_and_the_node_comes_up_with_what_is_good() {
    let file = file(
        "broken.toml",
        b"[memory]\nslab = \"lots\"\ncontext = 99999999\n[node]\nid = \"c0ffee\"\nnmae = \"x\"\nname = kitchen\n\xff\n[m\n",
    );
    let ran = run(&file, &[]);
    assert!(ran.status.success(), "{ran:?}");
    for told in [
        ":2:8: slab = \"lots\": a size",
        ":3:11: context = 99999999",
        ":6:1: nmae is not known: did you mean name",
        ":7:8: ",
        ":8:1: ",
        ":9:3: ",
    ] {
        assert!(err(&ran).contains(&format!("{file}{told}")), "{told} is missing in\n{}", err(&ran));
    }
    assert!(err(&ran).contains("node 0000000000c0ffee is ready with demo.gguf"), "{}", err(&ran));
    let asked = potluck(&["ask", "--config", &file, "--max-tokens", "2", "hello"]);
    assert!(asked.status.success() && !out(&asked).is_empty(), "{asked:?}");
}

#[test]
fn a_file_of_noise_stops_nothing() {
    let noise: Vec<u8> = (0..5_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for file in [file("noise.toml", noise), file("endless.toml", vec![b'a'; 1 << 20])] {
        let ran = run(&file, &[]);
        assert!(ran.status.success(), "{ran:?}");
        assert!(err(&ran).contains(&file) && err(&ran).contains("is ready with demo.gguf"), "{}", err(&ran));
    }
}

/// On a PC a name that was mistyped must not start a node without its key; a board's consoles come up all the same.
#[test]
fn a_file_that_is_not_there_is_an_error_where_no_console_of_the_board_could_say_so() {
    let missing = BOOT.path().join("missing.toml");
    let (missing, folder) = (missing.to_str().unwrap(), BOOT.path().to_str().unwrap());
    for args in [
        vec!["run", "--alone", "--config", missing],
        vec!["run", "--alone", "--defaults", missing],
        vec!["run", "--alone", "--config", folder],
        vec!["ask", "--config", missing, "hello"],
        vec!["bench", "--config", missing],
        vec!["reset", "--config", missing],
    ] {
        let ran = potluck(&args);
        let said = err(&ran);
        assert_eq!((ran.status.code(), said.lines().count(), out(&ran)), (Some(1), 1, ""), "{args:?}: {said}");
        assert!(said.contains("cannot be read") && said.contains("leave the option out"), "{said}");
    }
}

#[test]
fn a_context_of_the_file_that_the_model_cannot_take_stops_nothing() {
    let file = file("context.toml", "[memory]\ncontext = 8192\n");
    assert!(run(&file, &[]).status.success());
    let ran = run(&file, &["--context", "8192"]);
    assert!(!ran.status.success() && err(&ran).contains("--context takes at most"), "{}", err(&ran));
}

#[test]
fn without_a_model_it_says_where_to_put_or_name_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("potluck.toml");
    fs::write(&path, "").unwrap();
    let file = path.to_str().unwrap();
    assert!(err(&run(file, &[])).contains("put a .gguf file beside"), "{}", err(&run(file, &[])));
    // One hidden, and one in two files.
    for name in ["a.gguf", "b.GGUF", "._a.gguf", "c-00001-of-00002.gguf", "c-00002-of-00002.gguf"] {
        fs::write(dir.path().join(name), "").unwrap();
    }
    assert!(err(&run(file, &[])).contains("a.gguf, b.GGUF, c-00001-of-00002.gguf lie beside"), "{}", err(&run(file, &[])));
    assert!(err(&potluck(&["run"])).contains("give --model FILE"));
    fs::write(&path, format!("[model]\nfile = {:?}", BOOT.path().join("demo.gguf"))).unwrap();
    assert!(run(file, &[]).status.success());
}

#[test]
fn options_are_checked_by_the_same_table() {
    for (option, value) in
        [("--slab", "lots"), ("--port", "0"), ("--announce", "601"), ("--temperature", "-1"), ("--group", "10.0.0.1")]
    {
        let ran = potluck(&["run", "--model", "x.gguf", option, value]);
        assert_eq!(ran.status.code(), Some(2), "{ran:?}");
        assert!(err(&ran).contains(&format!("{option} {value}: ")) && err(&ran).contains(" is needed"), "{}", err(&ran));
    }
    // One option takes one element of the list that the file has.
    for (option, value, needs) in
        [("--peer", "10.0.0.1", "an address and its port such as 192.168.1.20:7654"), ("--console", "tty", "/dev/ttyUSB0")]
    {
        let ran = potluck(&["run", "--model", "x.gguf", option, value]);
        assert!(err(&ran).contains(&format!("{option} {value}: ")) && err(&ran).contains(needs), "{}", err(&ran));
        assert!(!err(&ran).contains("a list of"), "{}", err(&ran));
    }
    let help = potluck(&["run", "--help"]);
    for told in ["--slab <MB>", "[default: 96 MB]", "--peer <ADDR:PORT>", "--config <FILE>"] {
        assert!(out(&help).contains(told), "{told} is missing in\n{}", out(&help));
    }
    assert!(!out(&potluck(&["ask", "--help"])).contains("--peer"), "a prompt alone needs no peers");
}

#[test]
fn check_tells_every_problem_or_what_a_good_file_sets() {
    let broken = file("check.toml", "[memory]\nslab = 0\ncontxt = 3\n");
    let checked = potluck(&["config", "check", &broken]);
    assert_eq!((checked.status.code(), out(&checked).lines().count()), (Some(1), 2), "{checked:?}");
    let good = file("check-good.toml", "[memory]\nslab = 64\ncontext = 2048\n[swarm]\nkey = \"sesame\"\n");
    let checked = potluck(&["config", "check", &good]);
    let expected = format!(
        "{good}: good\n  line 5: swarm.key = \"(hidden)\" (default: not set)\n  line 2: memory.slab = \"64 MB\" (default: \"96 MB\")\n"
    );
    assert_eq!((out(&checked), checked.status.success()), (expected.as_str(), true));
    let missing = potluck(&["config", "check", "no/such.toml"]);
    assert!(!missing.status.success() && err(&missing).contains("no/such.toml: cannot be read"), "{missing:?}");
}

#[test]
fn scripts_get_the_name_and_the_wifi_and_nobody_gets_a_secret() {
    let text = "[node]\nname = \"kitchen\"\n[wifi]\nssid = \"home\"\npassword = \"open sesame\"\n[memory]\nslab = lots\n[swarm]\nkey = \"sesame\"\n";
    let file = file("scripts.toml", text);
    assert_eq!(out(&potluck(&["config", "get", "node.name", &file])), "kitchen\n");
    assert_eq!(out(&potluck(&["config", "get", "node.state", &file])), "");
    let wifi = potluck(&["config", "wifi", &file]);
    let psk = "psk=613df7a59cc4227a0d7e51994dbd9c8d2199b35982c8ad1403ae207f38523156";
    assert!(out(&wifi).contains(psk) && !out(&wifi).contains("sesame") && err(&wifi).contains(":7:8:"), "{wifi:?}");
    for key in ["swarm.key", "wifi.password", "node.nmae"] {
        let refused = potluck(&["config", "get", key, &file]);
        assert!(!refused.status.success() && !format!("{refused:?}").contains("sesame"), "{refused:?}");
    }
    assert!(!format!("{:?}", run(&file, &[])).contains("sesame"));
    let none = potluck(&["config", "wifi", &self::file("no-wifi.toml", "")]);
    assert!(!none.status.success() && out(&none).is_empty(), "{none:?}");
}

/// What a node that would share says, on an interface of its own, when it is asked for its status and a prompt.
fn shares(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let net = ["run", "--interface", "127.0.0.1", "--port", "17654", "--group", "239.255.80.99", "--max-tokens", "3"];
    let model = BOOT.path().join("demo.gguf");
    let mut command = Command::new(env!("CARGO_BIN_EXE_potluck"));
    command.args(net).arg("--model").arg(model).args(arguments).envs(environment.iter().copied());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may end before it reads.
    let _ = child.stdin.take().unwrap().write_all(b"status\nhello\nstatus --json\n");
    child.wait_with_output().unwrap()
}

/// The event of the status, and the text of it.
fn status(ran: &Output) -> (serde_json::Value, &str) {
    assert!(ran.status.success(), "{ran:?}");
    let event = out(ran).lines().find(|line| line.starts_with("{\"event\":\"status\"")).unwrap_or_else(|| panic!("{ran:?}"));
    let text = out(ran).lines().find_map(|line| line.strip_prefix("swarm    ")).unwrap_or_else(|| panic!("{ran:?}"));
    (serde_json::from_str(event).unwrap(), text)
}

/// With any of these the node was in the swarm that needs no key, and a stranger without one took its state.
#[test]
fn a_swarm_section_or_a_file_that_cannot_be_understood_shares_nothing_and_says_so() {
    for (name, text, told) in [
        ("unclosed", "[swarm]\nkey = \"sesame\n[memory]\nslab = 64\n", ":2:7: key: a quotation mark"),
        ("number", "[swarm]\nkey = 12345\n", ":2:7: key = (hidden): a passphrase"),
        ("inner", "[swarm]\nkey = \"open \"sesame\"\"\n", ":2:"),
        ("unknown", "[swarm]\nkey = \"sesame\"\nkyes = 1\n", ":3:1: kyes is not known"),
        ("section", "[swram]\nkey = \"sesame\"\n", ":1:2: there is no section [swram]"),
        ("words", &format!("[swarm]\nkey = \"{}zoo\"\n", "zoo ".repeat(23)), ":2:7: key = (hidden)"),
        ("elsewhere", "[node]\nname = \"kitchen\n[swarm]\nkey = \"sesame\"\n", ":2:8: name: a quotation mark"),
    ] {
        let file = file(&format!("shut-{name}.toml"), text);
        let ran = shares(&["--config", &file], &[]);
        let (event, said) = status(&ran);
        assert_eq!(event["swarm"]["sharing"], "shut", "{text}");
        assert!(event["swarm"]["reason"].as_str().unwrap().starts_with(&format!("{file}{told}")), "{event}");
        assert!(said.starts_with(&format!("shut: {file}{told}")) && said.ends_with("mend it and start again"), "{said}");
        assert!(err(&ran).contains(&format!("! nothing is shared: {file}{told}")), "{}", err(&ran));
        assert!(err(&ran).contains("generated; TTFT"), "it answers all the same: {}", err(&ran));
        assert!(!format!("{ran:?}").contains("sesame"), "{ran:?}");
        // What is not opened cannot be asked.
        let ready = fed(&["run", "--json", "--interface", "127.0.0.1", "--port", "17654", "--config", &file], b"");
        let ready = out(&ready).lines().find(|line| line.starts_with("{\"event\":\"ready\"")).unwrap();
        let ready: serde_json::Value = serde_json::from_str(ready).unwrap();
        assert_eq!(ready["tcp_port"], 0, "there is no port for blocks");
        let ordered = potluck(&["reset", "--interface", "127.0.0.1", "--port", "17654", "--config", &file]);
        assert_eq!(ordered.status.code(), Some(1), "{ordered:?}");
        assert!(err(&ordered).contains(&format!("nobody was reset: {file}{told}")), "{}", err(&ordered));
    }
}

#[test]
fn former_keys_without_a_present_one_open_no_swarm() {
    let ran = shares(&["--config", &file("former-only.toml", "[swarm]\nold_keys = [\"sesame\"]\n")], &[]);
    let (event, said) = status(&ran);
    assert_eq!(event["swarm"]["sharing"], "shut", "{event}");
    assert!(said.starts_with("shut: old_keys without a key"), "{said}");
    assert!(!format!("{ran:?}").contains("sesame"), "{ran:?}");
}

#[test]
fn an_open_swarm_is_said_to_be_open_and_a_locked_one_to_be_locked() {
    for (name, text) in [("none", ""), ("empty", "[swarm]\nkey = \"\"\n"), ("slip", "[memory]\nslap = 3\nslab = 64 MB\n")] {
        let ran = shares(&["--config", &file(&format!("open-{name}.toml"), text)], &[]);
        let (event, said) = status(&ran);
        assert_eq!((&event["swarm"]["sharing"], said.split(':').next()), (&"open".into(), Some("open")), "{text}");
        assert_eq!(err(&ran).matches("the swarm is open: whoever is on this network").count(), 1, "{}", err(&ran));
    }
    let drawn = "7f".repeat(32);
    let text = format!("[swarm]\nkey = \"{drawn}\"\nold_keys = [\"sesame\", \"open\"]\n");
    let ran = shares(&["--config", &file("locked.toml", text)], &[]);
    let (event, said) = status(&ran);
    assert_eq!((&event["swarm"]["sharing"], &event["swarm"]["old_keys"]), (&"locked".into(), &2.into()));
    assert_eq!(said, "locked: with a key; 2 former keys are known");
    assert!(!err(&ran).contains("open") && !format!("{ran:?}").contains(&drawn), "{ran:?}");
    let (event, _) = status(&shares(&["--alone"], &[]));
    assert_eq!(event["swarm"]["sharing"], "alone");
}

/// A key on the command line stands in the list of processes.
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
    assert!(event["swarm"]["reason"].as_str().unwrap().contains("lost.key: cannot be read"), "{event}");
    // What was named at the start and is of no use ends it: an empty variable of a script opens nothing.
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
        assert_eq!((ran.status.code(), out(&ran)), (Some(code), ""), "{arguments:?} {environment:?}: {}", err(&ran));
    }
    let asked = Command::new(env!("CARGO_BIN_EXE_potluck"))
        .args(["ask", "--max-tokens", "1", "--model"])
        .arg(BOOT.path().join("demo.gguf"))
        .arg("hello")
        .env(VARIABLE, "")
        .output()
        .unwrap();
    assert!(asked.status.success(), "who talks to nobody needs no key: {asked:?}");
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
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written, "nothing was to be made anew");
    let digits = kept.lines().nth(2).unwrap().strip_prefix("key ").unwrap();
    assert_eq!(digits.len(), 64);
    status(&shares(&["--swarm-key", "another", "--state", state.to_str().unwrap()], &[]));
    assert_ne!(fs::read_to_string(&path).unwrap(), kept);
}

#[test]
fn a_wifi_password_that_cannot_be_used_gives_the_radio_nothing() {
    for (name, wrong) in [
        ("short", "password = \"short\""),
        ("umlaut", "password = \"p\u{e4}ssw\u{f6}rter\""),
        ("backslash", "password = \"back\\slash\""),
        ("slip", "passwrod = \"open sesame\""),
        ("unclosed", "password = \"open sesame"),
    ] {
        let file = file(&format!("wifi-{name}.toml"), format!("[wifi]\nssid = \"home\"\n{wrong}\n"));
        let wifi = potluck(&["config", "wifi", &file]);
        assert_eq!((wifi.status.code(), out(&wifi)), (Some(1), ""), "{wrong}");
        assert!(
            err(&wifi).lines().last().unwrap().contains(&format!("{file}:3:")),
            "the board's log keeps the last line: {wifi:?}"
        );
        assert!(!err(&wifi).contains("sesame"), "{wifi:?}");
    }
}

#[test]
fn the_default_file_is_printed_and_good() {
    let printed = potluck(&["config", "default"]);
    assert_eq!(out(&printed), default_file());
    let path = file("default.toml", out(&printed));
    assert_eq!(out(&potluck(&["config", "check", &path])), format!("{path}: good\n"));
    assert!(Path::new(&path).exists());
}
