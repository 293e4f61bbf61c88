//! Gathers facts about the network and the board for the commands `net` and `doctor`, and for
//! `/metrics`. Radios are asked here, by their names; `machine` reads everything else.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::console::{Board, NetFacts, NetPeer, Wifi};
use crate::drive::{NetSettings, interfaces_of};
use crate::http::Machine;
use crate::id::Millis;
use crate::lan::{Interface, Verdict};
use crate::machine::board::{self, BoardFacts};
use crate::machine::{memory, process, text};
use crate::start::EffectiveSettings;

use super::host::Running;

/// 2025-01-01 in seconds since 1970: an earlier clock was never set.
const SET_AFTER_S: u64 = 1_735_689_600;

/// Time allowed for wpa_supplicant's reply: the node waits meanwhile.
const WPA_TIMEOUT: Duration = Duration::from_millis(200);

/// Most bytes read of its reply.
const WPA_BYTES: usize = 4_096;

/// Everything known, with or without a node.
pub(super) fn facts(running: Option<&Running>, effective: &EffectiveSettings) -> NetFacts {
    let of_node = running.map(|running| (running.driver.lan(), running.driver.status()));
    let sharing = effective.sharing().is_on();
    let Some((lan, status)) = of_node else {
        return NetFacts {
            sharing,
            ..without_node(effective, interfaces_of(&NetSettings::of(&effective.config.network)))
        };
    };
    let peer = |peer: &crate::node::PeerStatus| NetPeer {
        name: peer.name.label(peer.node),
        addr: peer.addr.to_string(),
        heard: peer.heard,
    };
    NetFacts {
        sharing,
        heard_ms: lan.heard_ms,
        renewals: lan.renewals,
        radio: lan.radio,
        peers: status.peers.iter().map(peer).collect(),
        ..without_node(effective, lan.interfaces)
    }
}

/// The facts about these interfaces and the board, without a node.
pub(crate) fn without_node(effective: &EffectiveSettings, interfaces: Vec<Interface>) -> NetFacts {
    let root = Path::new("/");
    let radios = interfaces.iter().filter(|interface| interface.wireless);
    let state = effective.config.node.state.as_deref().unwrap_or(root);
    let BoardFacts { model, temperature_c, throttled, under_voltage } = board::board(root);
    NetFacts {
        wifi: radios.map(|interface| wifi(root, &interface.name)).collect(),
        interfaces,
        board: Board {
            model,
            temperature_c,
            throttled,
            under_voltage,
            card: board::card(state),
            clock_set: Some(is_set(SystemTime::now())),
        },
        ..NetFacts::default()
    }
}

/// Facts about the machine for `/metrics`; `state` is the node's state directory.
pub(super) fn machine(running: &Running, state: Option<&Path>, up: Millis) -> Machine {
    let root = Path::new("/");
    let BoardFacts { temperature_c, throttled, under_voltage, .. } = board::board(root);
    let radios = running.driver.lan().interfaces.into_iter().filter(|interface| interface.wireless);
    let signals = radios
        .filter_map(|interface| Some((interface.name.clone(), signal_dbm(root, &interface.name)?)));
    Machine {
        resident_bytes: memory::resident().map(|resident| resident.bytes),
        available_bytes: memory::available().map(|available| available.bytes),
        cpu_s: process::cpu_s(root),
        up_s: up.0 as f64 / 1e3,
        celsius: temperature_c.map(f64::from),
        throttled,
        under_voltage,
        signals: signals.collect(),
        card: state.and_then(board::card),
    }
}

/// The processor's temperature.
pub(super) fn celsius() -> Option<f32> {
    board::board(Path::new("/")).temperature_c
}

/// The node's addresses with their interfaces, then the unused interfaces and why.
pub(super) fn address(interfaces: &[Interface]) -> String {
    let used = interfaces.iter().filter(|interface| interface.is_used());
    let used: Vec<String> = used
        .filter_map(|interface| Some(format!("{} ({})", interface.address()?, interface.name)))
        .collect();
    let unused = interfaces
        .iter()
        .filter(|interface| !interface.is_used() && interface.verdict != Verdict::Loopback);
    let unused: Vec<String> =
        unused.map(|interface| format!("{}: {}", interface.name, interface.verdict)).collect();
    let used = if used.is_empty() { "none".to_string() } else { used.join(", ") };
    if unused.is_empty() { used } else { format!("{used}; not used: {}", unused.join("; ")) }
}

fn is_set(now: SystemTime) -> bool {
    now.duration_since(UNIX_EPOCH).is_ok_and(|since| since.as_secs() > SET_AFTER_S)
}

/// A radio's network and its state.
fn wifi(root: &Path, interface: &str) -> Wifi {
    let status = wpa(root, interface, "STATUS").unwrap_or_default();
    Wifi {
        interface: interface.to_string(),
        ssid: value(&status, "ssid"),
        state: value(&status, "wpa_state"),
        signal_dbm: signal_dbm(root, interface),
    }
}

/// A radio's signal strength, from the kernel or else from wpa_supplicant.
fn signal_dbm(root: &Path, interface: &str) -> Option<i32> {
    let table = text(root, "proc/net/wireless").unwrap_or_default();
    let level = |line: &str| {
        let rest = line.trim().strip_prefix(interface)?.strip_prefix(':')?;
        rest.split_whitespace()
            .nth(2)?
            .trim_end_matches('.')
            .parse::<i32>()
            .ok()
            .filter(|dbm| *dbm < 0)
    };
    let poll = || value(&wpa(root, interface, "SIGNAL_POLL")?, "RSSI")?.parse().ok();
    table.lines().find_map(level).or_else(poll)
}

/// The value of a key in wpa_supplicant's reply.
fn value(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| Some(line.strip_prefix(key)?.strip_prefix('=')?.to_string()))
}

/// Sends wpa_supplicant one command over its control socket.
fn wpa(root: &Path, interface: &str, question: &str) -> Option<String> {
    let path =
        ["run/wpa_supplicant", "var/run/wpa_supplicant"].map(|dir| root.join(dir).join(interface));
    let path = path.iter().find(|path| path.exists())?;
    let own = format!("potluck-net-{}-{interface}", std::process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(own).ok()?).ok()?;
    socket.connect(path).ok()?;
    socket.set_read_timeout(Some(WPA_TIMEOUT)).ok()?;
    socket.set_write_timeout(Some(WPA_TIMEOUT)).ok()?;
    socket.send(question.as_bytes()).ok()?;
    let mut answer = vec![0; WPA_BYTES];
    loop {
        match socket.recv(&mut answer) {
            // A signal interrupts a read with a timeout: the reply is still to come.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            len => return Some(String::from_utf8_lossy(&answer[..len.ok()?]).into_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::machine::write;

    #[test]
    fn wifi_comes_from_proc_and_from_wpa_supplicant_where_that_answers() {
        let root = tempfile::tempdir().unwrap();
        let none = Wifi { interface: "wlan0".to_string(), ..Wifi::default() };
        assert_eq!(wifi(root.path(), "wlan0"), none);
        let table = "Inter-| sta-|   Quality\n face | tus | link level noise\n wlan0: 0000   54.  -56.  -256        0\n";
        write(root.path(), "proc/net/wireless", table);
        fs::create_dir_all(root.path().join("run/wpa_supplicant")).unwrap();
        let supplicant = UnixDatagram::bind(root.path().join("run/wpa_supplicant/wlan0")).unwrap();
        let answering = std::thread::spawn(move || {
            let mut question = [0; 64];
            let (len, from) = supplicant.recv_from(&mut question).unwrap();
            assert_eq!(&question[..len], b"STATUS");
            supplicant
                .send_to_addr(b"bssid=aa\nssid=My network\nwpa_state=COMPLETED\n", &from)
                .unwrap();
        });
        let wifi = wifi(root.path(), "wlan0");
        answering.join().unwrap();
        assert_eq!(
            (wifi.ssid.as_deref(), wifi.state.as_deref(), wifi.signal_dbm),
            (Some("My network"), Some("COMPLETED"), Some(-56))
        );
    }

    #[test]
    fn a_clock_of_the_last_century_is_not_set() {
        assert!(
            !is_set(UNIX_EPOCH + Duration::from_secs(60))
                && is_set(UNIX_EPOCH + Duration::from_secs(SET_AFTER_S + 1))
        );
    }
}
