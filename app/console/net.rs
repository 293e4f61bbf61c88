//! Describes the network and the board: what is there, what is wrong, and what to do about it.
//! Unknown values are left out.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use crate::lan::{Interface, RadioCounts, Step, Verdict};

/// Milliseconds without multicast from others after which a group counts as silent.
const SILENT_MS: u64 = 60_000;

/// Degrees Celsius from which a board of this class is throttled.
const HOT_C: f32 = 80.0;

/// Percentage of the card that should stay free: an update and a slab file need space.
const LEAST_FREE_PERCENT: u64 = 5;

/// Advice where peers should be heard and are not.
const LONELY: &str = "Are they on, on this network, with the same key, group and port? A guest network or client isolation keeps \
    them apart; naming one of two in peers in [network] shows it";

/// Signal in dBm below which Wi-Fi loses many packets.
const WEAK_DBM: i32 = -75;

/// A radio's network.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub(crate) struct Wifi {
    /// The interface.
    pub interface: String,
    /// The network's name.
    pub ssid: Option<String>,
    /// State as wpa_supplicant reports it: COMPLETED, SCANNING, 4WAY_HANDSHAKE.
    pub state: Option<String>,
    /// Signal strength.
    pub signal_dbm: Option<i32>,
}

/// The board.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub(crate) struct Board {
    /// The model name that it reports.
    pub model: Option<String>,
    /// Temperature of its hottest part.
    pub temperature_c: Option<f32>,
    /// The firmware's flags for voltage and heat: bits 0 to 3 now, 16 to 19 since the start.
    pub throttled: Option<u32>,
    /// Whether the supply voltage is too low, on boards that report only that.
    pub under_voltage: Option<bool>,
    /// Free and total bytes of the card.
    pub card: Option<(u64, u64)>,
    /// Whether the clock shows a time of this decade.
    pub clock_set: Option<bool>,
}

/// A peer, as `net` shows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct NetPeer {
    /// Its name.
    pub name: String,
    /// Its address.
    pub addr: String,
    /// "multicast", "unicast" or "not".
    pub heard: &'static str,
}

/// Everything that the command `net` shows.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub(crate) struct NetFacts {
    /// Whether the node shares at all.
    pub sharing: bool,
    /// Every interface, and whether it is used.
    pub interfaces: Vec<Interface>,
    /// Milliseconds since another machine was last heard through the group, by interface.
    pub heard_ms: BTreeMap<u32, u64>,
    /// How often a group membership was renewed.
    pub renewals: u64,
    /// Recovery steps tried on radios.
    pub radio: RadioCounts,
    /// Radios.
    pub wifi: Vec<Wifi>,
    /// Peers.
    pub peers: Vec<NetPeer>,
    /// Whether other nodes of this machine were heard, which are no peers.
    #[serde(skip)]
    pub own_nodes: bool,
    /// The board.
    pub board: Board,
}

impl NetFacts {
    /// One line for each fact, then the faults.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        if !self.sharing {
            text += "sharing  off: this node talks to no other\n";
        }
        for interface in &self.interfaces {
            let what = match (&interface.verdict, interface.address()) {
                (Verdict::Used, Some(address)) => format!("{address}{}", self.heard(interface)),
                (verdict, Some(address)) => format!("not used: {verdict} ({address})"),
                (verdict, None) => format!("not used: {verdict}"),
            };
            let _ = writeln!(text, "{:<8} {what}", interface.name);
        }
        for wifi in &self.wifi {
            let ssid = wifi
                .ssid
                .as_ref()
                .map_or("no network".to_string(), |ssid| super::harmless(ssid).to_string());
            let state = wifi.state.as_ref().map_or(String::new(), |state| {
                format!(", {}", super::harmless(state).to_lowercase())
            });
            let signal = wifi.signal_dbm.map_or(String::new(), |dbm| format!(", {dbm} dBm"));
            let _ = writeln!(text, "Wi-Fi    {}: {ssid}{state}{signal}", wifi.interface);
        }
        for peer in &self.peers {
            let heard = match peer.heard {
                "unicast" => "heard by address only",
                "multicast" => "heard by multicast",
                _ => "not heard lately",
            };
            let _ = writeln!(text, "peer     {} at {}: {heard}", peer.name, peer.addr);
        }
        if self.peers.is_empty() && self.sharing {
            let own = if self.own_nodes { "; nodes of this machine do not count" } else { "" };
            let advice = if self.has_lan() { format!(". {LONELY}") } else { String::new() };
            let _ = writeln!(text, "peers    none heard{own}{advice}");
        }
        self.board(&mut text);
        let RadioCounts { rejoins, bounces, reloads } = self.radio;
        if rejoins + bounces + reloads > 0 {
            let _ = writeln!(
                text,
                "radio    deaf: joined again {rejoins} times, down and up {bounces}, driver reloaded {reloads}"
            );
        }
        for fault in self.faults() {
            let _ = writeln!(text, "! {fault}");
        }
        text
    }

    fn heard(&self, interface: &Interface) -> String {
        match self.heard_ms.get(&interface.index) {
            Some(ms) => format!(", multicast heard {} s ago", ms / 1_000),
            None if is_loopback(interface) => ", this machine only".to_string(),
            None => ", no multicast of others heard".to_string(),
        }
    }

    fn board(&self, text: &mut String) {
        let Board { model, temperature_c, card, clock_set, .. } = &self.board;
        if let Some(model) = model {
            let _ = writeln!(text, "board    {}", super::harmless(model));
        }
        if let Some(celsius) = temperature_c {
            let _ = writeln!(text, "heat     {celsius:.0} °C");
        }
        if let Some(voltage) = self.board.voltage() {
            let _ = writeln!(text, "power    {voltage}");
        }
        if let Some((free, all)) = card {
            let _ = writeln!(
                text,
                "card     {:.1} of {:.1} GB free",
                *free as f64 / 1e9,
                *all as f64 / 1e9
            );
        }
        if let Some(set) = clock_set {
            let _ = writeln!(text, "clock    {}", if *set { "set" } else { "not set" });
        }
    }

    /// The interfaces in use that lead to other machines.
    fn lan(&self) -> impl Iterator<Item = &Interface> {
        self.interfaces.iter().filter(|interface| interface.is_used() && !is_loopback(interface))
    }

    fn has_lan(&self) -> bool {
        self.lan().next().is_some()
    }

    /// Faults, each with its remedy. Hearing no peer is not a fault: the node may be the only one.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let lan: Vec<&Interface> = self.lan().collect();
        if self.sharing
            && lan.is_empty()
            && !self.interfaces.iter().any(|interface| interface.verdict == Verdict::NotNamed)
        {
            faults.push(no_lan(&self.interfaces, false));
        }
        let silent = |interface: &&Interface| {
            self.heard_ms.get(&interface.index).is_none_or(|ms| *ms > SILENT_MS)
        };
        if self.sharing
            && !lan.is_empty()
            && self.peers.iter().any(|peer| peer.heard == "unicast")
            && lan.iter().all(silent)
        {
            faults.push(
                "multicast does not come through: switch off client isolation (guest network) or multicast filtering on the access \
                 point or switch, or name the peers in [network]"
                    .to_string(),
            );
        }
        faults.extend(self.wifi.iter().filter_map(wifi_fault));
        faults.extend(self.board.faults());
        faults
    }
}

impl Board {
    /// What is known about the supply voltage.
    fn voltage(&self) -> Option<&'static str> {
        let now = self.throttled.map(|bits| bits & 0x1 != 0).or(self.under_voltage)?;
        let before = self.throttled.is_some_and(|bits| bits & 0x1_0000 != 0);
        Some(match (now, before) {
            (true, _) => "the voltage is too low",
            (false, true) => "the voltage is good now, and was too low",
            (false, false) => "the voltage is good",
        })
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let bits = self.throttled.unwrap_or_default();
        if bits & 0x1 != 0 || self.under_voltage == Some(true) {
            faults.push(
                "the voltage is too low: take a power supply of 2.5 A and a short, thick cable"
                    .to_string(),
            );
        } else if bits & 0x1_0000 != 0 {
            faults.push(
                "the voltage has been too low since the start: a better power supply or cable keeps the board fast".to_string(),
            );
        }
        if bits & 0xe != 0 || self.temperature_c.is_some_and(|celsius| celsius >= HOT_C) {
            faults.push("the board is slowed down by heat: give it air or a heat sink".to_string());
        }
        if self.card.is_some_and(|(free, all)| free < all / 100 * LEAST_FREE_PERCENT) {
            faults.push(
                "the card is nearly full: remove files from it, or take a larger one".to_string(),
            );
        }
        if self.clock_set == Some(false) {
            faults.push(
                "the clock is not set: answers and sharing do not need it; it is set where the network has a time server"
                    .to_string(),
            );
        }
        faults
    }
}

fn is_loopback(interface: &Interface) -> bool {
    interface.v4.is_some_and(|ip| ip.is_loopback())
}

fn wifi_fault(wifi: &Wifi) -> Option<String> {
    let state = wifi.state.as_deref().unwrap_or("COMPLETED");
    match state {
        "COMPLETED" if wifi.signal_dbm.is_some_and(|dbm| dbm < WEAK_DBM && dbm > -120) => {
            Some(format!(
                "{}: the signal is weak: bring board and access point closer together",
                wifi.interface
            ))
        }
        "COMPLETED" => None,
        "4WAY_HANDSHAKE" | "GROUP_HANDSHAKE" => Some(format!(
            "{}: the access point refuses: is the password in [wifi] right?",
            wifi.interface
        )),
        "INTERFACE_DISABLED" => Some(format!(
            "{}: the radio is switched off: name a network in [wifi], and the country",
            wifi.interface
        )),
        _ => Some(format!(
            "{}: the network is not found: is ssid in [wifi] right, and the access point on 2.4 GHz?",
            wifi.interface
        )),
    }
}

/// Message when there is no LAN to share on: what is there instead, and what to do.
pub(crate) fn no_lan(interfaces: &[Interface], names_peers: bool) -> String {
    let kinds = [Verdict::Down, Verdict::NoCarrier, Verdict::NoAddress];
    let waiting: Vec<&Interface> =
        interfaces.iter().filter(|interface| kinds.contains(&interface.verdict)).collect();
    let each = |interface: &&Interface| format!("{}: {}", interface.name, interface.verdict);
    let what = match waiting.as_slice() {
        [] => "this machine has no network interface for a LAN".to_string(),
        waiting => waiting.iter().map(each).collect::<Vec<_>>().join("; "),
    };
    let needs = |verdict: &Verdict| waiting.iter().any(|interface| interface.verdict == *verdict);
    let remedy = if names_peers {
        "until there is one only the named peers are asked"
    } else if needs(&Verdict::NoAddress) {
        "is there a DHCP server on that network?"
    } else if needs(&Verdict::NoCarrier) {
        "plug in the cable, or look at ssid and password in [wifi]"
    } else if needs(&Verdict::Down) {
        "switch it on, or name a network in [wifi]"
    } else {
        "name one with --interface, or peers with --peer"
    };
    format!("no LAN to share on ({what}): {remedy}")
}

/// Message about a deaf radio and what was done about it.
pub(crate) fn deaf_radio(
    interface: &str,
    silent_s: u64,
    step: Step,
    failed: Option<&str>,
) -> String {
    let done = match step {
        Step::Rejoin => "joined the group again",
        Step::Bounce => "took it down and up",
        Step::Reload => "reloaded its driver",
        Step::Reboot => "rebooting the board",
    };
    match failed {
        None => format!("nothing was heard on {interface} for {silent_s} s: {done}"),
        Some(why) => format!(
            "nothing was heard on {interface} for {silent_s} s, and nothing was done ({why}): look at the access point, or restart this machine"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, v4: Option<[u8; 4]>, verdict: Verdict) -> Interface {
        let v4 = v4.map(Into::into);
        Interface {
            name: name.to_string(),
            index: 3,
            v4,
            v6: None,
            wireless: false,
            carrier_changes: 0,
            verdict,
        }
    }

    fn healthy() -> NetFacts {
        let peer = NetPeer {
            name: "shelf".to_string(),
            addr: "192.168.1.9:7000".to_string(),
            heard: "multicast",
        };
        NetFacts {
            sharing: true,
            interfaces: vec![interface("wlan0", Some([192, 168, 1, 5]), Verdict::Used)],
            heard_ms: BTreeMap::from([(3, 2_000)]),
            peers: vec![peer],
            board: Board {
                throttled: Some(0),
                clock_set: Some(true),
                card: Some((10, 20)),
                ..Board::default()
            },
            ..NetFacts::default()
        }
    }

    #[test]
    fn a_healthy_board_shows_its_address_and_no_fault() {
        let facts = healthy();
        assert_eq!(facts.faults(), Vec::<String>::new());
        let table = facts.table();
        assert!(
            table.contains("192.168.1.5")
                && table.contains("heard 2 s ago")
                && table.contains("shelf"),
            "{table}"
        );
        assert!(
            !table.contains("Wi-Fi") && !table.contains("heat"),
            "unknown values are left out: {table}"
        );
    }

    /// Whether one fault names this fault and this remedy.
    fn says(facts: &NetFacts, fault: &str, remedy: &str) -> bool {
        facts.faults().iter().any(|line| line.contains(fault) && line.contains(remedy))
    }

    #[test]
    fn each_fault_says_what_to_do() {
        let mut facts = healthy();
        facts.peers[0].heard = "unicast";
        facts.heard_ms.clear();
        assert!(says(&facts, "multicast does not come through", "client isolation"));
        facts.peers.clear();
        assert!(
            facts.table().contains("peers    none heard. Are they on")
                && facts.table().contains("same key")
        );
        facts.own_nodes = true;
        assert!(facts.table().contains("none heard; nodes of this machine do not count. Are they"));
        facts.interfaces[0].verdict = Verdict::NoCarrier;
        assert!(says(&facts, "no LAN", "plug in the cable"));
        facts.interfaces[0].verdict = Verdict::NoAddress;
        assert!(says(&facts, "no address yet", "DHCP"));
        facts.board = Board {
            throttled: Some(0x5_0005),
            card: Some((1, 1_000)),
            clock_set: Some(false),
            ..Board::default()
        };
        assert!(says(&facts, "voltage", "power supply") && says(&facts, "heat", "heat sink"));
        assert!(
            says(&facts, "card is nearly full", "remove") && says(&facts, "clock", "time server")
        );
        facts.board.throttled = Some(0x1_0000);
        assert!(says(&facts, "has been too low", "cable"));
        let wifi = |state: &str, dbm| Wifi {
            interface: "wlan0".to_string(),
            ssid: None,
            state: Some(state.to_string()),
            signal_dbm: dbm,
        };
        for (state, dbm, remedy) in [
            ("4WAY_HANDSHAKE", None, "password"),
            ("SCANNING", None, "ssid"),
            ("COMPLETED", Some(-82), "closer"),
            ("INTERFACE_DISABLED", None, "country"),
        ] {
            facts.wifi = vec![wifi(state, dbm)];
            assert!(says(&facts, "wlan0", remedy), "{state}: {:?}", facts.faults());
        }
        facts.wifi = vec![wifi("COMPLETED", Some(-50))];
        assert!(!says(&facts, "wlan0:", "signal"));
    }

    #[test]
    fn a_lone_machine_is_told_what_it_lacks_and_a_deaf_radio_what_was_done() {
        assert!(no_lan(&[], false).contains("--interface"));
        assert!(no_lan(&[interface("eth0", None, Verdict::Down)], true).contains("named peers"));
        assert!(deaf_radio("wlan0", 180, Step::Bounce, None).contains("down and up"));
        assert!(deaf_radio("wlan0", 180, Step::Reload, Some("no script")).contains("no script"));
    }
}
