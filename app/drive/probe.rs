//! Checks the network without a node: which interfaces there are, whether multicast loops back on
//! each, which machines are heard on the catalog's port, and whether the ports are free.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use smol::Timer;
use smol::future::{self, FutureExt};

use crate::id::Millis;
use crate::lan::{Interface, choose};
use crate::limits::{MAX_DATAGRAM_BYTES, MAX_PEERS};
use crate::node::Delivery;

use super::interfaces;
use super::net::{CatalogSocket, NetError, NetSettings, Sockets, free_port};

/// Number of times the multicast is sent: a radio may lose one.
const TRIES: usize = 3;
/// Wait after each.
const LOOP_TIMEOUT: Duration = Duration::from_millis(300);
/// The payload, sent to a port that nobody else listens on.
const WORD: &[u8] = b"potluck doctor";

/// A machine that was heard on the catalog's port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct HeardMachine {
    /// Through the group, rather than only at this machine's own address.
    pub by_multicast: bool,
    /// It has this swarm's key.
    pub of_swarm: bool,
    /// It is this machine: another node on it.
    pub is_own: bool,
}

/// See the module's header.
pub(crate) struct Probe {
    /// Every interface, and how it is used.
    pub interfaces: Vec<Interface>,
    /// The interfaces that are used, and whether multicast came back on them.
    pub loops: Vec<(String, bool)>,
    /// The machines heard, by address.
    pub heard: BTreeMap<IpAddr, HeardMachine>,
    /// How long ago the group was last heard, in milliseconds, by interface index.
    pub heard_ms: BTreeMap<u32, u64>,
}

/// The interfaces of this machine, and how each is used.
pub(crate) fn interfaces_of(net: &NetSettings) -> Vec<Interface> {
    interfaces::read(Path::new("/")).map_or_else(|_| Vec::new(), |all| choose(&all, &net.wanted))
}

/// Why a node could not open its ports; none if it could.
pub(crate) fn ports(net: &NetSettings) -> Option<NetError> {
    future::block_on(Sockets::open(net)).err()
}

/// Whether another program uses the catalog's port, as nodes on one machine do.
pub(crate) fn is_shared(net: &NetSettings) -> bool {
    UdpSocket::bind(("0.0.0.0", net.port)).is_err()
}

/// Why HTTP could not be served at this address; none if it could.
pub(crate) fn taken(addr: SocketAddr) -> Option<std::io::Error> {
    TcpListener::bind(addr).err()
}

/// Checks the network, and listens for `wait`. `is_ours` tells which datagrams belong to the swarm.
pub(crate) fn probe(
    net: &NetSettings,
    wait: Duration,
    mut is_ours: impl FnMut(SocketAddr, &[u8], Millis) -> bool,
) -> Result<Probe, NetError> {
    let loops = match free_port() {
        Ok(port) => loops(&NetSettings { port, peers: Vec::new(), ..net.clone() })?,
        Err(error) => return Err(NetError::UdpPort(0, error)),
    };
    let socket = CatalogSocket::open(net)?;
    let mut probe = Probe {
        interfaces: socket.interfaces(),
        loops,
        heard: BTreeMap::new(),
        heard_ms: BTreeMap::new(),
    };
    let start = Instant::now();
    let mut at: BTreeMap<u32, Instant> = BTreeMap::new();
    let mut buffer = [0; MAX_DATAGRAM_BYTES + 1];
    future::block_on(async {
        let over = async {
            Timer::after(wait).await;
        };
        let listen = async {
            loop {
                let Ok(arrival) = socket.receive(&mut buffer).await else { continue };
                let now = Millis(start.elapsed().as_millis() as u64);
                let of_swarm = is_ours(arrival.from, &buffer[..arrival.len], now);
                let (from, is_own) =
                    (arrival.from.ip().to_canonical(), socket.is_own(arrival.from.ip()));
                let by_multicast = matches!(arrival.delivery, Delivery::Multicast);
                if let Some(index) = arrival.index.filter(|_| !is_own) {
                    at.insert(index, Instant::now());
                }
                let is_known = probe.heard.contains_key(&from);
                if is_known || probe.heard.len() < MAX_PEERS {
                    let heard = probe.heard.entry(from).or_insert(HeardMachine {
                        by_multicast,
                        of_swarm,
                        is_own,
                    });
                    heard.by_multicast |= by_multicast;
                    heard.of_swarm |= of_swarm;
                }
            }
        };
        listen.or(over).await;
    });
    probe.heard_ms =
        at.into_iter().map(|(index, at)| (index, at.elapsed().as_millis() as u64)).collect();
    Ok(probe)
}

/// Which of the used interfaces loop a multicast back to this machine.
fn loops(net: &NetSettings) -> Result<Vec<(String, bool)>, NetError> {
    let socket = CatalogSocket::open(net)?;
    let used: Vec<Interface> = socket.interfaces().into_iter().filter(Interface::is_used).collect();
    let mut back: Vec<u32> = Vec::new();
    let mut buffer = [0; MAX_DATAGRAM_BYTES + 1];
    future::block_on(async {
        for _ in 0..TRIES {
            if used.iter().all(|interface| back.contains(&interface.index)) {
                return;
            }
            socket.send(WORD).await;
            let over = async {
                Timer::after(LOOP_TIMEOUT).await;
            };
            let listen = async {
                while used.iter().any(|interface| !back.contains(&interface.index)) {
                    let Ok(arrival) = socket.receive(&mut buffer).await else { continue };
                    back.extend(arrival.index.filter(|_| &buffer[..arrival.len] == WORD));
                }
            };
            listen.or(over).await;
        }
    });
    Ok(used
        .into_iter()
        .map(|interface| (interface.name, back.contains(&interface.index)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Network;
    use crate::lan::Wanted;

    fn loopback() -> NetSettings {
        let port = free_port().unwrap();
        NetSettings {
            wanted: Wanted::Address("127.0.0.1".parse().unwrap()),
            port,
            ..NetSettings::of(&Network::default())
        }
    }

    #[test]
    fn a_multicast_comes_back_on_loopback_and_a_free_port_is_told_from_a_taken_one() {
        let net = loopback();
        assert!(ports(&net).is_none());
        let probe = probe(&net, Duration::from_millis(50), |_, _, _| true).unwrap();
        assert!(probe.loops.iter().any(|(_, back)| *back), "{:?}", probe.loops);
        assert!(probe.heard.is_empty() && probe.heard_ms.is_empty());
        let taken_one = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = taken_one.local_addr().unwrap();
        assert!(taken(addr).is_some());
        assert!(ports(&NetSettings { tcp_port: addr.port(), ..net.clone() }).is_some());
        drop(taken_one);
        assert!(taken(addr).is_none());
        let _held = UdpSocket::bind(("0.0.0.0", net.port)).unwrap();
        assert!(is_shared(&net) && ports(&net).is_some());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "noise that lasts a while")]
    fn whoever_speaks_on_the_port_is_heard() {
        let net = loopback();
        let to = net.port;
        let speaking = std::thread::spawn(move || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            for _ in 0..20 {
                socket.send_to(b"noise", ("127.0.0.1", to)).unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let probe =
            probe(&net, Duration::from_millis(300), |_, bytes, _| bytes != b"noise").unwrap();
        speaking.join().unwrap();
        let heard = probe.heard[&"127.0.0.1".parse::<IpAddr>().unwrap()];
        assert_eq!(heard, HeardMachine { by_multicast: false, of_swarm: false, is_own: true });
    }
}
