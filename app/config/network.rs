//! The interface that a node shares on, and the addresses of peers that multicast does not reach,
//! as a person writes them.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::lan::Wanted;
use crate::limits::MAX_STATIC_PEERS;

use super::value::{Kind, Setting, single};

/// Bytes of the longest interface name in Linux.
const MAX_NAME_BYTES: usize = 15;

/// Where to share.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Interface(Wanted);

impl Interface {
    /// The choice.
    pub(crate) fn wanted(&self) -> &Wanted {
        &self.0
    }

    fn parse(text: &str) -> Option<Interface> {
        let wanted = match text.parse::<IpAddr>() {
            Ok(ip) if ip.is_unspecified() => Wanted::Fit,
            Ok(ip) if ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) => return None,
            // A link-local address means nothing without its interface: the user must name that.
            Ok(IpAddr::V6(ip)) if ip.is_unicast_link_local() => return None,
            Ok(ip) => Wanted::Address(ip),
            Err(_) => Wanted::Name(name(text)?),
        };
        Some(Interface(wanted))
    }
}

/// The name of an interface. A text that begins like an address is a mistyped address.
fn name(text: &str) -> Option<String> {
    let fits = (1..=MAX_NAME_BYTES).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_alphabetic());
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte));
    (fits && plain).then(|| text.to_string())
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Wanted::Fit => Ipv4Addr::UNSPECIFIED.fmt(f),
            Wanted::Address(ip) => ip.fmt(f),
            Wanted::Name(name) => f.write_str(name),
        }
    }
}

single!(
    Interface,
    Kind::Text,
    Interface::parse,
    Interface::to_string,
    "an address of this machine such as \"192.168.1.20\", or an interface's name such as \"wlan0\""
);

/// The address of a peer's catalog.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Peer {
    addr: SocketAddr,
    /// The interface through which a link-local address is reached, if it is named.
    zone: Option<String>,
}

impl Peer {
    /// The address; its scope is 0 if an interface is named.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// That interface.
    pub(crate) fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    fn parse(text: &str) -> Option<Peer> {
        let (addr, zone) = match text.split_once('%') {
            Some((ip, rest)) if !rest.starts_with(|first: char| first.is_ascii_digit()) => {
                let (zone, port) = rest.split_once(']')?;
                (format!("{ip}]{port}").parse().ok()?, Some(name(zone)?))
            }
            _ => (text.parse::<SocketAddr>().ok()?, None),
        };
        let ip = addr.ip();
        let is_host =
            !ip.is_unspecified() && !ip.is_multicast() && ip != IpAddr::V4(Ipv4Addr::BROADCAST);
        (is_host && addr.port() != 0 && ip == ip.to_canonical()).then_some(Peer { addr, zone })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.zone {
            Some(zone) => write!(f, "[{}%{zone}]:{}", self.addr.ip(), self.addr.port()),
            None => self.addr.fmt(f),
        }
    }
}

impl Setting for Vec<Peer> {
    const KIND: Kind = Kind::List;
    fn read(given: &[&str]) -> Result<Vec<Peer>, usize> {
        if given.len() > MAX_STATIC_PEERS {
            return Err(MAX_STATIC_PEERS);
        }
        given.iter().enumerate().map(|(at, text)| Peer::parse(text).ok_or(at)).collect()
    }
    fn show(&self) -> Vec<String> {
        self.iter().map(Peer::to_string).collect()
    }
    fn needs() -> String {
        format!(
            "a list of at most {MAX_STATIC_PEERS} addresses such as [\"192.168.1.20:7654\", \"[fe80::1%wlan0]:7654\"]"
        )
    }
    fn needs_one() -> String {
        format!(
            "an address and its port such as 192.168.1.20:7654 or [fe80::1%wlan0]:7654, at most {MAX_STATIC_PEERS} times,"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_named_by_an_address_or_a_name_and_a_mistyped_address_is_neither() {
        let wanted = |text| Interface::parse(text).map(|interface| interface.wanted().clone());
        assert_eq!(wanted("0.0.0.0"), Some(Wanted::Fit));
        assert_eq!(wanted("::"), Some(Wanted::Fit));
        assert_eq!(wanted("wlan0"), Some(Wanted::Name("wlan0".to_string())));
        assert_eq!(wanted("fd00::5"), Some(Wanted::Address("fd00::5".parse().unwrap())));
        for wrong in [
            "192.168.1.300",
            "239.1.1.1",
            "255.255.255.255",
            "",
            "a name",
            "a/b",
            "averyverylongname0",
            "ff02::1",
            "fe80::1",
        ] {
            assert_eq!(wanted(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_group_of_ipv6_follows_that_of_ipv4() {
        use super::super::value::Group;
        assert_eq!(Group::DEFAULT.v6().to_string(), "ff12::504c:efff:504c");
    }

    #[test]
    fn peers_are_addresses_of_either_kind_and_link_local_ones_name_their_interface() {
        for good in ["10.0.0.1:7654", "[fd00::1]:7654", "[fe80::1%wlan0]:7654", "[fe80::1%3]:7654"]
        {
            assert_eq!(Peer::parse(good).map(|peer| peer.to_string()).as_deref(), Some(good));
        }
        assert_eq!(Peer::parse("[fe80::1%wlan0]:7").unwrap().zone(), Some("wlan0"));
        for wrong in [
            "10.0.0.1",
            "10.0.0.1:0",
            "[ff02::1]:7",
            "239.1.1.1:7",
            "[::]:7",
            "[::ffff:10.0.0.1]:7",
            "[fe80::1%a b]:7",
        ] {
            assert_eq!(Peer::parse(wrong), None, "{wrong}");
        }
    }
}
