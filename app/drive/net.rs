//! Sockets: those of the catalog, and the listener of the transfers.
//!
//! One socket of each kind of IP is bound to no address, or to the one that was named: on it all is sent, and what peers send to this
//! machine's address comes in. What is said to the group comes in on sockets of their own, one an interface and kind, each bound to the
//! group and a member on that interface only. So it is known of each datagram how it came, and each membership can be renewed alone.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::Path;
use std::rc::Rc;
use std::task::{Context, Poll};

use async_net::TcpListener;
use smol::Async;
use smol::future;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Socket, Type};
use thiserror::Error;

use crate::config;
use crate::lan::{Interface, Wanted, choose};
use crate::node::Way;

use super::interfaces;

/// Where the swarm talks.
#[derive(Clone, Debug)]
pub(crate) struct NetSettings {
    /// Where to share.
    pub wanted: Wanted,
    /// Multicast group of the catalog.
    pub group: Ipv4Addr,
    /// The same, where there is no IPv4.
    pub group_v6: Ipv6Addr,
    /// UDP port of the catalog.
    pub port: u16,
    /// TCP port that blocks are served on; 0 takes any free one.
    pub tcp_port: u16,
    /// Catalogs of peers that multicast does not reach.
    pub peers: Vec<config::Peer>,
    /// Milliseconds between announcements.
    pub interval_ms: u64,
    /// Whether a radio that is deaf for good may cost a restart of the board.
    pub radio_reboot: bool,
}

impl NetSettings {
    /// As `[network]` has it.
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

    /// Leaves the choice of the interface and of the port for blocks to the system.
    pub(crate) fn leave_to_the_system(&mut self) {
        (self.wanted, self.tcp_port) = (Wanted::Fit, 0);
    }

    /// The address that was named.
    fn address(&self) -> Option<IpAddr> {
        match self.wanted {
            Wanted::Address(ip) => Some(ip),
            _ => None,
        }
    }

    /// The interface that was named.
    fn device(&self) -> Option<&[u8]> {
        match &self.wanted {
            Wanted::Name(name) => Some(name.as_bytes()),
            _ => None,
        }
    }
}

/// Why a node cannot be reached.
#[derive(Debug, Error)]
pub(crate) enum NetError {
    #[error("{0} is no address of this machine: give --interface one that it has on the LAN, or leave it out")]
    Interface(IpAddr),
    #[error("this machine has no interface {0}: give --interface one that it has, or leave it out")]
    NoDevice(String),
    #[error("TCP port {0} cannot be served on ({1}): give another --tcp-port, or 0 for any free one")]
    TcpPort(u16, io::Error),
    #[error("UDP port {0} cannot be used ({1}): give another --port, the same to every node")]
    UdpPort(u16, io::Error),
}

type Udp = Async<std::net::UdpSocket>;

/// A socket that hears the group on one interface.
struct Ear {
    socket: Udp,
    v6: bool,
}

/// An interface that is shared on.
pub(super) struct Link {
    pub(super) interface: Interface,
    ears: Vec<Ear>,
    /// Ears that it should have.
    wanted: usize,
    /// Whether IPv6 is spoken on it: where it has no IPv4, or somebody was heard there who has none.
    speaks_v6: Cell<bool>,
}

/// A datagram's way to this node.
pub(super) struct Arrival {
    pub(super) len: usize,
    pub(super) from: SocketAddr,
    pub(super) way: Way,
    /// The interface, by its index, where it came through the group.
    pub(super) index: Option<u32>,
}

/// The catalog's sockets, and where its datagrams go.
pub(super) struct CatalogSocket {
    net: NetSettings,
    v4: Option<Udp>,
    v6: Option<Udp>,
    links: RefCell<Rc<Vec<Rc<Link>>>>,
    /// Every interface, and what becomes of it.
    interfaces: RefCell<Vec<Interface>>,
    changed: (smol::channel::Sender<()>, smol::channel::Receiver<()>),
    turn: Cell<usize>,
}

impl CatalogSocket {
    pub(super) fn open(net: &NetSettings) -> Result<CatalogSocket, NetError> {
        let (v4, v6) = match net.address() {
            Some(IpAddr::V4(ip)) => (Some(udp(SocketAddr::from((ip, net.port)), None)), None),
            Some(IpAddr::V6(ip)) => (None, Some(udp(SocketAddr::from((ip, net.port)), None))),
            None => {
                let any = |ip: IpAddr| udp(SocketAddr::from((ip, net.port)), net.device());
                (Some(any(Ipv4Addr::UNSPECIFIED.into())), Some(any(Ipv6Addr::UNSPECIFIED.into())))
            }
        };
        let failed = |error| NetError::UdpPort(net.port, error);
        // A kernel without one kind of IP still has the other.
        let (v4, v6) = match (v4, v6) {
            (Some(Ok(v4)), Some(v6)) => (Some(v4), v6.ok()),
            (Some(Err(_)), Some(Ok(v6))) => (None, Some(v6)),
            (v4, v6) => (v4.transpose().map_err(failed)?, v6.transpose().map_err(failed)?),
        };
        let (links, interfaces, turn) = (RefCell::default(), RefCell::default(), Cell::new(0));
        let socket = CatalogSocket { net: net.clone(), v4, v6, links, interfaces, changed: smol::channel::bounded(1), turn };
        // A machine that cannot say what interfaces it has is asked again soon.
        let _ = socket.follow();
        Ok(socket)
    }

    /// Looks which interfaces there are, and joins the group on those that are used. Says whether anything has changed.
    pub(super) fn follow(&self) -> io::Result<bool> {
        let interfaces = choose(&interfaces::read(Path::new("/"))?, &self.net.wanted);
        let before = self.links.borrow().clone();
        let same = |link: &Link, interface: &Interface| link.interface.state() == interface.state() && link.is_whole();
        let used: Vec<&Interface> = interfaces.iter().filter(|interface| interface.is_used()).collect();
        if used.len() == before.len() && before.iter().zip(&used).all(|(link, interface)| same(link, interface)) {
            *self.interfaces.borrow_mut() = interfaces;
            return Ok(false);
        }
        // Sockets that hear everything they should stay: one interface that cannot be joined makes no other deaf for a moment.
        let link = |interface: &&Interface| match before.iter().find(|link| same(link, interface)) {
            Some(link) => link.clone(),
            None => {
                let spoken = before.iter().any(|link| link.interface.index == interface.index && link.speaks_v6.get());
                Rc::new(self.link(interface, spoken))
            }
        };
        let links: Vec<Rc<Link>> = used.iter().map(link).collect();
        let state = |links: &[Rc<Link>]| links.iter().map(|link| link.interface.state()).collect::<Vec<_>>();
        let changed = state(&before) != state(&links);
        *self.interfaces.borrow_mut() = interfaces.clone();
        *self.links.borrow_mut() = Rc::new(links);
        let _ = self.changed.0.try_send(());
        // The old sockets were members while the new ones joined: the switch has heard of neither.
        drop(before);
        if changed {
            used.iter().for_each(|interface| self.renew(interface.index));
        }
        Ok(changed)
    }

    /// Joins the group on an interface. What cannot be joined is tried again with the next look.
    fn link(&self, interface: &Interface, spoken: bool) -> Link {
        let (v4, v6) = (self.v4.is_some() && interface.v4.is_some(), self.v6.is_some() && interface.v6.is_some());
        let v4 = v4.then(|| self.ear_v4(interface.index).map(|socket| Ear { socket, v6: false }));
        let v6 = v6.then(|| self.ear_v6(interface.index).map(|socket| Ear { socket, v6: true }));
        let wanted = usize::from(v4.is_some()) + usize::from(v6.is_some());
        let ears = [v4, v6].into_iter().flatten().flatten().collect();
        Link { interface: interface.clone(), ears, wanted, speaks_v6: Cell::new(spoken || interface.v4.is_none()) }
    }

    fn ear_v4(&self, index: u32) -> io::Result<Udp> {
        let socket = udp(SocketAddr::from((self.net.group, self.net.port)), None)?;
        SockRef::from(&socket).join_multicast_v4_n(&self.net.group, &InterfaceIndexOrAddress::Index(index))?;
        Ok(socket)
    }

    fn ear_v6(&self, index: u32) -> io::Result<Udp> {
        let group = SocketAddrV6::new(self.net.group_v6, self.net.port, 0, index);
        let socket = udp(group.into(), None)?;
        SockRef::from(&socket).join_multicast_v6(&self.net.group_v6, index)?;
        Ok(socket)
    }

    /// Leaves the group on an interface and joins it again, so that the switch hears of it.
    pub(super) fn renew(&self, index: u32) {
        for link in self.links.borrow().iter().filter(|link| link.interface.index == index) {
            for ear in &link.ears {
                let (socket, group, group_v6) = (SockRef::from(&ear.socket), &self.net.group, &self.net.group_v6);
                // What fails here fails again with the next look, which makes the socket anew.
                if ear.v6 {
                    let _ = socket.leave_multicast_v6(group_v6, index);
                    let _ = socket.join_multicast_v6(group_v6, index);
                } else {
                    let on = InterfaceIndexOrAddress::Index(index);
                    let _ = socket.leave_multicast_v4_n(group, &on);
                    let _ = socket.join_multicast_v4_n(group, &on);
                }
            }
        }
    }

    /// Every interface, and what becomes of it.
    pub(super) fn interfaces(&self) -> Vec<Interface> {
        self.interfaces.borrow().clone()
    }

    /// Whether an address is this machine's own.
    pub(super) fn is_own(&self, ip: IpAddr) -> bool {
        let own = |interface: &Interface| interface.v4.map(IpAddr::V4) == Some(ip) || interface.v6.map(IpAddr::V6) == Some(ip);
        ip.is_loopback() || self.interfaces.borrow().iter().any(own)
    }

    /// Milliseconds between two announcements of a peer.
    pub(super) fn interval_ms(&self) -> u64 {
        self.net.interval_ms
    }

    /// Whether a radio that is deaf for good may cost a restart.
    pub(super) fn may_reboot(&self) -> bool {
        self.net.radio_reboot
    }

    /// Whether any peer was named by its address.
    pub(super) fn names_peers(&self) -> bool {
        !self.net.peers.is_empty()
    }

    /// The next datagram.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<Arrival> {
        loop {
            let links = self.links.borrow().clone();
            let changed = self.changed.1.recv();
            let mut changed = std::pin::pin!(changed);
            let heard = future::poll_fn(|cx| {
                if future::Future::poll(changed.as_mut(), cx).is_ready() {
                    return Poll::Ready(None);
                }
                self.poll_receive(&links, buffer, cx).map(Some)
            });
            match heard.await {
                Some(heard) => return heard,
                // Other interfaces: listens on those.
                None => continue,
            }
        }
    }

    /// Looks at every socket, a different one first each time.
    fn poll_receive(&self, links: &[Rc<Link>], buffer: &mut [u8], cx: &mut Context<'_>) -> Poll<io::Result<Arrival>> {
        let own = [&self.v4, &self.v6].into_iter().flatten().map(|socket| (socket, None));
        let of_links = links.iter().flat_map(|link| link.ears.iter().map(move |ear| (&ear.socket, Some((link, ear.v6)))));
        let sockets: Vec<_> = own.chain(of_links).collect();
        self.turn.set(self.turn.get().wrapping_add(1));
        for at in 0..sockets.len() {
            let (socket, link) = sockets[(self.turn.get() + at) % sockets.len()];
            if let Poll::Ready((len, from)) = poll_one(socket, buffer, cx) {
                if let Some((link, true)) = link
                    && !self.is_own(from.ip())
                {
                    link.speaks_v6.set(true);
                }
                let way = if link.is_some() { Way::Multicast } else { Way::Unicast };
                return Poll::Ready(Ok(Arrival { len, from, way, index: link.map(|(link, _)| link.interface.index) }));
            }
        }
        Poll::Pending
    }

    /// Sends to the group on every interface that is used, and to every static peer. What cannot be sent is lost, as datagrams are: the
    /// catalog repairs itself.
    pub(super) async fn send(&self, bytes: &[u8]) {
        let links = self.links.borrow().clone();
        for link in links.iter() {
            if let (Some(socket), Some(ip)) = (&self.v4, link.interface.v4) {
                let options = SockRef::from(socket);
                if options.set_multicast_if_v4(&ip).is_ok() {
                    put(socket, bytes, SocketAddr::from((self.net.group, self.net.port))).await;
                }
            }
            if let (Some(socket), true, true) = (&self.v6, link.interface.v6.is_some(), link.speaks_v6.get()) {
                let group = SocketAddrV6::new(self.net.group_v6, self.net.port, 0, link.interface.index);
                if SockRef::from(socket).set_multicast_if_v6(link.interface.index).is_ok() {
                    put(socket, bytes, group.into()).await;
                }
            }
        }
        for peer in &self.net.peers {
            if let Some(to) = self.resolve(peer) {
                self.send_to(bytes, to).await;
            }
        }
    }

    /// Answers a peer at its address, unless it is told everything anyway.
    pub(super) async fn answer(&self, bytes: &[u8], to: SocketAddr) {
        if !self.net.peers.iter().any(|peer| self.resolve(peer) == Some(to)) {
            self.send_to(bytes, to).await;
        }
    }

    /// Sends to one address.
    pub(super) async fn send_to(&self, bytes: &[u8], to: SocketAddr) {
        let socket = if to.is_ipv4() { &self.v4 } else { &self.v6 };
        if let Some(socket) = socket {
            put(socket, bytes, to).await;
        }
    }

    /// The address of a static peer: an interface is named by its index, which may change.
    fn resolve(&self, peer: &config::Peer) -> Option<SocketAddr> {
        match (peer.addr(), peer.zone()) {
            (SocketAddr::V6(addr), Some(zone)) => {
                let index = self.interfaces.borrow().iter().find(|interface| interface.name == zone)?.index;
                Some(SocketAddrV6::new(*addr.ip(), addr.port(), 0, index).into())
            }
            (addr, _) => Some(addr),
        }
    }
}

impl Link {
    /// Whether it hears the group in every way that it has an address for.
    fn is_whole(&self) -> bool {
        self.ears.len() == self.wanted
    }
}

fn poll_one(socket: &Udp, buffer: &mut [u8], cx: &mut Context<'_>) -> Poll<(usize, SocketAddr)> {
    loop {
        match socket.get_ref().recv_from(buffer) {
            Ok(heard) => return Poll::Ready(heard),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // What an earlier datagram met, such as a port that nobody listens on: it is taken out by this.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            // The interface may be down: another socket may be fine, and this one is looked at again with the next event.
            Err(_) => {}
        }
        match socket.poll_readable(cx) {
            Poll::Ready(Ok(())) => {}
            _ => return Poll::Pending,
        }
    }
}

/// Sends one datagram; waits while the socket is full.
async fn put(socket: &Udp, bytes: &[u8], to: SocketAddr) {
    let _ = socket.send_to(bytes, to).await;
}

/// A socket of the catalog. Several nodes of one machine share its port: each gets every multicast datagram.
fn udp(addr: SocketAddr, device: Option<&[u8]>) -> io::Result<Udp> {
    let v6 = addr.is_ipv6();
    let socket = Socket::new(if v6 { Domain::IPV6 } else { Domain::IPV4 }, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    // Only what this socket itself has joined.
    if v6 {
        socket.set_only_v6(true)?;
        socket.set_multicast_all_v6(false)?;
        socket.set_multicast_hops_v6(1)?;
        socket.set_multicast_loop_v6(true)?;
    } else {
        socket.set_multicast_all_v4(false)?;
        socket.set_multicast_ttl_v4(1)?;
        socket.set_multicast_loop_v4(true)?;
    }
    if device.is_some() {
        socket.bind_device(device)?;
    }
    socket.bind(&addr.into())?;
    // (Async makes it non-blocking.)
    Async::new(std::net::UdpSocket::from(socket))
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
        let (listener, tcp_port) = block_listener(net)?;
        Ok(Sockets { catalog: CatalogSocket::open(net)?, listener, tcp_port })
    }
}

/// The listener that peers fetch blocks from, and its port. On no address that was named it takes callers of both kinds of IP.
fn block_listener(net: &NetSettings) -> Result<(TcpListener, u16), NetError> {
    let refused = |error: io::Error| match (error.kind(), &net.wanted) {
        (io::ErrorKind::AddrNotAvailable, Wanted::Address(ip)) => NetError::Interface(*ip),
        (_, Wanted::Name(name)) if error.raw_os_error() == Some(NO_DEVICE) => NetError::NoDevice(name.clone()),
        _ => NetError::TcpPort(net.tcp_port, error),
    };
    let listener = match net.address() {
        Some(ip) => listen(net, ip),
        None => listen(net, Ipv6Addr::UNSPECIFIED.into()).or_else(|_| listen(net, Ipv4Addr::UNSPECIFIED.into())),
    };
    let listener = listener.map_err(refused)?;
    let port = listener.local_addr().map_err(refused)?.port();
    Ok((listener, port))
}

/// ENODEV.
const NO_DEVICE: i32 = 19;

/// Callers that wait for this node to take their connections: all places, and as many that are told that there is none.
const BACKLOG: i32 = 64;

fn listen(net: &NetSettings, ip: IpAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(if ip.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 }, Type::STREAM, Some(Protocol::TCP))?;
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

/// A UDP port of this machine that nobody has.
pub(crate) fn free_port() -> io::Result<u16> {
    Ok(std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
