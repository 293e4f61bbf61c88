//! What datagrams say of boots and addresses that nobody has answered for yet.
//!
//! A datagram shows that somebody with the key said it once. It does not show that he says it now, nor where he is: whoever recorded it
//! may send it again later, from any address. So a boot or an address is only a *claim* until it has answered: the node connects there,
//! and a fresh `Hello` comes back that names the same boot. A `Hello` on a connection that the peer made proves its boot too, for the
//! address that it called from. Until then a claim is asked for nothing, is nobody's peer, and takes nothing from a peer that is proven.
//!
//! Claims are few, in all and of each node, so that a flood of recorded datagrams costs a handful of connections. A true newcomer that
//! finds no place among them still gets in: it hears this node's announcements and connects by itself, and that proof waits here for its
//! next announcement.

use core::net::{IpAddr, SocketAddr};

use super::pace::Dice;
use super::ways::Way;
use super::wire::{Announce, Digests, Header};
use crate::id::{BootId, Epoch, Fingerprint, Millis, NodeId, NodeName, SwarmTag};
use crate::limits::{
    CLAIM_LIFETIME_MS, CLAIM_PROBES, LEAST_PEERS, MAX_CLAIMS, MAX_CLAIMS_PER_NODE, MAX_FILTER_SEGMENTS, PROOF_LIFETIME_MS,
    PULL_DELAY_MS, PULL_DELAY_PER_NODE_MS, PULL_GAP_MS,
};

/// Somebody to connect to, for the sake of the hello that comes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probe {
    /// Who is said to be there.
    pub(crate) node: NodeId,
    /// Where.
    pub(crate) addr: SocketAddr,
    /// The swarm whose key was spoken with.
    pub(crate) swarm: SwarmTag,
    /// The start that is said to be there, if it is a claim.
    pub(crate) boot: Option<BootId>,
}

/// What an announcement has said, kept until it is proven.
pub(super) struct Said {
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
    pub(super) said: Said,
    pub(super) from: SocketAddr,
    /// How its last announcement came.
    pub(super) way: Way,
    /// When it is forgotten.
    until: Millis,
    probe_at: Millis,
    probes: u32,
}

/// A hello that was received from a boot which has announced nothing here.
struct Proof {
    node: NodeId,
    boot: BootId,
    ip: IpAddr,
    until: Millis,
}

/// What became of an announcement that is not of a proven boot at a proven address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Heard {
    /// Its boot has answered already.
    Proven,
    /// It is news, and is to be proven.
    New,
    /// It waits already.
    Waiting,
    /// There are as many claims as there may be.
    Full,
}

/// The claims, and the proofs that came before them.
#[derive(Default)]
pub(super) struct Claims {
    claims: heapless::Vec<Claim, MAX_CLAIMS>,
    proofs: heapless::Vec<Proof, LEAST_PEERS>,
}

impl Said {
    fn new(announce: &Announce<'_>) -> Said {
        Said {
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

    /// The announcement as it came.
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
    /// Takes in an announcement of a boot that is not proven, or not at this address. `nodes` others may be proven meanwhile.
    pub(super) fn hear(
        &mut self,
        header: &Header,
        announce: &Announce<'_>,
        from: SocketAddr,
        nodes: usize,
        dice: &mut Dice,
        now: Millis,
    ) -> Heard {
        if self.take_proof(header.node, header.boot, from.ip()) {
            self.forget_node(header.node);
            return Heard::Proven;
        }
        if let Some(claim) = self.claims.iter_mut().find(|claim| claim.is_of(header.node, header.boot, from.ip())) {
            if header.counter > claim.header.counter {
                (claim.header, claim.said, claim.from) = (*header, Said::new(announce), from);
            }
            return Heard::Waiting;
        }
        let of_node = self.claims.iter().filter(|claim| claim.header.node == header.node).count();
        if of_node >= MAX_CLAIMS_PER_NODE {
            // What has not answered by now gives way: it may have been recorded.
            let spent = |claim: &Claim| claim.header.node == header.node && claim.probes >= CLAIM_PROBES && claim.probe_at <= now;
            let Some(at) = self.claims.iter().position(spent) else { return Heard::Full };
            self.claims.swap_remove(at);
        }
        // Whoever is new connects to those whom it hears, so a large swarm leaves it some time for that.
        let spread = PULL_DELAY_MS.max(PULL_DELAY_PER_NODE_MS * (nodes + self.claims.len()) as u64);
        let claim = Claim {
            header: *header,
            said: Said::new(announce),
            from,
            way: Way::default(),
            until: now + Millis(CLAIM_LIFETIME_MS),
            probe_at: now + Millis(dice.below(spread + 1)),
            probes: 0,
        };
        if self.claims.push(claim).is_ok() { Heard::New } else { Heard::Full }
    }

    /// Notes how what was claimed last came.
    pub(super) fn note_way(&mut self, node: NodeId, boot: BootId, ip: IpAddr, way: Way) {
        self.claims.iter_mut().filter(|claim| claim.is_of(node, boot, ip)).for_each(|claim| claim.way = way);
    }

    /// `boot` of `node` has said hello at `ip`: what it claimed, if it did. Other claims of the node are over then. If it claimed
    /// nothing, the proof is kept for a while.
    pub(super) fn prove(&mut self, node: NodeId, boot: BootId, ip: IpAddr, now: Millis) -> Option<Claim> {
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

    /// At `ip` another boot of `node` says hello: what was claimed of that address is not looked into any further.
    pub(super) fn refute(&mut self, node: NodeId, boot: BootId, ip: IpAddr) {
        let refuted = |claim: &&mut Claim| claim.header.node == node && claim.from.ip() == ip && claim.header.boot != boot;
        self.claims.iter_mut().filter(refuted).for_each(|claim| claim.probes = CLAIM_PROBES);
    }

    /// Keeps a proof for a boot that is forgotten by a reset, and will announce itself again after it.
    pub(super) fn vouch(&mut self, node: NodeId, boot: BootId, ip: IpAddr, now: Millis) {
        self.keep_proof(Proof { node, boot, ip, until: now + Millis(PROOF_LIFETIME_MS) });
    }

    /// Of each node the latest proof is kept, and of all the latest.
    fn keep_proof(&mut self, proof: Proof) {
        self.proofs.retain(|kept| kept.node != proof.node);
        if self.proofs.is_full() {
            self.proofs.remove(0);
        }
        let _ = self.proofs.push(proof);
    }

    fn take_proof(&mut self, node: NodeId, boot: BootId, ip: IpAddr) -> bool {
        let at = self.proofs.iter().position(|proof| (proof.node, proof.boot, proof.ip) == (node, boot, ip));
        at.map(|at| self.proofs.remove(at)).is_some()
    }

    fn forget_node(&mut self, node: NodeId) {
        self.claims.retain(|claim| claim.header.node != node);
    }

    /// The next claim to look into, if one is due. Those of another epoch wait: nobody of another epoch says hello.
    pub(super) fn poll_probe(&mut self, epoch: Epoch, now: Millis) -> Option<Probe> {
        let due = |claim: &&mut Claim| claim.is_due(epoch) && claim.probe_at <= now;
        let claim = self.claims.iter_mut().find(due)?;
        claim.probe_at = now + Millis(PULL_GAP_MS << claim.probes);
        claim.probes += 1;
        let mut addr = claim.from;
        addr.set_port(claim.said.tcp_port);
        Some(Probe { node: claim.header.node, addr, swarm: claim.header.swarm, boot: Some(claim.header.boot) })
    }

    /// The node has no room for a probe just now: it is due again soon, and counts as not made.
    pub(super) fn put_off(&mut self, probe: &Probe, now: Millis) {
        let Some(boot) = probe.boot else { return };
        for claim in self.claims.iter_mut().filter(|claim| claim.is_of(probe.node, boot, probe.addr.ip())) {
            claim.probe_at = now + Millis(PULL_DELAY_MS);
            claim.probes = claim.probes.saturating_sub(1);
        }
    }

    /// Forgets what nobody has answered for in time.
    pub(super) fn expire(&mut self, now: Millis) {
        self.claims.retain(|claim| claim.until > now);
        self.proofs.retain(|proof| proof.until > now);
    }

    /// Forgets the claims from before the reset to `epoch`.
    pub(super) fn reset(&mut self, epoch: Epoch) {
        self.claims.retain(|claim| claim.header.epochs.epoch >= epoch);
    }

    /// When something is due.
    pub(super) fn deadline(&self, epoch: Epoch) -> Option<Millis> {
        let probes = self.claims.iter().filter(|claim| claim.is_due(epoch)).map(|claim| claim.probe_at);
        probes.chain(self.claims.iter().map(|claim| claim.until)).chain(self.proofs.iter().map(|proof| proof.until)).min()
    }
}

impl Claim {
    fn is_due(&self, epoch: Epoch) -> bool {
        self.header.epochs.epoch == epoch && self.probes < CLAIM_PROBES
    }
}
