//! How peers are heard, and what that means for how they are answered.
//!
//! Some networks carry no multicast between their stations: access points that isolate their clients, switches that forgot a member. There
//! a node is heard by whom it was told of, at that one's address. Whoever hears a proven peer so, and not through the group, answers at
//! the address that the peer's datagrams come from, with everything that it tells the swarm, so that it is enough if one of two nodes is
//! told of the other. An address that has not answered on a connection is never sent anything: nobody can be flooded by this.

use core::net::SocketAddr;

use super::directory::Heard;
use super::peer::Peer;
use super::{Catalog, CatalogFault, Event};
use crate::id::{BootId, Millis, NodeId};
use crate::limits::{LIFETIME_INTERVALS, MAX_UNICAST_PEERS};

/// How a datagram came.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Way {
    /// Through the group.
    #[default]
    Multicast,
    /// To this node's own address.
    Unicast,
}

/// How one peer is heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Ways {
    /// When it was last heard through the group.
    pub multicast: Option<Millis>,
    /// Where from, and when, it was last heard at this node's address, unless it was heard through the group since.
    pub unicast: Option<(SocketAddr, Millis)>,
    /// When it was last heard at the address that it is called at.
    home: Option<Millis>,
}

impl Ways {
    /// Notes a datagram that was news.
    fn note(&mut self, from: SocketAddr, home: SocketAddr, way: Way, now: Millis) {
        match way {
            Way::Multicast => (self.multicast, self.unicast) = (Some(now), None),
            // Whoever sends from elsewhere has not answered there.
            Way::Unicast if from.ip() == home.ip() => self.unicast = Some((from, now)),
            Way::Unicast => {}
        }
        if from.ip() == home.ip() {
            self.home = Some(now);
        }
    }
}

/// Whether multicast comes through, as far as datagrams show.
#[derive(Default)]
pub(super) struct Group {
    /// Since when peers have been heard at this node's address only.
    silent_since: Option<Millis>,
    told: bool,
}

impl Catalog {
    /// Takes in a datagram that came from `from` to this node's own address or through the group.
    pub(crate) fn handle_by(
        &mut self,
        way: Way,
        from: SocketAddr,
        datagram: &[u8],
        now: Millis,
    ) -> Result<Option<Event>, CatalogFault> {
        self.way = way;
        let result = self.handle(from, datagram, now);
        self.way = Way::default();
        result
    }

    /// Notes how an authentic datagram came.
    pub(super) fn note_way(&mut self, from: SocketAddr, (node, boot): (NodeId, BootId), heard: Heard, now: Millis) {
        let way = self.way;
        if heard == Heard::Claimed {
            self.claims.note_way(node, boot, from.ip(), way);
        }
        if way == Way::Multicast {
            self.group_works();
        }
        if !matches!(heard, Heard::Known | Heard::Moved | Heard::Joined { .. } | Heard::Restarted) {
            return;
        }
        self.directory.with(node, |peer| peer.ways.note(from, peer.addr, way, now));
        if way == Way::Unicast {
            self.group_is_silent(now);
        }
    }

    /// A claim that came this way has been proven.
    pub(super) fn note_proven(&mut self, node: NodeId, from: SocketAddr, way: Way, now: Millis) {
        self.directory.with(node, |peer| peer.ways.note(from, peer.addr, way, now));
    }

    fn group_works(&mut self) {
        self.group.silent_since = None;
        if core::mem::take(&mut self.group.told) {
            self.events.push_back(Event::GroupWorks);
        }
    }

    /// A proven peer has spoken to this node's address. Where that goes on for as long as a silent peer is remembered, and nobody is heard
    /// through the group, that is told, once.
    fn group_is_silent(&mut self, now: Millis) {
        let patience = Millis(LIFETIME_INTERVALS * u64::from(self.interval_ms()));
        let since = *self.group.silent_since.get_or_insert(now);
        let hears_group = self.directory.iter().any(|peer| peer.ways.multicast.is_some_and(|at| now < at + patience));
        if hears_group || self.group.told || now < since + patience {
            return;
        }
        self.group.told = true;
        let peers = self.answered(now).count();
        self.events.push_back(Event::GroupSilent { peers });
    }

    /// Where datagrams for the swarm are to be sent beside the group: to the proven peers that were heard at this node's address only.
    pub(crate) fn answered(&self, now: Millis) -> impl Iterator<Item = SocketAddr> + '_ {
        let fingerprint = self.config.fingerprint;
        // Peers of another model are listed without a proof.
        let proven = self.directory.iter().filter(move |peer| peer.fingerprint == fingerprint);
        let addr = move |peer: &Peer| {
            let (addr, at) = peer.ways.unicast?;
            let lifetime = Millis(LIFETIME_INTERVALS * u64::from(peer.interval_ms));
            (now < at + lifetime && addr.ip() == peer.addr.ip()).then_some(addr)
        };
        proven.filter_map(addr).take(MAX_UNICAST_PEERS)
    }

    /// Whether a peer that is heard from another address stays at its own: it is heard there too, and with both kinds of IP the older one
    /// is kept, so that two copies of one datagram do not move it to and fro.
    pub(super) fn stays(&self, node: NodeId, from: SocketAddr, now: Millis) -> bool {
        let Some(peer) = self.directory.get(node) else { return false };
        let lifetime = Millis(LIFETIME_INTERVALS * u64::from(peer.interval_ms));
        from.is_ipv6() && peer.addr.is_ipv4() && peer.ways.home.is_some_and(|at| now < at + lifetime)
    }

    /// The network is another one: this node says soon that it is there.
    pub(crate) fn network_changed(&mut self, now: Millis) {
        self.pace.answer(self.nodes(), &mut self.dice, now);
    }
}

/// IPv4 in the clothes of IPv6 as what it is. A link-local address keeps its interface.
pub(super) fn canonical(addr: SocketAddr) -> SocketAddr {
    if addr.ip() == addr.ip().to_canonical() { addr } else { SocketAddr::new(addr.ip().to_canonical(), addr.port()) }
}
