//! The command `doctor`: what a node needs, item by item. `potluck doctor` shares the checks that
//! work without a node.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::config;
use crate::console::{Check, Report};
use crate::machine::memory;
use crate::start::{EffectiveSettings, Sharing};

use super::host::Host;
use super::net;

/// The report of a running node, or of a board whose node cannot start.
pub(super) fn report(host: &Host) -> Report {
    let effective = &host.effective;
    let mut checks = settings_checks(effective);
    let running = host.running();
    checks.push(match (&running, host.fault()) {
        (Ok(running), _) => {
            let kind = if running.form.is_chat_model() {
                "a chat model"
            } else {
                "a base model, which completes texts"
            };
            Check::good(
                "model",
                format!("{}, {kind}; context {} tokens", running.model, running.context),
            )
        }
        (Err(_), Some(reason)) => Check::bad("model", reason),
        (Err(reason), None) => Check::note("model", reason),
    });
    checks.extend(memory_check());
    checks.push(state_check(effective.config.node.state.as_deref()));
    checks.push(swarm_check(effective.sharing()));
    checks.push(match (host.served(), effective.config.http.listen) {
        (None, Some(_)) => Check::bad(
            "http",
            "it is not served: log says why; give another address or port as listen in [http]",
        ),
        _ => http_check(&effective.config.http),
    });
    Report::new(checks, net::facts(running.as_deref().ok(), effective))
}

/// Whether the settings are valid.
pub(crate) fn settings_checks(effective: &EffectiveSettings) -> Vec<Check> {
    let file = effective.file.as_ref().map(|file| file.display().to_string());
    if effective.problems.is_empty() {
        let words = file
            .map_or("no file is in use: every setting has its default".to_string(), |file| {
                format!("{file}: good")
            });
        return vec![Check::good("settings", words)];
    }
    effective.problems.iter().map(|problem| Check::bad("settings", problem.clone())).collect()
}

/// The memory that this process holds, and how much more is available.
fn memory_check() -> Option<Check> {
    let resident = memory::resident()?;
    let more = memory::available().map_or(String::new(), |available| {
        format!("; {} MB available", available.bytes / 1_000_000)
    });
    Some(Check::good(
        "memory",
        format!("{} MB held, mapped files among them{more}", resident.bytes / 1_000_000),
    ))
}

/// Whether a node can save its state in the state directory.
pub(crate) fn state_check(state: Option<&Path>) -> Check {
    let Some(state) = state else {
        return Check::note(
            "state",
            "no directory is set: a restart forgets this node's id and the swarm's epoch (state in [node])",
        );
    };
    match try_to_keep(state) {
        Ok(()) => Check::good("state", format!("{} can be written", state.display())),
        Err(error) => {
            let words = format!(
                "{}: cannot be written ({error}): give a directory that can, as state in [node]",
                state.display()
            );
            Check::bad("state", words)
        }
    }
}

/// Writes a file with an unused name, and removes it.
fn try_to_keep(state: &Path) -> io::Result<()> {
    fs::create_dir_all(state)?;
    let path = state.join(format!("doctor-{}", std::process::id()));
    let written = File::create_new(&path).and_then(|mut file| {
        file.write_all(b"potluck doctor\n")?;
        file.sync_all()
    });
    let removed = fs::remove_file(&path);
    written.and(removed)
}

/// Whom the node shares with.
pub(crate) fn swarm_check(sharing: Sharing<'_>) -> Check {
    let words = format!("{}: {sharing}", sharing.name());
    match sharing {
        Sharing::Shut(_) => Check::bad("swarm", words),
        Sharing::Open => Check::note("swarm", words),
        Sharing::Alone | Sharing::Locked { .. } => Check::good("swarm", words),
    }
}

/// Who may use the HTTP API.
pub(crate) fn http_check(settings: &config::Http) -> Check {
    let Some(listen) = settings.listen else {
        return Check::good("http", "off (listen in [http] turns it on)");
    };
    let addr = listen.addr();
    if settings.api_key.is_none() && !addr.ip().is_loopback() {
        let words = format!(
            "{addr}, open to anyone who can reach it: api_key in [http] keeps strangers out"
        );
        return Check::note("http", words);
    }
    Check::good("http", addr.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Verdict;

    #[test]
    fn a_directory_is_tried_by_writing_and_nothing_stays_in_it() {
        let root = tempfile::tempdir().unwrap();
        let state = root.path().join("deep/state");
        assert_eq!(state_check(Some(&state)).verdict, Verdict::Good);
        assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        let refused = state_check(Some(&file));
        assert!(
            refused.verdict == Verdict::Bad && refused.words.contains("state in [node]"),
            "{refused:?}"
        );
        assert_eq!(state_check(None).verdict, Verdict::Note);
    }

    #[test]
    fn an_api_for_everybody_is_said_to_be_one() {
        let http = |lines: &str| {
            let (config, problems) = config::Config::default()
                .read_over(format!("[http]\n{lines}").as_bytes(), Path::new(""));
            assert!(problems.is_empty(), "{problems:?}");
            http_check(&config.http).verdict
        };
        assert_eq!(http("listen = \"0.0.0.0:8080\"\n"), Verdict::Note);
        assert_eq!(http("listen = \"127.0.0.1:8080\"\n"), Verdict::Good);
        assert_eq!(http("listen = \"0.0.0.0:8080\"\napi_key = \"sk-1\"\n"), Verdict::Good);
        assert_eq!(http(""), Verdict::Good);
    }
}
