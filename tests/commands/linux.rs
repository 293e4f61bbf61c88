//! What Linux users expect of a command: settings from the environment and the usual files, short
//! options, consistent JSON, completions and manual pages.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use serde_json::Value;

use super::*;

/// `potluck ask --json` with the settings file of a user who asks for three tokens.
fn ask(home: &TempDir) -> Command {
    let folder = home.path().join("potluck");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("potluck.toml"), "[answers]\nmax_tokens = 3\n[memory]\nslab = 16\n")
        .unwrap();
    let mut command = potluck();
    command.env("XDG_CONFIG_HOME", home.path()).env_remove("POTLUCK_CONFIG");
    command.args(["ask", "--json", "-m"]).arg(demo()).arg("Hello");
    command
}

fn output(command: &mut Command) -> Output {
    ended(command.spawn().unwrap())
}

fn generated(output: &Output) -> u64 {
    let event: Value = serde_json::from_str(&done(output)).unwrap();
    event["figures"]["generated"].as_u64().unwrap()
}

#[test]
fn an_option_wins_over_a_variable_that_over_a_file_that_was_found_and_the_file_is_named() {
    let home = tempfile::tempdir().unwrap();
    let by_file = output(&mut ask(&home));
    assert_eq!(generated(&by_file), 3);
    assert!(text(&by_file.stderr).contains("· settings from "), "{}", text(&by_file.stderr));
    assert!(text(&by_file.stderr).contains("potluck/potluck.toml"));
    let by_variable = output(ask(&home).env("POTLUCK_ANSWERS_MAX_TOKENS", "2"));
    assert_eq!(generated(&by_variable), 2);
    let by_option = output(ask(&home).env("POTLUCK_ANSWERS_MAX_TOKENS", "2").args(["-n", "1"]));
    assert_eq!(generated(&by_option), 1);
    let empty = output(ask(&home).env("POTLUCK_ANSWERS_MAX_TOKENS", ""));
    assert_eq!(generated(&empty), 3, "an empty variable sets nothing");
    let named = home.path().join("other.toml");
    fs::write(&named, "[answers]\nmax_tokens = 4\n[memory]\nslab = 16\n").unwrap();
    for command in [ask(&home).env("POTLUCK_CONFIG", &named), ask(&home).arg("-c").arg(&named)] {
        let output = output(command);
        assert_eq!(generated(&output), 4);
        assert!(
            !text(&output.stderr).contains("settings from"),
            "no note about a file that the user named"
        );
    }
    let none = output(ask(&home).env("POTLUCK_CONFIG", "").env("POTLUCK_MEMORY_SLAB", "16"));
    assert!(!text(&none.stderr).contains("settings from"));
}

/// Members of a socket's group often may not read the settings, which hold the swarm's key.
#[test]
fn a_console_needs_no_settings_that_this_user_may_not_read() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("potluck");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("potluck.toml"), "").unwrap();
    fs::set_permissions(folder.join("potluck.toml"), Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
    let mut command = potluck();
    command.env("XDG_CONFIG_HOME", home.path()).env_remove("POTLUCK_CONFIG").arg("console");
    if rustix::process::geteuid().is_root() {
        // Root may read every file.
        command.uid(65_534).gid(65_534);
    }
    let child = match command.spawn() {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            eprintln!("skipped: another user may not run this binary");
            return;
        }
        child => child.unwrap(),
    };
    let said = text(&ended(child).stderr);
    assert!(!said.contains("cannot be read") && !said.contains("settings from"), "{said}");
    for words in ["no node has a console at /run/potluck/console", "systemctl status potluck"] {
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_variable_that_cannot_be_meant_ends_the_command_and_says_which() {
    let home = tempfile::tempdir().unwrap();
    let plain = || {
        let mut command = potluck();
        command.args(["ask", "-m"]).arg(demo()).arg("Hello");
        command
    };
    let said = refused(&output(plain().env("POTLUCK_MEMORY_SLAB", "lots")));
    assert!(said.contains("POTLUCK_MEMORY_SLAB=lots: ") && said.contains("unset it"), "{said}");
    let said = refused(&output(plain().env("POTLUCK_CONFIG", home.path().join("missing.toml"))));
    assert!(said.contains("missing.toml"), "{said}");
}

#[test]
fn every_command_with_json_gives_an_event_a_line_errors_included() {
    let dir = tempfile::tempdir().unwrap();
    let settings = dir.path().join("potluck.toml");
    fs::write(&settings, "[memory]\nslab = 64\n").unwrap();
    let (model, settings, out) =
        (demo().display().to_string(), settings.display().to_string(), dir.path().join("out.gguf"));
    let out = out.display().to_string();
    let given: [(&str, &[&str]); 8] = [
        ("done", &["ask", "-j", "-n", "1", "--slab", "16", "-m", &model, "Hello"]),
        ("inspect", &["inspect", "-j", &model]),
        ("tokenize", &["tokenize", "-j", "-m", &model, "Hello"]),
        ("tokenize", &["tokenize", "--decode", "-j", "-m", &model, "5 6"]),
        ("key", &["key", "-j"]),
        ("config", &["config", "check", "-j", &settings]),
        ("written", &["synth", "-j", "--shape", "demo", &out]),
        (
            "bench",
            &[
                "bench",
                "-j",
                "--prefill",
                "1",
                "--depth",
                "1",
                "--steps",
                "1",
                "--runs",
                "1",
                "-m",
                &model,
            ],
        ),
    ];
    for (event, args) in given {
        let said = done(&run(args));
        let lines: Vec<Value> = said
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{said}")))
            .collect();
        assert_eq!((lines.len(), &lines[0]["event"]), (1, &event.into()), "{args:?}: {said}");
    }
    for args in [
        &["inspect", "-j", "missing.gguf"][..],
        &["config", "check", "-j", "missing.toml"],
        &["ask", "-j", "-m", "no", "Hi"],
    ] {
        let output = run(args);
        let said: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{args:?}: {}", text(&output.stdout)));
        assert_eq!((output.status.code(), &said["event"]), (Some(1), &"error".into()), "{args:?}");
        assert!(
            text(&output.stderr).contains(said["reason"].as_str().unwrap()),
            "the text must say the same: {}",
            text(&output.stderr)
        );
    }
}

#[test]
fn a_shell_takes_the_completions_and_the_pages_are_written_where_man_looks() {
    let script = done(&run(["completions", "bash"]));
    let mut bash = Command::new("bash");
    let asked = "COMP_WORDS=(potluck tok); COMP_CWORD=1; _potluck potluck tok potluck; echo \"${COMPREPLY[@]}\"";
    bash.args(["-c", &format!("{script}\n{asked}")]).stdout(Stdio::piped()).stderr(Stdio::piped());
    assert_eq!(done(&output(&mut bash)).trim(), "tokenize");
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().display().to_string();
    done(&run(["manual", "--all", &folder]));
    for page in
        ["man1/potluck.1", "man1/potluck-run.1", "man5/potluck.toml.5", "man7/potluck-console.7"]
    {
        assert!(text(&fs::read(dir.path().join(page)).unwrap()).contains(".TH"), "{page}");
    }
    assert!(refused(&run(["manual", "nonsense"])).contains("there is no page nonsense"));
}
