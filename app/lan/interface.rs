//! Which interfaces a node shares on: every one with a LAN behind it, or the one named in
//! the settings.
//!
//! The kernel's type, flags and links say what an interface is, not its name. A tunnel and a
//! point-to-point line have no LAN, a container bridge leads to none outside this machine, and a
//! port of a bridge belongs to the bridge. Virtual Ethernet counts only on a machine that has
//! nothing else, such as a container; on other machines it leads to containers. Two interfaces in
//! one IPv4 network lead to the same LAN, which needs every datagram only once. Loopback is used
//! when there is nothing else, so that nodes on one machine share.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use crate::limits::MAX_INTERFACES;

const UP: u32 = 0x1;
const LOOPBACK: u32 = 0x8;
const POINT_TO_POINT: u32 = 0x10;
const NO_ARP: u32 = 0x80;
const MULTICAST: u32 = 0x1000;

/// The type of Ethernet and of everything that looks like it (ARPHRD_ETHER).
const ETHERNET: u32 = 1;

/// An address of an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Addr {
    /// The address.
    pub ip: IpAddr,
    /// Prefix length of its network.
    pub prefix: u8,
}

/// What an interface is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Hardware {
    /// The kernel's flags: up, loopback, point to point, multicast.
    pub flags: u32,
    /// Its type (ARPHRD).
    pub kind: u32,
    /// Its device type, such as "wlan"; empty for plain Ethernet.
    pub device: String,
    /// It belongs to a program (TUN, TAP).
    pub tun: bool,
    /// Whether one of its ports is hardware, if it is a bridge.
    pub bridge: Option<bool>,
    /// It is a port of a bridge or a bond.
    pub port: bool,
    /// It is hardware.
    pub physical: bool,
    /// A cable is plugged in, or a wireless network is joined.
    pub carrier: bool,
    /// How often the carrier has changed.
    pub carrier_changes: u64,
}

/// An interface as read from the system.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Facts {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Its addresses.
    pub addrs: Vec<Addr>,
    /// None if the system does not tell.
    pub hardware: Option<Hardware>,
}

/// The user's choice of interfaces.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) enum Wanted {
    /// Every suitable interface.
    #[default]
    Fit,
    /// The one with this address.
    Address(IpAddr),
    /// The one with this name.
    Name(String),
}

/// Whether an interface is used, and if not, why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// It is used for sharing.
    Used,
    /// The user named another one.
    NotNamed,
    /// It leads to no other machine.
    Loopback,
    /// It is switched off.
    Down,
    /// No cable is plugged in, and no wireless network is joined.
    NoCarrier,
    /// It has no address yet.
    NoAddress,
    /// It leads to one other machine, or through a program.
    Tunnel,
    /// It does not support multicast.
    NoMulticast,
    /// It is a port of a bridge or a bond.
    Port,
    /// It leads to containers or virtual machines.
    Containers,
    /// It leads to the same network as this one.
    SameNetwork(String),
    /// The limit of used interfaces is reached.
    TooMany,
}

/// An interface, and the verdict on it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Interface {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// The IPv4 address that peers see.
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 address for LANs without IPv4: link-local if there is one.
    pub v6: Option<Ipv6Addr>,
    /// It is a radio.
    pub wireless: bool,
    /// How often its carrier came or went.
    pub carrier_changes: u64,
    /// The verdict on it.
    pub verdict: Verdict,
}

impl Interface {
    /// Whether it is used for sharing.
    pub(crate) fn is_used(&self) -> bool {
        self.verdict == Verdict::Used
    }

    /// The state that its group membership depends on: when this changes, the group is
    /// joined again.
    pub(crate) fn state(&self) -> (u32, Option<Ipv4Addr>, Option<Ipv6Addr>, u64) {
        (self.index, self.v4, self.v6, self.carrier_changes)
    }

    /// The address that peers see.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.v4.map(IpAddr::V4).or(self.v6.map(IpAddr::V6))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Used => f.write_str("used"),
            Verdict::NotNamed => f.write_str("not the one named (interface in [network])"),
            Verdict::Loopback => f.write_str("leads to no other machine"),
            Verdict::Down => f.write_str("switched off"),
            Verdict::NoCarrier => f.write_str("no cable plugged in, or no network joined"),
            Verdict::NoAddress => f.write_str("no address yet"),
            Verdict::Tunnel => f.write_str("a tunnel or a line to one machine, no LAN"),
            Verdict::NoMulticast => f.write_str("does not do multicast"),
            Verdict::Port => f.write_str("a port of a bridge or a bond"),
            Verdict::Containers => {
                f.write_str("leads to containers or virtual machines of this machine")
            }
            Verdict::SameNetwork(other) => write!(f, "leads to the same network as {other}"),
            Verdict::TooMany => write!(f, "{MAX_INTERFACES} are used already"),
        }
    }
}

/// Decides on each interface. Used ones come first, wired before radios.
pub(crate) fn choose(all: &[Facts], wanted: &Wanted) -> Vec<Interface> {
    let has_hardware =
        all.iter().any(|facts| facts.hardware.as_ref().is_some_and(|hardware| hardware.physical));
    let mut chosen: Vec<Interface> =
        all.iter().map(|facts| judge(facts, wanted, has_hardware)).collect();
    chosen.sort_by_key(|interface| (!interface.is_used(), interface.wireless, interface.index));
    if *wanted == Wanted::Fit {
        spare_doubles(&mut chosen, all);
        let is_loopback = |interface: &Interface| interface.verdict == Verdict::Loopback;
        if !chosen.iter().any(Interface::is_used)
            && let Some(loopback) = chosen.iter_mut().find(|interface| is_loopback(interface))
        {
            loopback.verdict = Verdict::Used;
        }
    }
    let used = chosen.iter_mut().filter(|interface| interface.is_used());
    used.skip(MAX_INTERFACES).for_each(|interface| interface.verdict = Verdict::TooMany);
    chosen.sort_by_key(|interface| (!interface.is_used(), interface.wireless, interface.index));
    chosen
}

/// Of several interfaces in one IPv4 network, only the first is used.
fn spare_doubles(chosen: &mut [Interface], all: &[Facts]) {
    let network = |interface: &Interface| {
        let facts = all.iter().find(|facts| facts.index == interface.index)?;
        let addr = facts.addrs.iter().find(|addr| Some(addr.ip) == interface.v4.map(IpAddr::V4))?;
        let bits = u32::from(interface.v4?);
        Some((
            bits & u32::MAX.checked_shl(32 - u32::from(addr.prefix.min(32))).unwrap_or(0),
            addr.prefix,
        ))
    };
    let networks: Vec<_> = chosen.iter().map(network).collect();
    for at in 1..chosen.len() {
        let earlier = (0..at).find(|&other| {
            chosen[other].is_used() && networks[at].is_some() && networks[other] == networks[at]
        });
        if let (Some(other), true) = (earlier, chosen[at].is_used()) {
            chosen[at].verdict = Verdict::SameNetwork(chosen[other].name.clone());
        }
    }
}

fn judge(facts: &Facts, wanted: &Wanted, has_hardware: bool) -> Interface {
    let hardware = facts.hardware.clone().unwrap_or_default();
    let is_loopback =
        hardware.flags & LOOPBACK != 0 || facts.addrs.iter().any(|addr| addr.ip.is_loopback());
    let (mut v4, mut v6) = addresses(&facts.addrs, is_loopback);
    let verdict = match wanted {
        Wanted::Address(ip) => {
            let has =
                facts.addrs.iter().any(|addr| addr.ip == *ip) || is_loopback && ip.is_loopback();
            (v4, v6) = match ip {
                IpAddr::V4(ip) if has => (Some(*ip), None),
                IpAddr::V6(ip) if has => (None, Some(*ip)),
                _ => (v4, v6),
            };
            if has { Verdict::Used } else { Verdict::NotNamed }
        }
        Wanted::Name(name) if *name != facts.name => Verdict::NotNamed,
        Wanted::Name(_) => when_there(facts, &hardware, v4.is_some() || v6.is_some()),
        Wanted::Fit if is_loopback => Verdict::Loopback,
        Wanted::Fit => match unfit(facts.hardware.as_ref(), has_hardware) {
            Some(verdict) => verdict,
            None => when_there(facts, &hardware, v4.is_some() || v6.is_some()),
        },
    };
    let (name, index, carrier_changes) =
        (facts.name.clone(), facts.index, hardware.carrier_changes);
    Interface { name, index, v4, v6, wireless: hardware.device == "wlan", carrier_changes, verdict }
}

/// Why an interface of this kind is never used unless named.
fn unfit(hardware: Option<&Hardware>, has_hardware: bool) -> Option<Verdict> {
    let Hardware { flags, kind, device, tun, bridge, port, physical, .. } = hardware?;
    let through =
        ["wireguard", "vxlan", "geneve", "gre", "gretap", "ipip", "sit", "ip6tnl", "ppp", "hsr"];
    let on_hardware = ["vlan", "macvlan", "bond", "team", "bridge"];
    if flags & (POINT_TO_POINT | NO_ARP) != 0
        || *tun
        || *kind != ETHERNET
        || through.contains(&device.as_str())
    {
        Some(Verdict::Tunnel)
    } else if flags & MULTICAST == 0 {
        Some(Verdict::NoMulticast)
    } else if *port {
        Some(Verdict::Port)
    } else if *bridge == Some(false)
        || !physical && has_hardware && !on_hardware.contains(&device.as_str())
    {
        Some(Verdict::Containers)
    } else {
        None
    }
}

/// What a suitable interface still lacks, or that it is used.
fn when_there(facts: &Facts, hardware: &Hardware, has_address: bool) -> Verdict {
    match &facts.hardware {
        Some(_) if hardware.flags & UP == 0 => Verdict::Down,
        Some(_) if !hardware.carrier => Verdict::NoCarrier,
        _ if !has_address => Verdict::NoAddress,
        _ => Verdict::Used,
    }
}

/// The IPv4 and the IPv6 address that peers see.
fn addresses(addrs: &[Addr], is_loopback: bool) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
    let v4 = addrs.iter().find_map(|addr| match addr.ip {
        IpAddr::V4(ip) if !ip.is_unspecified() => Some(ip),
        _ => None,
    });
    let v6 = || {
        addrs.iter().filter_map(|addr| match addr.ip {
            IpAddr::V6(ip) if !ip.is_loopback() && !ip.is_unspecified() => Some(ip),
            _ => None,
        })
    };
    let link_local = v6().find(Ipv6Addr::is_unicast_link_local);
    (v4, link_local.or_else(|| v6().next()).filter(|_| !is_loopback))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(name: &str, index: u32, addrs: &[&str], hardware: Hardware) -> Facts {
        let addr = |text: &&str| {
            let (ip, prefix) = text.split_once('/').unwrap();
            Addr { ip: ip.parse().unwrap(), prefix: prefix.parse().unwrap() }
        };
        Facts {
            name: name.to_string(),
            index,
            addrs: addrs.iter().map(addr).collect(),
            hardware: Some(hardware),
        }
    }

    fn ethernet() -> Hardware {
        Hardware {
            flags: UP | MULTICAST,
            kind: ETHERNET,
            physical: true,
            carrier: true,
            ..Hardware::default()
        }
    }

    fn lo() -> Facts {
        facts(
            "lo",
            1,
            &["127.0.0.1/8", "::1/128"],
            Hardware { flags: UP | LOOPBACK, kind: 772, carrier: true, ..Hardware::default() },
        )
    }

    fn used(all: &[Facts], wanted: &Wanted) -> Vec<String> {
        choose(all, wanted)
            .into_iter()
            .filter(Interface::is_used)
            .map(|interface| interface.name)
            .collect()
    }

    fn verdict(all: &[Facts], name: &str) -> Verdict {
        choose(all, &Wanted::Fit)
            .into_iter()
            .find(|interface| interface.name == name)
            .unwrap()
            .verdict
    }

    /// A laptop with a VPN, Docker and a virtual machine.
    fn laptop() -> Vec<Facts> {
        let virtual_one = || Hardware { physical: false, ..ethernet() };
        let wlan = Hardware { device: "wlan".to_string(), ..ethernet() };
        let docker =
            Hardware { bridge: Some(false), device: "bridge".to_string(), ..virtual_one() };
        let tunnel = Hardware {
            flags: UP | POINT_TO_POINT | MULTICAST,
            kind: 65_534,
            tun: true,
            ..virtual_one()
        };
        vec![
            lo(),
            facts("docker0", 2, &["172.17.0.1/16"], docker),
            facts("tun0", 3, &["10.8.0.2/24"], tunnel),
            facts("wlan0", 4, &["192.168.1.5/24", "fe80::5/64"], wlan),
            facts("veth1", 5, &["fe80::7/64"], Hardware { port: true, ..virtual_one() }),
            facts("cali1", 6, &["fe80::8/64"], virtual_one()),
            facts("eth0", 7, &["10.0.0.5/8", "fd00::5/64", "fe80::6/64"], ethernet()),
        ]
    }

    #[test]
    fn every_interface_with_a_lan_is_used_and_each_other_has_its_reason() {
        let all = laptop();
        assert_eq!(used(&all, &Wanted::Fit), ["eth0", "wlan0"]);
        assert_eq!(verdict(&all, "docker0"), Verdict::Containers);
        assert_eq!(verdict(&all, "tun0"), Verdict::Tunnel);
        assert_eq!(verdict(&all, "veth1"), Verdict::Port);
        assert_eq!(verdict(&all, "cali1"), Verdict::Containers);
        assert_eq!(verdict(&all, "lo"), Verdict::Loopback);
        let eth0 = choose(&all, &Wanted::Fit).remove(0);
        assert_eq!((eth0.v4, eth0.v6), ("10.0.0.5".parse().ok(), "fe80::6".parse().ok()));
    }

    #[test]
    fn the_one_that_is_named_is_used_whatever_it_is() {
        let all = laptop();
        assert_eq!(used(&all, &Wanted::Name("wlan0".to_string())), ["wlan0"]);
        assert_eq!(used(&all, &Wanted::Name("tun0".to_string())), ["tun0"]);
        assert_eq!(used(&all, &Wanted::Address("172.17.0.1".parse().unwrap())), ["docker0"]);
        assert_eq!(used(&all, &Wanted::Address("127.0.0.2".parse().unwrap())), ["lo"]);
        assert!(used(&all, &Wanted::Address("10.9.9.9".parse().unwrap())).is_empty());
        let v6 = choose(&all, &Wanted::Address("fd00::5".parse().unwrap())).remove(0);
        assert_eq!((v6.v4, v6.v6), (None, "fd00::5".parse().ok()));
    }

    #[test]
    fn a_cable_in_the_house_is_followed_and_two_ways_to_one_network_are_one() {
        let mut all = laptop();
        all[3].addrs[0].ip = "10.3.0.9".parse().unwrap();
        all[3].addrs[0].prefix = 8;
        assert_eq!(verdict(&all, "wlan0"), Verdict::SameNetwork("eth0".to_string()));
        all[6].hardware.as_mut().unwrap().carrier = false;
        assert_eq!(
            (verdict(&all, "wlan0"), verdict(&all, "eth0")),
            (Verdict::Used, Verdict::NoCarrier)
        );
        all[3].addrs.clear();
        assert_eq!(verdict(&all, "wlan0"), Verdict::NoAddress);
        assert_eq!(used(&all, &Wanted::Fit), ["lo"], "nodes of one machine still share");
    }

    #[test]
    fn a_container_uses_its_virtual_ethernet_and_a_bridge_with_hardware_is_a_lan() {
        let veth = Hardware { physical: false, ..ethernet() };
        assert_eq!(
            used(&[lo(), facts("eth0", 2, &["10.77.9.1/24"], veth.clone())], &Wanted::Fit),
            ["eth0"]
        );
        let bridge = Hardware { bridge: Some(true), device: "bridge".to_string(), ..veth };
        let port = Hardware { port: true, ..ethernet() };
        let host =
            [lo(), facts("eth0", 2, &[], port), facts("br0", 3, &["192.168.1.2/24"], bridge)];
        assert_eq!(used(&host, &Wanted::Fit), ["br0"]);
    }

    #[test]
    fn no_more_are_used_than_there_are_sockets_for() {
        let many: Vec<Facts> = (0..20)
            .map(|n| facts(&format!("eth{n}"), 10 + n, &[&format!("10.0.{n}.1/24")], ethernet()))
            .collect();
        assert_eq!(used(&many, &Wanted::Fit).len(), MAX_INTERFACES);
        assert_eq!(verdict(&many, "eth19"), Verdict::TooMany);
    }
}
