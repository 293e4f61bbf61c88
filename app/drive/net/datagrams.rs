//! The catalog's sockets: what goes to the swarm, and what comes from it.
//!
//! There is one socket per IP version, bound to no address or to the configured one. It sends
//! everything, and receives what peers send to this machine's address. Multicast arrives on
//! separate sockets, one per interface and IP version, each bound to the group and a member on
//! that interface only. So the driver knows how each datagram arrived, and can renew each
//! membership separately.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::Path;
use std::rc::Rc;
use std::task::{Context, Poll};

use smol::Async;
use smol::future;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Socket, Type};

use super::super::interfaces;
use super::{NetError, NetSettings};
use crate::config;
use crate::lan::{Interface, choose};
use crate::node::Delivery;

type Udp = Async<std::net::UdpSocket>;

/// A socket that receives the group's datagrams on one interface.
struct GroupSocket {
    socket: Udp,
    v6: bool,
}

/// An interface that this node shares on.
struct Link {
    interface: Interface,
    group_sockets: Vec<GroupSocket>,
    /// Number of ears that it should have.
    wanted: usize,
    /// Whether to send IPv6 on it: true if it has no IPv4, or if a peer was heard there over IPv6.
    speaks_v6: Cell<bool>,
}

/// A received datagram.
pub(in crate::drive) struct Arrival {
    pub(in crate::drive) len: usize,
    pub(in crate::drive) from: SocketAddr,
    pub(in crate::drive) delivery: Delivery,
    /// The index of the interface, if it came through the group.
    pub(in crate::drive) index: Option<u32>,
}

/// The catalog's sockets and the destinations of its datagrams.
pub(in crate::drive) struct CatalogSocket {
    net: NetSettings,
    v4: Option<Udp>,
    v6: Option<Udp>,
    links: RefCell<Rc<Vec<Rc<Link>>>>,
    /// Every interface, and how it is used.
    interfaces: RefCell<Vec<Interface>>,
    changed: (smol::channel::Sender<()>, smol::channel::Receiver<()>),
    turn: Cell<usize>,
}

impl CatalogSocket {
    pub(in crate::drive) fn open(net: &NetSettings) -> Result<CatalogSocket, NetError> {
        let (v4, v6) = match net.address() {
            Some(IpAddr::V4(ip)) => (Some(udp(SocketAddr::from((ip, net.port)), None)), None),
            Some(IpAddr::V6(ip)) => (None, Some(udp(SocketAddr::from((ip, net.port)), None))),
            None => {
                let any = |ip: IpAddr| udp(SocketAddr::from((ip, net.port)), net.device());
                (Some(any(Ipv4Addr::UNSPECIFIED.into())), Some(any(Ipv6Addr::UNSPECIFIED.into())))
            }
        };
        let failed = |error| NetError::UdpPort(net.port, error);
        // A kernel without one IP version still has the other.
        let (v4, v6) = match (v4, v6) {
            (Some(Ok(v4)), Some(v6)) => (Some(v4), v6.ok()),
            (Some(Err(_)), Some(Ok(v6))) => (None, Some(v6)),
            (v4, v6) => (v4.transpose().map_err(failed)?, v6.transpose().map_err(failed)?),
        };
        let (links, interfaces, turn) = (RefCell::default(), RefCell::default(), Cell::new(0));
        let socket = CatalogSocket {
            net: net.clone(),
            v4,
            v6,
            links,
            interfaces,
            changed: smol::channel::bounded(1),
            turn,
        };
        // If the interfaces cannot be listed now, the next check tries again soon.
        let _ = socket.follow();
        Ok(socket)
    }

    /// Checks which interfaces there are, and joins the group on those that are used. Returns
    /// whether anything has changed.
    pub(in crate::drive) fn follow(&self) -> io::Result<bool> {
        let interfaces = choose(&interfaces::read(Path::new("/"))?, &self.net.wanted);
        let before = self.links.borrow().clone();
        let same = |link: &Link, interface: &Interface| {
            link.interface.state() == interface.state() && link.is_whole()
        };
        let used: Vec<&Interface> =
            interfaces.iter().filter(|interface| interface.is_used()).collect();
        if used.len() == before.len()
            && before.iter().zip(&used).all(|(link, interface)| same(link, interface))
        {
            *self.interfaces.borrow_mut() = interfaces;
            return Ok(false);
        }
        // Keeps sockets that hear everything they should, so that an interface that cannot be
        // joined does not make another one deaf for a moment.
        let link = |interface: &&Interface| match before.iter().find(|link| same(link, interface)) {
            Some(link) => link.clone(),
            None => {
                let spoken = before
                    .iter()
                    .any(|link| link.interface.index == interface.index && link.speaks_v6.get());
                Rc::new(self.link(interface, spoken))
            }
        };
        let links: Vec<Rc<Link>> = used.iter().map(link).collect();
        let state = |links: &[Rc<Link>]| {
            links.iter().map(|link| link.interface.state()).collect::<Vec<_>>()
        };
        let changed = state(&before) != state(&links);
        *self.interfaces.borrow_mut() = interfaces.clone();
        *self.links.borrow_mut() = Rc::new(links);
        let _ = self.changed.0.try_send(());
        // The old sockets were members while the new ones joined, so the switch has not noticed
        // either event.
        drop(before);
        if changed {
            used.iter().for_each(|interface| self.renew(interface.index));
        }
        Ok(changed)
    }

    /// Joins the group on an interface. Failed joins are retried at the next check.
    fn link(&self, interface: &Interface, spoken: bool) -> Link {
        let (v4, v6) = (
            self.v4.is_some() && interface.v4.is_some(),
            self.v6.is_some() && interface.v6.is_some(),
        );
        let v4 = v4
            .then(|| self.ear_v4(interface.index).map(|socket| GroupSocket { socket, v6: false }));
        let v6 =
            v6.then(|| self.ear_v6(interface.index).map(|socket| GroupSocket { socket, v6: true }));
        let wanted = usize::from(v4.is_some()) + usize::from(v6.is_some());
        let group_sockets = [v4, v6].into_iter().flatten().flatten().collect();
        Link {
            interface: interface.clone(),
            group_sockets,
            wanted,
            speaks_v6: Cell::new(spoken || interface.v4.is_none()),
        }
    }

    fn ear_v4(&self, index: u32) -> io::Result<Udp> {
        let socket = udp(SocketAddr::from((self.net.group, self.net.port)), None)?;
        SockRef::from(&socket)
            .join_multicast_v4_n(&self.net.group, &InterfaceIndexOrAddress::Index(index))?;
        Ok(socket)
    }

    fn ear_v6(&self, index: u32) -> io::Result<Udp> {
        let group = SocketAddrV6::new(self.net.group_v6, self.net.port, 0, index);
        let socket = udp(group.into(), None)?;
        SockRef::from(&socket).join_multicast_v6(&self.net.group_v6, index)?;
        Ok(socket)
    }

    /// Leaves the group on an interface and rejoins it, so that the switch notices.
    pub(in crate::drive) fn renew(&self, index: u32) {
        for link in self.links.borrow().iter().filter(|link| link.interface.index == index) {
            for group_socket in &link.group_sockets {
                let (socket, group, group_v6) =
                    (SockRef::from(&group_socket.socket), &self.net.group, &self.net.group_v6);
                // A failure here recurs at the next check, which recreates the socket.
                if group_socket.v6 {
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

    /// Every interface, and how it is used.
    pub(in crate::drive) fn interfaces(&self) -> Vec<Interface> {
        self.interfaces.borrow().clone()
    }

    /// Whether an address belongs to this machine.
    pub(in crate::drive) fn is_own(&self, ip: IpAddr) -> bool {
        let own = |interface: &Interface| {
            interface.v4.map(IpAddr::V4) == Some(ip) || interface.v6.map(IpAddr::V6) == Some(ip)
        };
        ip.is_loopback() || self.interfaces.borrow().iter().any(own)
    }

    /// Time between two announcements of a peer, in milliseconds.
    pub(in crate::drive) fn interval_ms(&self) -> u64 {
        self.net.interval_ms
    }

    /// Whether a permanently deaf radio may cause a reboot.
    pub(in crate::drive) fn may_reboot(&self) -> bool {
        self.net.radio_reboot
    }

    /// Whether any static peers are configured.
    pub(in crate::drive) fn names_peers(&self) -> bool {
        !self.net.peers.is_empty()
    }

    /// The next datagram.
    pub(in crate::drive) async fn receive(&self, buffer: &mut [u8]) -> io::Result<Arrival> {
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
                // The interfaces changed: listens on the new ones.
                None => continue,
            }
        }
    }

    /// Polls every socket, starting with a different one each time.
    fn poll_receive(
        &self,
        links: &[Rc<Link>],
        buffer: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Arrival>> {
        let own = [&self.v4, &self.v6].into_iter().flatten().map(|socket| (socket, None));
        let of_links = links.iter().flat_map(|link| {
            link.group_sockets
                .iter()
                .map(move |group_socket| (&group_socket.socket, Some((link, group_socket.v6))))
        });
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
                let delivery = if link.is_some() { Delivery::Multicast } else { Delivery::Unicast };
                return Poll::Ready(Ok(Arrival {
                    len,
                    from,
                    delivery,
                    index: link.map(|(link, _)| link.interface.index),
                }));
            }
        }
        Poll::Pending
    }

    /// Sends to the group on every interface that is used, and to every static peer. Failed sends
    /// are lost, as datagrams are: the catalog repairs itself.
    pub(in crate::drive) async fn send(&self, bytes: &[u8]) {
        let links = self.links.borrow().clone();
        for link in links.iter() {
            if let (Some(socket), Some(ip)) = (&self.v4, link.interface.v4) {
                let options = SockRef::from(socket);
                if options.set_multicast_if_v4(&ip).is_ok() {
                    put(socket, bytes, SocketAddr::from((self.net.group, self.net.port))).await;
                }
            }
            if let (Some(socket), true, true) =
                (&self.v6, link.interface.v6.is_some(), link.speaks_v6.get())
            {
                let group =
                    SocketAddrV6::new(self.net.group_v6, self.net.port, 0, link.interface.index);
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

    /// Sends to a peer at its address, unless it is a static peer, which gets everything anyway.
    pub(in crate::drive) async fn answer(&self, bytes: &[u8], to: SocketAddr) {
        if !self.net.peers.iter().any(|peer| self.resolve(peer) == Some(to)) {
            self.send_to(bytes, to).await;
        }
    }

    /// Sends to one address.
    pub(in crate::drive) async fn send_to(&self, bytes: &[u8], to: SocketAddr) {
        let socket = if to.is_ipv4() { &self.v4 } else { &self.v6 };
        if let Some(socket) = socket {
            put(socket, bytes, to).await;
        }
    }

    /// The address of a static peer. Its interface is looked up by name, because the
    /// index may change.
    fn resolve(&self, peer: &config::Peer) -> Option<SocketAddr> {
        match (peer.addr(), peer.zone()) {
            (SocketAddr::V6(addr), Some(zone)) => {
                let index =
                    self.interfaces.borrow().iter().find(|interface| interface.name == zone)?.index;
                Some(SocketAddrV6::new(*addr.ip(), addr.port(), 0, index).into())
            }
            (addr, _) => Some(addr),
        }
    }
}

impl Link {
    /// Whether it hears the group in every IP version that it has an address for.
    fn is_whole(&self) -> bool {
        self.group_sockets.len() == self.wanted
    }
}

fn poll_one(socket: &Udp, buffer: &mut [u8], cx: &mut Context<'_>) -> Poll<(usize, SocketAddr)> {
    loop {
        match socket.get_ref().recv_from(buffer) {
            Ok(heard) => return Poll::Ready(heard),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // An error left over from an earlier datagram, such as a port that nobody listens on.
            // Reading it clears it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            // The interface may be down. Another socket may be fine, and this one is polled again
            // at the next event.
            Err(_) => {}
        }
        match socket.poll_readable(cx) {
            Poll::Ready(Ok(())) => {}
            _ => return Poll::Pending,
        }
    }
}

/// Sends one datagram; waits while the socket's buffer is full.
async fn put(socket: &Udp, bytes: &[u8], to: SocketAddr) {
    let _ = socket.send_to(bytes, to).await;
}

/// A socket of the catalog. Several nodes on one machine share its port, and each gets every
/// multicast datagram.
fn udp(addr: SocketAddr, device: Option<&[u8]>) -> io::Result<Udp> {
    let v6 = addr.is_ipv6();
    let socket = Socket::new(
        if v6 { Domain::IPV6 } else { Domain::IPV4 },
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    socket.set_reuse_address(true)?;
    // Receive only from groups that this socket itself has joined.
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
    // `Async` makes it non-blocking.
    Async::new(std::net::UdpSocket::from(socket))
}
