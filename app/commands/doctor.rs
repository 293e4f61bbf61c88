//! `potluck doctor`: checks whether this machine can run a node, and says what to fix. No node need
//! be running. If one is, the doctor shares its UDP port while it listens, and receives the
//! unicasts that were meant for it.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;

use crate::catalog::Prefilter;
use crate::config::Config;
use crate::console::{Check, NetPeer, Report};
use crate::drive::{
    HeardMachine, NetSettings, Probe, interfaces_of, is_shared, ports, probe, taken,
};
use crate::fronts::{
    Event, eprint_briefly, http_check, print, print_line, settings_checks, state_check,
    swarm_check, without_node,
};
use crate::keyring::Keyring;
use crate::start::{
    Cores, DOCTOR, EffectiveSettings, Kept, NodeSettings, Options, SetupError, Unread, alone,
    keyring, load, model, precision, within_memory,
};

use super::fail::Fail;
use super::usage::whole;

#[derive(Args)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    options: Options<DOCTOR>,
    /// Seconds to listen for other nodes, which send every 10 s when idle; 0 checks only this
    /// machine
    #[arg(long, value_name = "S", default_value_t = 11, value_parser = whole(0..=600_u32))]
    wait: u32,
    /// One JSON object instead of text
    #[arg(long)]
    pub(super) json: bool,
}

/// Runs the checks and prints the report. Fails if anything is wrong.
pub(super) fn run(args: DoctorArgs) -> Result<(), Fail> {
    let wait = Duration::from_secs(args.wait.into());
    let report = match args.options.effective() {
        Ok(effective) => look(&effective, wait, args.json),
        Err(unread) => Report::new(vec![unreadable(&unread)], Default::default()),
    };
    if args.json {
        print_line(Event::Doctor { doctor: &report }.line())?;
    } else {
        print(report.text())?;
    }
    if report.wrong() == 0 { Ok(()) } else { Err(Fail::Said) }
}

fn unreadable(unread: &Unread) -> Check {
    let what = if matches!(unread, Unread::Key(_)) { "swarm" } else { "settings" };
    Check::bad(what, unread.to_string())
}

fn look(effective: &EffectiveSettings, wait: Duration, quiet: bool) -> Report {
    let config = &effective.config;
    let mut checks = settings_checks(effective);
    checks.extend(model_checks(effective));
    checks.push(state_check(config.node.state.as_deref()));
    checks.push(swarm_check(effective.sharing()));
    checks.push(match config.http.listen.map(|listen| (listen.addr(), taken(listen.addr()))) {
        Some((addr, Some(error))) => {
            Check::bad("http", format!("{addr} is not available ({error}): set another listen in [http], or stop the program that uses it"))
        }
        _ => http_check(&config.http),
    });
    let net = NetSettings::of(&config.network);
    if !effective.sharing().is_on() {
        return Report::new(checks, without_node(effective, interfaces_of(&net)));
    }
    if let Some(error) = ports(&net) {
        checks.push(Check::bad("ports", error.to_string()));
        return Report::new(checks, without_node(effective, interfaces_of(&net)));
    }
    checks.push(ports_check(&net));
    if !quiet && !wait.is_zero() {
        eprint_briefly(format_args!("listening for other nodes for {} s\n", wait.as_secs()));
    }
    // If a passphrase cannot be stretched, report that; no node then counts as a member of the
    // swarm.
    let keys = keyring(effective.key.as_ref(), config.swarm.old_keys.keys(), None);
    checks.extend(keys.as_ref().err().map(|error| Check::bad("swarm", error.to_string())));
    let mut prefilter = Prefilter::new(keys.unwrap_or_else(|_| Keyring::open()));
    match probe(&net, wait, |from, bytes, now| prefilter.passes(from, bytes, now)) {
        Ok(found) => {
            checks.extend(network_checks(&found));
            let mut facts = without_node(effective, found.interfaces);
            facts.sharing = true;
            facts.heard_ms = found.heard_ms;
            facts.own_nodes = has_own_nodes(&found.heard);
            facts.peers = members(&found.heard);
            Report::new(checks, facts)
        }
        Err(error) => {
            checks.push(Check::bad("network", error.to_string()));
            Report::new(checks, without_node(effective, interfaces_of(&net)))
        }
    }
}

/// Checks the cores, the model as a node would load it, and its memory.
fn model_checks(effective: &EffectiveSettings) -> Vec<Check> {
    let config = &effective.config;
    let mut checks = Vec::new();
    match Cores::new(&config.model) {
        Ok(_) => checks
            .push(Check::good("cores", "this machine has the cores that the settings ask for")),
        Err(error) => checks.push(Check::bad("cores", error.to_string())),
    }
    let path = match model(effective) {
        Ok(path) => path,
        Err(error) => return [checks, vec![Check::bad("model", error.to_string())]].concat(),
    };
    // Keep nothing for the next start: no node starts here.
    match load(&path, config.model.tokenizer.as_deref(), precision(config), &Kept::at(None)) {
        Ok(loaded) => {
            let kind = if loaded.form.is_chat_model() {
                "a chat model"
            } else {
                "a base model, which completes texts"
            };
            checks.push(Check::good("model", format!("{}: {kind}", path.display())));
            checks.extend(loaded.notes.iter().map(|note| Check::note("model", note.clone())));
            checks.push(memory_check(config, &loaded));
        }
        Err(error) => checks.push(Check::bad("model", error.to_string())),
    }
    checks
}

fn memory_check(config: &Config, loaded: &crate::start::Loaded) -> Check {
    let node = NodeSettings { sharing: true, ..alone(config, loaded) };
    match within_memory(loaded, node) {
        Ok((_, notes)) => {
            Check::good("memory", notes.join("; ").trim_start_matches("memory: ").to_string())
        }
        Err(error @ SetupError::Memory(_)) => Check::bad("memory", error.to_string()),
        Err(error) => Check::bad("model", error.to_string()),
    }
}

fn ports_check(net: &NetSettings) -> Check {
    let tcp =
        if net.tcp_port == 0 { "any free port".to_string() } else { net.tcp_port.to_string() };
    let words = format!("UDP {} for the catalog, TCP {tcp} for blocks", net.port);
    if is_shared(net) {
        return Check::note(
            "ports",
            format!(
                "{words}; another program on this machine also uses the UDP port, most likely a node"
            ),
        );
    }
    Check::good("ports", words)
}

/// Checks whether multicasts come back and which nodes were heard.
fn network_checks(found: &Probe) -> Vec<Check> {
    let mut checks: Vec<Check> =
        found.loops.iter().map(|(name, is_back)| loop_check(name, *is_back)).collect();
    let strangers: Vec<String> = found
        .heard
        .iter()
        .filter(|(_, heard)| !heard.of_swarm)
        .map(|(ip, _)| ip.to_string())
        .collect();
    if has_own_nodes(&found.heard) {
        checks.push(Check::good("nodes", "nodes on this machine were heard"));
    }
    if !strangers.is_empty() {
        let words = format!(
            "{} send on this port with another key: nothing is shared with them",
            strangers.join(", ")
        );
        checks.push(Check::note("nodes", words));
    }
    checks
}

fn loop_check(name: &str, is_back: bool) -> Check {
    if is_back {
        return Check::good("group", format!("{name}: multicasts come back"));
    }
    let words = format!(
        "{name}: multicasts do not come back: a firewall drops them, or the interface has no route for them"
    );
    Check::bad("group", words)
}

/// Whether nodes of this swarm on this machine were heard.
fn has_own_nodes(heard: &BTreeMap<IpAddr, HeardMachine>) -> bool {
    heard.values().any(|heard| heard.is_own && heard.of_swarm)
}

/// The nodes of this swarm on other machines. Their names are unknown without talking to them.
fn members(heard: &BTreeMap<IpAddr, HeardMachine>) -> Vec<NetPeer> {
    let members = heard.iter().filter(|(_, heard)| heard.of_swarm && !heard.is_own);
    let heard = |of: &HeardMachine| if of.by_multicast { "multicast" } else { "unicast" };
    members
        .map(|(ip, of)| NetPeer {
            name: "a node".to_string(),
            addr: ip.to_string(),
            heard: heard(of),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Verdict;

    #[test]
    fn strangers_and_members_are_told_apart_and_a_silent_interface_is_a_fault() {
        let heard_of = |of_swarm, is_own| HeardMachine { by_multicast: true, of_swarm, is_own };
        let heard = BTreeMap::from([
            ("10.0.0.2".parse().unwrap(), heard_of(true, false)),
            ("10.0.0.3".parse().unwrap(), heard_of(false, false)),
            ("10.0.0.4".parse().unwrap(), heard_of(true, true)),
        ]);
        let members = members(&heard);
        assert_eq!(
            (members.len(), members[0].addr.as_str(), members[0].heard),
            (1, "10.0.0.2", "multicast")
        );
        let loops = vec![("eth0".to_string(), true), ("wlan0".to_string(), false)];
        let checks = network_checks(&Probe {
            interfaces: Vec::new(),
            loops,
            heard,
            heard_ms: BTreeMap::new(),
        });
        let verdicts: Vec<Verdict> = checks.iter().map(|check| check.verdict).collect();
        assert_eq!(verdicts, [Verdict::Good, Verdict::Bad, Verdict::Good, Verdict::Note]);
        assert!(
            checks[1].words.contains("firewall") && checks[3].words.contains("10.0.0.3"),
            "{checks:?}"
        );
    }
}
