//! The sockets of a node: those of the catalog (`datagrams`), and the listener for transfers.
//!
//! All are opened from one [`NetSettings`]. What cannot be opened is a [`NetError`] that says which
//! setting to change.

mod datagrams;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use async_net::TcpListener;
use smol::Async;
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

use crate::config;
use crate::lan::Wanted;

pub(super) use datagrams::{Arrival, CatalogSocket};

/// The swarm's network settings.
#[derive(Clone, Debug)]
pub(crate) struct NetSettings {
    /// Which interface or address to share on.
    pub wanted: Wanted,
    /// Multicast group of the catalog.
    pub group: Ipv4Addr,
    /// The same for interfaces without IPv4.
    pub group_v6: Ipv6Addr,
    /// UDP port of the catalog.
    pub port: u16,
    /// TCP port on which blocks are served; 0 picks any free one.
    pub tcp_port: u16,
    /// Catalog addresses of peers that multicast does not reach.
    pub peers: Vec<config::Peer>,
    /// Milliseconds between announcements.
    pub interval_ms: u64,
    /// Whether a permanently deaf radio may cause a reboot of the board.
    pub radio_reboot: bool,
}

impl NetSettings {
    /// The settings of `[network]`.
    pub(crate) fn of(network: &config::Network) -> NetSettings {
        NetSettings {
            wanted: network.interface.wanted().clone(),
            group: network.group.addr(),
            group_v6: network.group.v6(),
            port: network.port.number(),
            tcp_port: network.tcp_port,
            peers: network.peers.clone(),
            interval_ms: network.announce.get() as u64 * 1_000,
            radio_reboot: network.radio_reboot,
        }
    }

    /// Lets the system choose the interface and the port for blocks.
    pub(crate) fn leave_to_the_system(&mut self) {
        (self.wanted, self.tcp_port) = (Wanted::Fit, 0);
    }

    /// The configured address, if any.
    fn address(&self) -> Option<IpAddr> {
        match self.wanted {
            Wanted::Address(ip) => Some(ip),
            _ => None,
        }
    }

    /// The configured interface, if any.
    fn device(&self) -> Option<&[u8]> {
        match &self.wanted {
            Wanted::Name(name) => Some(name.as_bytes()),
            _ => None,
        }
    }
}

/// Why the node's sockets cannot be opened.
#[derive(Debug, Error)]
pub(crate) enum NetError {
    #[error(
        "{0} is not an address of this machine: give --interface one that it has on the LAN, or leave it out"
    )]
    Interface(IpAddr),
    #[error("this machine has no interface {0}: give --interface one that it has, or leave it out")]
    NoDevice(String),
    #[error(
        "TCP port {0} cannot be served on ({1}): give another --tcp-port, or 0 for any free one"
    )]
    TcpPort(u16, io::Error),
    #[error("UDP port {0} cannot be used ({1}): give another --port, the same to every node")]
    UdpPort(u16, io::Error),
}

/// The sockets of a node that shares.
pub(crate) struct Sockets {
    pub(super) catalog: CatalogSocket,
    pub(super) listener: TcpListener,
    /// The listener's port.
    pub tcp_port: u16,
}

impl Sockets {
    /// Opens all sockets.
    pub(crate) async fn open(net: &NetSettings) -> Result<Sockets, NetError> {
        let (listener, tcp_port) = block_listener(net)?;
        Ok(Sockets { catalog: CatalogSocket::open(net)?, listener, tcp_port })
    }
}

/// The listener that peers fetch blocks from, and its port. If no address is configured it accepts
/// both IP versions.
fn block_listener(net: &NetSettings) -> Result<(TcpListener, u16), NetError> {
    let refused = |error: io::Error| match (error.kind(), &net.wanted) {
        (io::ErrorKind::AddrNotAvailable, Wanted::Address(ip)) => NetError::Interface(*ip),
        (_, Wanted::Name(name)) if error.raw_os_error() == Some(NO_DEVICE) => {
            NetError::NoDevice(name.clone())
        }
        _ => NetError::TcpPort(net.tcp_port, error),
    };
    let listener = match net.address() {
        Some(ip) => listen(net, ip),
        None => listen(net, Ipv6Addr::UNSPECIFIED.into())
            .or_else(|_| listen(net, Ipv4Addr::UNSPECIFIED.into())),
    };
    let listener = listener.map_err(refused)?;
    let port = listener.local_addr().map_err(refused)?.port();
    Ok((listener, port))
}

/// ENODEV.
const NO_DEVICE: i32 = 19;

/// Maximum number of connections waiting to be accepted: all places, plus as many callers that are
/// told there is none.
const BACKLOG: i32 = 64;

fn listen(net: &NetSettings, ip: IpAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        if ip.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 },
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if ip.is_ipv6() {
        socket.set_only_v6(!ip.is_unspecified())?;
    }
    if let Some(device) = net.device() {
        socket.bind_device(Some(device))?;
    }
    socket.bind(&SocketAddr::new(ip, net.tcp_port).into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from(Async::new(std::net::TcpListener::from(socket))?))
}

/// A UDP port of this machine that is not in use.
pub(crate) fn free_port() -> io::Result<u16> {
    Ok(std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
