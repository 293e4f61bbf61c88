//! Claims: boots and addresses that datagrams name but nobody has confirmed yet.
//!
//! A datagram shows that somebody with the key sent it once. It shows neither that it was sent now
//! nor where its sender is: anyone who recorded it can replay it later, from any address. So a boot
//! or an address is only a *claim* until it has answered: the node connects there and receives a
//! fresh `Hello` that names the same boot. A `Hello` on a connection that the peer opened also
//! proves its boot, for the address that it connected from. Until then nothing is requested from a
//! claim, it is not a peer, and it takes nothing from a proven peer.
//!
//! The number of claims is small, in all and per node, so a flood of replayed datagrams costs a
//! handful of connections. A true newcomer that finds no place still gets in: it hears this node's
//! announcements and connects by itself, and that proof waits here for its next announcement.

use core::net::{IpAddr, SocketAddr};

use super::delivery::Delivery;
use super::wire::{Announce, Digests, Header};
use crate::id::{BootId, Epoch, Fingerprint, Millis, NodeId, NodeName, SwarmTag};
use crate::limits::{
    CLAIM_LIFETIME_MS, CLAIM_PROBES, LEAST_PEERS, MAX_CLAIMS, MAX_CLAIMS_PER_NODE,
    MAX_FILTER_SEGMENTS, PROOF_LIFETIME_MS, PULL_DELAY_MS, PULL_DELAY_PER_NODE_MS, PULL_GAP_MS,
};
use crate::splitmix::SplitMix64;

/// A connection to make for the hello that comes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probe {
    /// The node that is said to be there.
    pub(crate) node: NodeId,
    /// Its address.
    pub(crate) addr: SocketAddr,
    /// The swarm whose key the datagram was sealed with.
    pub(crate) swarm: SwarmTag,
    /// The boot that is said to be there, if this is a claim.
    pub(crate) boot: Option<BootId>,
}

/// The content of an announcement, kept until it is proven.
pub(super) struct StoredAnnounce {
    fingerprint: Fingerprint,
    tcp_port: u16,
    load: u8,
    interval_ms: u32,
    probes: u8,
    generation: u64,
    digests: heapless::Vec<u8, { 8 * MAX_FILTER_SEGMENTS }>,
    name: NodeName,
}

/// One claim.
pub(super) struct Claim {
    pub(super) header: Header,
    pub(super) announced: StoredAnnounce,
    pub(super) from: SocketAddr,
    /// How its last announcement arrived.
    pub(super) delivery: Delivery,
    /// When it is forgotten.
    until: Millis,
    probe_at: Millis,
    probes: u32,
}

/// A hello from a boot that has not announced itself here yet.
struct Proof {
    node: NodeId,
    boot: BootId,
    ip: IpAddr,
    until: Millis,
}

/// What became of an announcement of an unproven boot or address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// Its boot has already answered.
    Proven,
    /// It is new, and awaits proof.
    New,
    /// It was already waiting for proof.
    Waiting,
    /// There is no room for another claim.
    Full,
}

/// The claims, and the proofs that came before them.
#[derive(Default)]
pub(super) struct Claims {
    claims: heapless::Vec<Claim, MAX_CLAIMS>,
    proofs: heapless::Vec<Proof, LEAST_PEERS>,
}

impl StoredAnnounce {
    fn new(announce: &Announce<'_>) -> StoredAnnounce {
        StoredAnnounce {
            fingerprint: announce.fingerprint,
            tcp_port: announce.tcp_port,
            load: announce.load,
            interval_ms: announce.interval_ms,
            probes: announce.probes,
            generation: announce.generation,
            digests: heapless::Vec::from_slice(announce.digests.0).unwrap_or_default(),
            name: announce.name,
        }
    }

    /// The announcement as it arrived.
    pub(super) fn announce(&self) -> Announce<'_> {
        Announce {
            fingerprint: self.fingerprint,
            tcp_port: self.tcp_port,
            load: self.load,
            interval_ms: self.interval_ms,
            probes: self.probes,
            generation: self.generation,
            digests: Digests(&self.digests),
            name: self.name,
        }
    }
}

impl Claim {
    fn is_of(&self, node: NodeId, boot: BootId, ip: IpAddr) -> bool {
        self.header.node == node && self.header.boot == boot && self.from.ip() == ip
    }
}

impl Claims {
    /// Takes in an announcement of a boot that is not proven, or not at this address, in a swarm
    /// of `nodes`.
    pub(super) fn handle(
        &mut self,
        header: &Header,
        announce: &Announce<'_>,
        from: SocketAddr,
        nodes: usize,
        dice: &mut SplitMix64,
        now: Millis,
    ) -> Outcome {
        if self.take_proof(header.node, header.boot, from.ip()) {
            self.forget_node(header.node);
            return Outcome::Proven;
        }
        if let Some(claim) =
            self.claims.iter_mut().find(|claim| claim.is_of(header.node, header.boot, from.ip()))
        {
            if header.counter > claim.header.counter {
                (claim.header, claim.announced, claim.from) =
                    (*header, StoredAnnounce::new(announce), from);
            }
            return Outcome::Waiting;
        }
        let of_node = self.claims.iter().filter(|claim| claim.header.node == header.node).count();
        if of_node >= MAX_CLAIMS_PER_NODE {
            // A claim that has not answered by now gives way: it may be a replay.
            let spent = |claim: &Claim| {
                claim.header.node == header.node
                    && claim.probes >= CLAIM_PROBES
                    && claim.probe_at <= now
            };
            let Some(at) = self.claims.iter().position(spent) else { return Outcome::Full };
            self.claims.swap_remove(at);
        }
        // A newcomer connects to the nodes that it hears, so a large swarm leaves it time for that.
        let spread = PULL_DELAY_MS.max(PULL_DELAY_PER_NODE_MS * (nodes + self.claims.len()) as u64);
        let claim = Claim {
            header: *header,
            announced: StoredAnnounce::new(announce),
            from,
            delivery: Delivery::default(),
            until: now + Millis(CLAIM_LIFETIME_MS),
            probe_at: now + Millis(dice.below(spread + 1)),
            probes: 0,
        };
        if self.claims.push(claim).is_ok() { Outcome::New } else { Outcome::Full }
    }

    /// Notes how the announcement of a claim arrived.
    pub(super) fn note_delivery(
        &mut self,
        node: NodeId,
        boot: BootId,
        ip: IpAddr,
        delivery: Delivery,
    ) {
        self.claims
            .iter_mut()
            .filter(|claim| claim.is_of(node, boot, ip))
            .for_each(|claim| claim.delivery = delivery);
    }

    /// `boot` of `node` has said hello at `ip`. Returns its claim, if it made one, and drops the
    /// node's other claims. If it made none, the proof is kept for a while.
    pub(super) fn prove(
        &mut self,
        node: NodeId,
        boot: BootId,
        ip: IpAddr,
        now: Millis,
    ) -> Option<Claim> {
        let at = self.claims.iter().position(|claim| claim.is_of(node, boot, ip));
        let claim = at.map(|at| self.claims.swap_remove(at));
        self.take_proof(node, boot, ip);
        if claim.is_some() {
            self.forget_node(node);
        } else {
            self.keep_proof(Proof { node, boot, ip, until: now + Millis(PROOF_LIFETIME_MS) });
        }
        claim
    }

    /// Another boot of `node` says hello at `ip`: claims for that address are not probed
    /// any further.
    pub(super) fn refute(&mut self, node: NodeId, boot: BootId, ip: IpAddr) {
        let refuted = |claim: &&mut Claim| {
            claim.header.node == node && claim.from.ip() == ip && claim.header.boot != boot
        };
        self.claims.iter_mut().filter(refuted).for_each(|claim| claim.probes = CLAIM_PROBES);
    }

    /// Keeps a proof for a boot that a reset forgets, and that will announce itself again after it.
    pub(super) fn vouch(&mut self, node: NodeId, boot: BootId, ip: IpAddr, now: Millis) {
        self.keep_proof(Proof { node, boot, ip, until: now + Millis(PROOF_LIFETIME_MS) });
    }

    /// Keeps the latest proof of each node, and drops the oldest when full.
    fn keep_proof(&mut self, proof: Proof) {
        self.proofs.retain(|kept| kept.node != proof.node);
        if self.proofs.is_full() {
            self.proofs.remove(0);
        }
        let _ = self.proofs.push(proof);
    }

    fn take_proof(&mut self, node: NodeId, boot: BootId, ip: IpAddr) -> bool {
        let at = self
            .proofs
            .iter()
            .position(|proof| (proof.node, proof.boot, proof.ip) == (node, boot, ip));
        at.map(|at| self.proofs.remove(at)).is_some()
    }

    fn forget_node(&mut self, node: NodeId) {
        self.claims.retain(|claim| claim.header.node != node);
    }

    /// The next claim to probe, if one is due. Claims of another epoch wait: a node of another
    /// epoch says no hello.
    pub(super) fn poll_probe(&mut self, epoch: Epoch, now: Millis) -> Option<Probe> {
        let due = |claim: &&mut Claim| claim.is_due(epoch) && claim.probe_at <= now;
        let claim = self.claims.iter_mut().find(due)?;
        claim.probe_at = now + Millis(PULL_GAP_MS << claim.probes);
        claim.probes += 1;
        let mut addr = claim.from;
        addr.set_port(claim.announced.tcp_port);
        Some(Probe {
            node: claim.header.node,
            addr,
            swarm: claim.header.swarm,
            boot: Some(claim.header.boot),
        })
    }

    /// The node has no room for a probe just now: it is due again soon, and does not count as made.
    pub(super) fn put_off(&mut self, probe: &Probe, now: Millis) {
        let Some(boot) = probe.boot else { return };
        for claim in
            self.claims.iter_mut().filter(|claim| claim.is_of(probe.node, boot, probe.addr.ip()))
        {
            claim.probe_at = now + Millis(PULL_DELAY_MS);
            claim.probes = claim.probes.saturating_sub(1);
        }
    }

    /// Drops claims and proofs that have expired.
    pub(super) fn expire(&mut self, now: Millis) {
        self.claims.retain(|claim| claim.until > now);
        self.proofs.retain(|proof| proof.until > now);
    }

    /// Drops the claims from before the reset to `epoch`.
    pub(super) fn reset(&mut self, epoch: Epoch) {
        self.claims.retain(|claim| claim.header.epochs.epoch >= epoch);
    }

    /// When something is due.
    pub(super) fn deadline(&self, epoch: Epoch) -> Option<Millis> {
        let probes =
            self.claims.iter().filter(|claim| claim.is_due(epoch)).map(|claim| claim.probe_at);
        probes
            .chain(self.claims.iter().map(|claim| claim.until))
            .chain(self.proofs.iter().map(|proof| proof.until))
            .min()
    }
}

impl Claim {
    fn is_due(&self, epoch: Epoch) -> bool {
        self.header.epochs.epoch == epoch && self.probes < CLAIM_PROBES
    }
}
