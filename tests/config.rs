//! `potluck.toml` through the binary: a good file is obeyed, a broken one is reported but stops
//! nothing, and scripts get what they need. `swarm` has the settings of a swarm.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use potluck::config::default_file;
use potluck::model::convert::ConvertType;
use potluck::model::synth::{Shape, synth};
use tempfile::TempDir;

mod swarm;

/// A boot partition with a model that settings need not name.
static BOOT: LazyLock<TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    synth(Shape::Demo, 7, ConvertType::Q8_0, &dir.path().join("demo.gguf"), &mut |_| {}).unwrap();
    dir
});

fn potluck(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_potluck"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn out(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

/// Writes a file next to the model. Returns its path.
fn file(name: &str, text: impl AsRef<[u8]>) -> String {
    let path = BOOT.path().join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_string()
}

/// Runs a node with sharing off and settings `file`; it exits at once, because its console
/// input is empty.
fn run(file: &str, options: &[&str]) -> Output {
    potluck(&[&["run", "--alone", "--config", file], options].concat())
}

#[test]
fn a_good_file_is_obeyed_and_options_override_it() {
    let file = file(
        "good.toml",
        "[node]\nname = \"kitchen\"\nid = \"c0ffee\"\n[memory]\nslab = \"8 MB\"\n",
    );
    let ran = run(&file, &[]);
    assert!(ran.status.success(), "{ran:?}");
    assert!(
        err(&ran).contains("kitchen (node 0000000000c0ffee) is ready with demo.gguf"),
        "{}",
        err(&ran)
    );
    let ran = run(&file, &["--id", "1"]);
    assert!(err(&ran).contains("kitchen (node 0000000000000001)"), "{}", err(&ran));
    assert!(!err(&ran).contains("good.toml"), "a good file needs no message: {}", err(&ran));
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
        assert!(
            err(&ran).contains(&format!("{file}{told}")),
            "{told} is missing in\n{}",
            err(&ran)
        );
    }
    assert!(err(&ran).contains("node 0000000000c0ffee is ready with demo.gguf"), "{}", err(&ran));
    let asked = potluck(&["ask", "--config", &file, "--max-tokens", "2", "hello"]);
    assert!(asked.status.success() && !out(&asked).is_empty(), "{asked:?}");
}

#[test]
fn a_file_of_noise_stops_nothing() {
    let noise: Vec<u8> =
        (0..5_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for file in [file("noise.toml", noise), file("endless.toml", vec![b'a'; 1 << 20])] {
        let ran = run(&file, &[]);
        assert!(ran.status.success(), "{ran:?}");
        assert!(
            err(&ran).contains(&file) && err(&ran).contains("is ready with demo.gguf"),
            "{}",
            err(&ran)
        );
    }
}

/// On a PC, a mistyped file name must not start a node without its key; a board's consoles start
/// all the same.
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
        assert_eq!(
            (ran.status.code(), said.lines().count(), out(&ran)),
            (Some(1), 1, ""),
            "{args:?}: {said}"
        );
        assert!(said.contains("cannot be read") && said.contains("leave the option out"), "{said}");
    }
}

#[test]
fn a_context_of_the_file_that_the_model_cannot_take_stops_nothing() {
    let file = file("context.toml", "[memory]\ncontext = 8192\n");
    assert!(run(&file, &[]).status.success());
    let ran = run(&file, &["--context", "8192"]);
    assert!(
        !ran.status.success() && err(&ran).contains("--context takes at most"),
        "{}",
        err(&ran)
    );
}

#[test]
fn without_a_model_it_says_where_to_put_or_name_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("potluck.toml");
    fs::write(&path, "").unwrap();
    let file = path.to_str().unwrap();
    let output = run(file, &[]);
    let none = err(&output);
    assert!(none.contains("put a .gguf file beside"), "{none}");
    assert!(none.contains(&format!("file in [model] of {file}, or --model FILE")), "{none}");
    // One is hidden, and one is in two parts.
    for name in ["a.gguf", "b.GGUF", "._a.gguf", "c-00001-of-00002.gguf", "c-00002-of-00002.gguf"] {
        fs::write(dir.path().join(name), "").unwrap();
    }
    assert!(
        err(&run(file, &[])).contains("a.gguf, b.GGUF, c-00001-of-00002.gguf lie beside"),
        "{}",
        err(&run(file, &[]))
    );
    assert!(err(&potluck(&["run"])).contains("give --model FILE"));
    fs::write(&path, format!("[model]\nfile = {:?}", BOOT.path().join("demo.gguf"))).unwrap();
    assert!(run(file, &[]).status.success());
}

#[test]
fn options_are_checked_by_the_same_table() {
    for (option, value) in [
        ("--slab", "lots"),
        ("--port", "0"),
        ("--announce", "601"),
        ("--temperature", "-1"),
        ("--group", "10.0.0.1"),
    ] {
        let ran = potluck(&["run", "--model", "x.gguf", option, value]);
        assert_eq!(ran.status.code(), Some(2), "{ran:?}");
        assert!(
            err(&ran).contains(&format!("{option} {value}: ")) && err(&ran).contains(" is needed"),
            "{}",
            err(&ran)
        );
    }
    // An option takes one element of the list in the file.
    for (option, value, needs) in [
        ("--peer", "10.0.0.1", "an address and its port such as 192.168.1.20:7654"),
        ("--console", "tty", "/dev/ttyUSB0"),
    ] {
        let ran = potluck(&["run", "--model", "x.gguf", option, value]);
        assert!(
            err(&ran).contains(&format!("{option} {value}: ")) && err(&ran).contains(needs),
            "{}",
            err(&ran)
        );
        assert!(!err(&ran).contains("a list of"), "{}", err(&ran));
    }
    let help = potluck(&["run", "--help"]);
    for told in ["--slab <MB>", "[default: 96 MB]", "--peer <ADDR:PORT>", "--config <FILE>"] {
        assert!(out(&help).contains(told), "{told} is missing in\n{}", out(&help));
    }
    assert!(
        !out(&potluck(&["ask", "--help"])).contains("--peer"),
        "a single prompt needs no peers"
    );
}

#[test]
fn check_tells_every_problem_or_what_a_good_file_sets() {
    let broken = file("check.toml", "[memory]\nslab = 0\ncontxt = 3\n");
    let checked = potluck(&["config", "check", &broken]);
    assert_eq!((checked.status.code(), out(&checked).lines().count()), (Some(1), 2), "{checked:?}");
    let good =
        file("check-good.toml", "[memory]\nslab = 64\ncontext = 2048\n[swarm]\nkey = \"sesame\"\n");
    let checked = potluck(&["config", "check", &good]);
    let expected = format!(
        "{good}: good\n  line 5: swarm.key = \"(hidden)\" (default: not set)\n  line 2: memory.slab = \"64 MB\" (default: \"96 MB\")\n"
    );
    assert_eq!((out(&checked), checked.status.success()), (expected.as_str(), true));
    let missing = potluck(&["config", "check", "no/such.toml"]);
    assert!(
        !missing.status.success() && err(&missing).contains("no/such.toml: cannot be read"),
        "{missing:?}"
    );
}

#[test]
fn scripts_get_the_name_and_the_wifi_and_nobody_gets_a_secret() {
    let text = "[node]\nname = \"kitchen\"\n[wifi]\nssid = \"home\"\npassword = \"open sesame\"\n[memory]\nslab = lots\n[swarm]\nkey = \"sesame\"\n";
    let file = file("scripts.toml", text);
    assert_eq!(out(&potluck(&["config", "get", "node.name", &file])), "kitchen\n");
    assert_eq!(out(&potluck(&["config", "get", "node.state", &file])), "");
    let wifi = potluck(&["config", "wifi", &file]);
    let psk = "psk=613df7a59cc4227a0d7e51994dbd9c8d2199b35982c8ad1403ae207f38523156";
    assert!(
        out(&wifi).contains(psk) && !out(&wifi).contains("sesame") && err(&wifi).contains(":7:8:"),
        "{wifi:?}"
    );
    for key in ["swarm.key", "wifi.password", "node.nmae"] {
        let refused = potluck(&["config", "get", key, &file]);
        assert!(
            !refused.status.success() && !format!("{refused:?}").contains("sesame"),
            "{refused:?}"
        );
    }
    assert!(!format!("{:?}", run(&file, &[])).contains("sesame"));
    let none = potluck(&["config", "wifi", &self::file("no-wifi.toml", "")]);
    assert!(!none.status.success() && out(&none).is_empty(), "{none:?}");
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
        let file =
            file(&format!("wifi-{name}.toml"), format!("[wifi]\nssid = \"home\"\n{wrong}\n"));
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
