//! Gathers facts about the network and the board for the commands `net` and `doctor`. Every reader
//! takes the root directory of `/proc` and `/sys`.

use std::fs;
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
use crate::start::{EffectiveSettings, memory};

use super::host::Running;

/// 2025-01-01 in seconds since 1970: an earlier clock was never set.
const SET_AFTER_S: u64 = 1_735_689_600;

/// Linux counts a process's time in these ticks on every machine (USER_HZ).
const TICKS_PER_S: f64 = 100.0;

/// Time allowed for wpa_supplicant's reply: the node waits meanwhile.
const WPA_TIMEOUT: Duration = Duration::from_millis(200);

/// Most bytes read of its reply.
const WPA_BYTES: usize = 4_096;

/// Most bytes read of a file in `/proc` or `/sys`.
const MOST_BYTES: u64 = 16 << 10;

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
    NetFacts {
        wifi: radios.map(|interface| wifi(root, &interface.name)).collect(),
        interfaces,
        board: Board {
            card: card(state),
            clock_set: Some(is_set(SystemTime::now())),
            ..board(root)
        },
        ..NetFacts::default()
    }
}

/// Facts about the machine for `/metrics`; `state` is the node's state directory.
pub(super) fn machine(running: &Running, state: Option<&Path>, up: Millis) -> Machine {
    let root = Path::new("/");
    let Board { temperature_c, throttled, under_voltage, .. } = board(root);
    let radios = running.driver.lan().interfaces.into_iter().filter(|interface| interface.wireless);
    let signals = radios
        .filter_map(|interface| Some((interface.name.clone(), signal_dbm(root, &interface.name)?)));
    Machine {
        resident_bytes: memory::resident().map(|resident| resident.bytes),
        available_bytes: memory::available().map(|available| available.bytes),
        cpu_s: cpu_s(root),
        up_s: up.0 as f64 / 1e3,
        celsius: temperature_c.map(f64::from),
        throttled,
        under_voltage,
        signals: signals.collect(),
        card: state.and_then(card),
    }
}

/// The processor's temperature.
pub(super) fn celsius() -> Option<f32> {
    board(Path::new("/")).temperature_c
}

/// CPU seconds of this process: `utime` and `stime` in `/proc/self/stat`.
fn cpu_s(root: &Path) -> Option<f64> {
    let stat = text(root, "proc/self/stat")?;
    // The process's name, in parentheses, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) as f64 / TICKS_PER_S)
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

/// Free and total bytes of the file system that a path is on.
fn card(path: &Path) -> Option<(u64, u64)> {
    let of = rustix::fs::statvfs(path).ok()?;
    Some((of.f_bavail.saturating_mul(of.f_frsize), of.f_blocks.saturating_mul(of.f_frsize)))
        .filter(|(_, all)| *all > 0)
}

fn text(root: &Path, path: &str) -> Option<String> {
    let path = root.join(path);
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(
        &mut std::io::Read::take(fs::File::open(path).ok()?, MOST_BYTES),
        &mut bytes,
    )
    .ok()?;
    let text = String::from_utf8_lossy(&bytes)
        .trim_matches(|c: char| c.is_whitespace() || c == '\0')
        .to_string();
    Some(text).filter(|text| !text.is_empty())
}

/// Facts about the board.
fn board(root: &Path) -> Board {
    let zones = fs::read_dir(root.join("sys/class/thermal")).into_iter().flatten().flatten();
    let heat = zones.filter_map(|zone| text(&zone.path(), "temp")?.parse::<f32>().ok());
    let throttled = text(root, "sys/devices/platform/soc/soc:firmware/get_throttled");
    let alarm = || {
        let monitors = fs::read_dir(root.join("sys/class/hwmon")).into_iter().flatten().flatten();
        let mut volts =
            monitors.filter(|monitor| text(&monitor.path(), "name").as_deref() == Some("rpi_volt"));
        volts.find_map(|monitor| text(&monitor.path(), "in0_lcrit_alarm")).map(|alarm| alarm != "0")
    };
    Board {
        model: text(root, "proc/device-tree/model")
            .or_else(|| text(root, "sys/class/dmi/id/product_name")),
        temperature_c: heat
            .map(|milli| milli / 1e3)
            .filter(|celsius| (-40.0..150.0).contains(celsius))
            .reduce(f32::max),
        throttled: throttled
            .and_then(|hex| u32::from_str_radix(hex.trim_start_matches("0x"), 16).ok()),
        under_voltage: alarm(),
        ..Board::default()
    }
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
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_board_is_read_from_proc_and_sys_and_what_is_not_there_is_absent() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(board(root.path()), Board::default());
        write(root.path(), "proc/device-tree/model", "Raspberry Pi Zero 2 W Rev 1.0\0");
        write(root.path(), "sys/class/thermal/thermal_zone0/temp", "52300\n");
        write(root.path(), "sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n");
        write(root.path(), "sys/class/hwmon/hwmon1/name", "rpi_volt\n");
        write(root.path(), "sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n");
        let board = board(root.path());
        assert_eq!(board.model.as_deref(), Some("Raspberry Pi Zero 2 W Rev 1.0"));
        assert_eq!(
            (board.temperature_c, board.throttled, board.under_voltage),
            (Some(52.3), Some(0x5_0005), Some(true))
        );
    }

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
    fn the_time_of_a_process_is_read_whatever_it_is_called() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "proc/self/stat", "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20\n");
        assert_eq!(cpu_s(root.path()), Some(3.0));
        assert_eq!(cpu_s(&root.path().join("none")), None);
        assert!(cpu_s(Path::new("/")).is_some());
    }

    #[test]
    fn a_clock_of_the_last_century_is_not_set_and_the_card_has_a_size() {
        assert!(
            !is_set(UNIX_EPOCH + Duration::from_secs(60))
                && is_set(UNIX_EPOCH + Duration::from_secs(SET_AFTER_S + 1))
        );
        assert!(card(Path::new("/")).is_some_and(|(free, all)| free <= all));
        assert_eq!(card(Path::new("/no/such/path")), None);
    }
}
