//! Sockets: those of the catalog, and the listener of the transfers.

use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use async_net::{TcpListener, UdpSocket};
use smol::{Async, Timer};
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

/// Time between two tries to join the multicast group.
const JOIN_PAUSE: Duration = Duration::from_secs(2);

/// Where the swarm talks.
#[derive(Clone, Debug)]
pub struct NetSettings {
    /// This node's address on the LAN to share on; 0.0.0.0 leaves the choice to the system.
    pub interface: Ipv4Addr,
    /// Multicast group of the catalog.
    pub group: Ipv4Addr,
    /// UDP port of the catalog.
    pub port: u16,
    /// TCP port that blocks are served on; 0 takes any free one.
    pub tcp_port: u16,
    /// Catalogs of peers that multicast does not reach.
    pub peers: Vec<SocketAddr>,
}

/// Why a node cannot be reached.
#[derive(Debug, Error)]
pub(super) enum NetError {
    #[error("{0} is no address of this machine: give --interface one that it has on the LAN, or leave it out")]
    Interface(Ipv4Addr),
    #[error("TCP port {0} cannot be served on ({1}): give another --tcp-port, or 0 for any free one")]
    TcpPort(u16, io::Error),
    #[error("UDP port {0} cannot be used ({1}): give another --port, the same to every node")]
    UdpPort(u16, io::Error),
}

/// The catalog's sockets, and where its datagrams go.
pub(super) struct CatalogSocket {
    hearing: UdpSocket,
    /// Bound to the interface's address, which peers take for the address that blocks are served on. The hearing one cannot be: then
    /// it would hear no multicast.
    speaking: UdpSocket,
    /// Static peers.
    peers: Vec<SocketAddr>,
    group: SocketAddrV4,
    interface: Ipv4Addr,
    /// Whether the group has been joined, and is sent to.
    joined: Cell<bool>,
    /// Why the group could not be joined at first; static peers are served all the same.
    pub no_multicast: Option<io::Error>,
}

impl CatalogSocket {
    pub(super) fn open(net: &NetSettings) -> Result<CatalogSocket, NetError> {
        CatalogSocket::bind(net).map_err(|error| NetError::UdpPort(net.port, error))
    }

    fn bind(net: &NetSettings) -> io::Result<CatalogSocket> {
        let hearing = udp(Ipv4Addr::UNSPECIFIED, net.port)?;
        let speaking = udp(net.interface, 0)?;
        let able = speaking
            .set_multicast_if_v4(&net.interface)
            .and_then(|()| speaking.set_multicast_ttl_v4(1))
            .and_then(|()| speaking.set_multicast_loop_v4(true));
        let wrap = |socket: Socket| Ok::<_, io::Error>(UdpSocket::from(Async::new(std::net::UdpSocket::from(socket))?));
        let mut socket = CatalogSocket {
            hearing: wrap(hearing)?,
            speaking: wrap(speaking)?,
            peers: net.peers.clone(),
            group: SocketAddrV4::new(net.group, net.port),
            interface: net.interface,
            joined: Cell::new(false),
            no_multicast: None,
        };
        socket.no_multicast = able.and_then(|()| socket.join()).err();
        Ok(socket)
    }

    /// Joins the group, as far as that has not been done: a network may come up long after the node.
    fn join(&self) -> io::Result<()> {
        if !self.joined.get() {
            self.hearing.join_multicast_v4(*self.group.ip(), self.interface)?;
            self.joined.set(true);
        }
        Ok(())
    }

    /// Tries to join the group until it succeeds; true when it had to wait for that.
    pub(super) async fn join_in_time(&self) -> bool {
        let mut waited = false;
        while self.join().is_err() {
            waited = true;
            Timer::after(JOIN_PAUSE).await;
        }
        waited
    }

    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.hearing.recv_from(buffer).await
    }

    /// Sends to the group and to every static peer. What cannot be sent is lost, as datagrams are: the catalog repairs itself.
    pub(super) async fn send(&self, bytes: &[u8]) {
        let group = self.joined.get().then_some(SocketAddr::V4(self.group));
        for to in self.peers.iter().copied().chain(group) {
            let _ = self.speaking.send_to(bytes, to).await;
        }
    }
}

fn udp(addr: Ipv4Addr, port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    // Several nodes of one machine share the catalog's port: each gets every multicast datagram.
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((addr, port)).into())?;
    Ok(socket)
}

/// The listener that peers fetch blocks from, and its port.
pub(super) async fn block_listener(net: &NetSettings) -> Result<(TcpListener, u16), NetError> {
    let refused = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrNotAvailable => NetError::Interface(net.interface),
        _ => NetError::TcpPort(net.tcp_port, error),
    };
    let listener = TcpListener::bind(SocketAddrV4::new(net.interface, net.tcp_port)).await.map_err(refused)?;
    let port = listener.local_addr().map_err(refused)?.port();
    Ok((listener, port))
}
