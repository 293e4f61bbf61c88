//! How peers are heard, multicast or unicast, and how that decides where they are answered.
//!
//! Some networks carry no multicast between their stations: access points isolate clients, switches
//! forget group members. On these, a node is heard only by the peers whose addresses it was given,
//! by unicast. A node that hears a proven peer by unicast and not through the group sends
//! everything it multicasts to the peer's source address too, so it is enough to tell one of two
//! nodes about the other. Nothing is ever sent to an address that has not answered on a connection,
//! so nobody can be flooded this way.

use core::net::SocketAddr;

use super::directory::Outcome;
use super::peer::Peer;
use super::{Catalog, CatalogFault, Event};
use crate::id::{BootId, Millis, NodeId};
use crate::limits::{LIFETIME_INTERVALS, MAX_UNICAST_PEERS};

/// How a datagram arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Delivery {
    /// Through the group.
    #[default]
    Multicast,
    /// To this node's own address.
    Unicast,
}

/// How one peer is heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Deliveries {
    /// When it was last heard through the group.
    pub multicast: Option<Millis>,
    /// Source and time of its last unicast datagram, cleared by a multicast one.
    pub unicast: Option<(SocketAddr, Millis)>,
    /// When it was last heard from the address that this node uses for it.
    home: Option<Millis>,
}

impl Deliveries {
    /// Notes how a new datagram arrived.
    fn note(&mut self, from: SocketAddr, home: SocketAddr, delivery: Delivery, now: Millis) {
        match delivery {
            Delivery::Multicast => (self.multicast, self.unicast) = (Some(now), None),
            // A source at another IP has not answered there.
            Delivery::Unicast if from.ip() == home.ip() => self.unicast = Some((from, now)),
            Delivery::Unicast => {}
        }
        if from.ip() == home.ip() {
            self.home = Some(now);
        }
    }
}

/// Whether multicast comes through, as far as datagrams show.
#[derive(Default)]
pub(super) struct GroupHealth {
    /// Since when peers have been heard only by unicast.
    silent_since: Option<Millis>,
    reported: bool,
}

impl Catalog {
    /// Takes in a datagram that came from `from` by unicast or multicast.
    pub(crate) fn handle_delivery(
        &mut self,
        delivery: Delivery,
        from: SocketAddr,
        datagram: &[u8],
        now: Millis,
    ) -> Result<Option<Event>, CatalogFault> {
        self.delivery = delivery;
        let result = self.handle(from, datagram, now);
        self.delivery = Delivery::default();
        result
    }

    /// Notes how an authentic datagram arrived.
    pub(super) fn note_delivery(
        &mut self,
        from: SocketAddr,
        (node, boot): (NodeId, BootId),
        outcome: Outcome,
        now: Millis,
    ) {
        let delivery = self.delivery;
        if outcome == Outcome::Claimed {
            self.claims.note_delivery(node, boot, from.ip(), delivery);
        }
        if delivery == Delivery::Multicast {
            self.group_works();
        }
        if !matches!(
            outcome,
            Outcome::Known | Outcome::Moved | Outcome::Joined { .. } | Outcome::Restarted
        ) {
            return;
        }
        self.directory.with(node, |peer| peer.deliveries.note(from, peer.addr, delivery, now));
        if delivery == Delivery::Unicast {
            self.group_is_silent(now);
        }
    }

    /// A claim that arrived this way has been proven.
    pub(super) fn note_proven(
        &mut self,
        node: NodeId,
        from: SocketAddr,
        delivery: Delivery,
        now: Millis,
    ) {
        self.directory.with(node, |peer| peer.deliveries.note(from, peer.addr, delivery, now));
    }

    fn group_works(&mut self) {
        self.group.silent_since = None;
        if core::mem::take(&mut self.group.reported) {
            self.events.push_back(Event::GroupWorks);
        }
    }

    /// A proven peer was heard by unicast. If this goes on for the lifetime of a silent peer and
    /// nobody is heard through the group, it is reported once.
    fn group_is_silent(&mut self, now: Millis) {
        let lifetime = Millis(LIFETIME_INTERVALS * u64::from(self.interval_ms()));
        let since = *self.group.silent_since.get_or_insert(now);
        let hears_group = self
            .directory
            .iter()
            .any(|peer| peer.deliveries.multicast.is_some_and(|at| now < at + lifetime));
        if hears_group || self.group.reported || now < since + lifetime {
            return;
        }
        self.group.reported = true;
        let peers = self.unicast_destinations(now).count();
        self.events.push_back(Event::GroupSilent { peers });
    }

    /// Unicast destinations for the swarm's datagrams, beside the group: the proven peers that were
    /// heard only by unicast.
    pub(crate) fn unicast_destinations(
        &self,
        now: Millis,
    ) -> impl Iterator<Item = SocketAddr> + '_ {
        let fingerprint = self.config.fingerprint;
        // Peers of another model are listed without a proof.
        let proven = self.directory.iter().filter(move |peer| peer.fingerprint == fingerprint);
        let addr = move |peer: &Peer| {
            let (addr, at) = peer.deliveries.unicast?;
            let lifetime = Millis(LIFETIME_INTERVALS * u64::from(peer.interval_ms));
            (now < at + lifetime && addr.ip() == peer.addr.ip()).then_some(addr)
        };
        proven.filter_map(addr).take(MAX_UNICAST_PEERS)
    }

    /// Whether a peer that is heard from another address keeps its current one. It does if it is
    /// also heard at the current one and that is IPv4 while the other is IPv6, so that two copies
    /// of one datagram do not switch it back and forth.
    pub(super) fn keeps_address(&self, node: NodeId, from: SocketAddr, now: Millis) -> bool {
        let Some(peer) = self.directory.get(node) else { return false };
        let lifetime = Millis(LIFETIME_INTERVALS * u64::from(peer.interval_ms));
        from.is_ipv6()
            && peer.addr.is_ipv4()
            && peer.deliveries.home.is_some_and(|at| now < at + lifetime)
    }

    /// The network has changed: this node announces itself soon.
    pub(crate) fn network_changed(&mut self, now: Millis) {
        self.schedule.answer(self.nodes(), &mut self.dice, now);
    }
}

/// Turns an IPv4-mapped IPv6 address into IPv4. A link-local address keeps its interface.
pub(super) fn canonical(addr: SocketAddr) -> SocketAddr {
    if addr.ip() == addr.ip().to_canonical() {
        addr
    } else {
        SocketAddr::new(addr.ip().to_canonical(), addr.port())
    }
}
