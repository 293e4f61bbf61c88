//! Sockets: those of the catalog, and the listener of the transfers.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use async_net::{TcpListener, UdpSocket};
use smol::Async;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use thiserror::Error;

use crate::config;

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

impl NetSettings {
    /// As `[network]` has it.
    pub(crate) fn of(network: &config::Network) -> NetSettings {
        NetSettings {
            interface: network.interface,
            group: network.group.addr(),
            port: network.port.number(),
            tcp_port: network.tcp_port,
            peers: network.peers.iter().map(|peer| peer.addr().into()).collect(),
        }
    }

    /// Leaves the choice of the interface and of the port for blocks to the system.
    pub(crate) fn leave_to_the_system(&mut self) {
        (self.interface, self.tcp_port) = (Ipv4Addr::UNSPECIFIED, 0);
    }
}

/// Why a node cannot be reached.
#[derive(Debug, Error)]
pub(crate) enum NetError {
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
    destinations: Vec<SocketAddr>,
    group: Ipv4Addr,
    interface: Ipv4Addr,
}

impl CatalogSocket {
    pub(super) fn open(net: &NetSettings) -> Result<CatalogSocket, NetError> {
        CatalogSocket::bind(net).map_err(|error| NetError::UdpPort(net.port, error))
    }

    fn bind(net: &NetSettings) -> io::Result<CatalogSocket> {
        let hearing = udp(Ipv4Addr::UNSPECIFIED, net.port)?;
        let speaking = udp(net.interface, 0)?;
        let mut destinations = net.peers.clone();
        destinations.push(SocketAddr::from((net.group, net.port)));
        let wrap = |socket: Socket| Ok::<_, io::Error>(UdpSocket::from(Async::new(std::net::UdpSocket::from(socket))?));
        let (group, interface) = (net.group, net.interface);
        Ok(CatalogSocket { hearing: wrap(hearing)?, speaking: wrap(speaking)?, destinations, group, interface })
    }

    /// Joins the group on the interface that now leads to it, where it is not joined on that one already. A board starts before its
    /// network does, and cables are pulled and plugged, so this is called again and again; static peers are served all the same.
    pub(super) fn join(&self) -> io::Result<()> {
        let speaking = SockRef::from(&self.speaking);
        match SockRef::from(&self.hearing).join_multicast_v4(&self.group, &self.interface) {
            // On this interface it is joined already.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            joined => joined?,
        }
        speaking.set_multicast_if_v4(&self.interface)?;
        speaking.set_multicast_ttl_v4(1)?;
        speaking.set_multicast_loop_v4(true)
    }

    /// What a person is told when the group cannot be joined.
    pub(super) fn no_multicast(&self, error: &io::Error) -> String {
        let remedy = if self.destinations.len() > 1 {
            "until it works only the named peers are asked"
        } else {
            "is the network down? It is tried again; else name peers (--peer), or another --interface"
        };
        format!("no multicast on {} ({error}): {remedy}", self.interface)
    }

    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.hearing.recv_from(buffer).await
    }

    /// Sends to the group and to every static peer. What cannot be sent is lost, as datagrams are: the catalog repairs itself.
    pub(super) async fn send(&self, bytes: &[u8]) {
        for to in &self.destinations {
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

/// Where a node that shares is reached.
pub(crate) struct Sockets {
    pub(super) catalog: CatalogSocket,
    pub(super) listener: TcpListener,
    /// Of the listener.
    pub tcp_port: u16,
}

impl Sockets {
    /// Opens both.
    pub(crate) async fn open(net: &NetSettings) -> Result<Sockets, NetError> {
        let (listener, tcp_port) = block_listener(net).await?;
        Ok(Sockets { catalog: CatalogSocket::open(net)?, listener, tcp_port })
    }
}

/// The listener that peers fetch blocks from, and its port.
async fn block_listener(net: &NetSettings) -> Result<(TcpListener, u16), NetError> {
    let refused = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrNotAvailable => NetError::Interface(net.interface),
        _ => NetError::TcpPort(net.tcp_port, error),
    };
    let listener = TcpListener::bind(SocketAddrV4::new(net.interface, net.tcp_port)).await.map_err(refused)?;
    let port = listener.local_addr().map_err(refused)?.port();
    Ok((listener, port))
}

/// A UDP port of this machine that nobody has.
pub(crate) fn free_port() -> io::Result<u16> {
    Ok(std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
