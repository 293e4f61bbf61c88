//! Proof of peers: how a claim becomes a peer, and what happens when a machine has this node's id.

use core::net::{IpAddr, SocketAddr};

use super::claims::{self, Probe};
use super::directory::{Context, Outcome};
use super::wire::{Announce, Header, Message};
use super::{Catalog, CatalogFault, Event};
use crate::id::{BootId, Millis, NodeId};
use crate::limits::{MAX_RENAMES, PULL_DELAY_MS, TWIN_GAP_MS, TWIN_TIE_S};

/// Other machines with this node's id.
#[derive(Default)]
pub(super) struct Twins {
    /// When this node started.
    began: Option<Millis>,
    /// Where a twin is suspected, and when to connect there.
    suspect: Option<(SocketAddr, Millis)>,
    /// No further probe before this.
    not_before: Millis,
    /// When a twin was last reported.
    reported_at: Option<Millis>,
    /// How often this boot has stepped aside.
    renames: u8,
}

impl Twins {
    pub(super) fn begin(&mut self, now: Millis) {
        self.began.get_or_insert(now);
    }

    fn suspect(&mut self, addr: SocketAddr, now: Millis) {
        self.suspect.get_or_insert((addr, now.max(self.not_before)));
    }

    fn poll(&mut self, now: Millis) -> Option<SocketAddr> {
        let (addr, _) = self.suspect.take_if(|(_, at)| *at <= now)?;
        self.not_before = now + Millis(TWIN_GAP_MS);
        Some(addr)
    }

    /// The node had no room for a probe there: retries soon.
    fn put_off(&mut self, addr: SocketAddr, now: Millis) {
        self.suspect.get_or_insert((addr, now + Millis(PULL_DELAY_MS)));
    }

    /// Whether to report a twin now: reports are rate-limited.
    fn should_report(&mut self, now: Millis) -> bool {
        let report = self.reported_at.is_none_or(|at| now >= at + Millis(TWIN_GAP_MS));
        if report {
            self.reported_at = Some(now);
        }
        report
    }

    pub(super) fn deadline(&self) -> Option<Millis> {
        self.suspect.map(|(_, at)| at)
    }

    /// Whether this boot, `own`, is newer than one that has been up for `uptime_s`: by uptime, or
    /// in a tie by the higher boot. Both machines reach the same result, except in the moment when
    /// one sees a tie and the other does not; they meet again.
    fn is_newer(&self, own: BootId, other: BootId, uptime_s: u32, now: Millis) -> bool {
        let own_s = (now - self.began.unwrap_or(now)).0 / 1_000;
        let other_s = u64::from(uptime_s);
        if own_s.abs_diff(other_s) <= u64::from(TWIN_TIE_S) { own > other } else { own_s < other_s }
    }
}

impl Catalog {
    /// `boot` of `node` has said hello on a connection: this node connected to it at `ip`, or it
    /// connected from there. In a locked swarm a hello cannot be a replay, so announcements of that
    /// boot from that address are believed from now on.
    pub fn proved(&mut self, node: NodeId, boot: BootId, ip: IpAddr, now: Millis) {
        let ip = ip.to_canonical();
        self.claims.refute(node, boot, ip);
        let same_boot =
            self.directory.get(node).filter(|peer| peer.boot == boot).map(|peer| peer.addr.ip());
        if node == self.config.node || same_boot == Some(ip) {
            return;
        }
        let Some(claim) = self.claims.prove(node, boot, ip, now) else { return };
        let announce = claim.announced.announce();
        if same_boot.is_some() {
            return self.move_peer(node, claim.from, announce.tcp_port);
        }
        if let Ok(outcome) =
            self.directory.admit(&claim.header, &announce, claim.from, &mut self.dice, now)
        {
            self.note_proven(node, claim.from, claim.delivery, now);
            self.directory.with(node, |peer| peer.repair_now(now));
            let event = self.note(node, outcome, &Message::Announce(announce), now);
            self.events.extend(event);
        }
    }

    fn move_peer(&mut self, node: NodeId, from: SocketAddr, tcp_port: u16) {
        let moved = self.directory.with(node, |peer| {
            peer.addr = from;
            peer.addr.set_port(tcp_port);
        });
        self.stats.moved += u64::from(moved.is_some());
    }

    /// Takes in an authentic datagram of another node, at an epoch that is not too old.
    pub(super) fn handle_peer(
        &mut self,
        from: SocketAddr,
        header: &Header,
        message: &Message<'_>,
        now: Millis,
    ) -> Result<Outcome, CatalogFault> {
        let context =
            Context { from, swarm: self.config.keys.current().tag(), dice: &mut self.dice };
        let outcome = self.directory.handle(header, message, context, now)?;
        let outcome = match message {
            Message::Announce(announce) => {
                self.check_announcement(outcome, from, header, announce, now)?
            }
            _ => outcome,
        };
        self.note_delivery(from, (header.node, header.boot), outcome, now);
        Ok(outcome)
    }

    /// Checks an announcement that is not of a proven boot at a proven address.
    fn check_announcement(
        &mut self,
        outcome: Outcome,
        from: SocketAddr,
        header: &Header,
        announce: &Announce<'_>,
        now: Millis,
    ) -> Result<Outcome, CatalogFault> {
        match outcome {
            Outcome::Claimed => self.handle_claim(from, header, announce, now),
            Outcome::Moved if self.keeps_address(header.node, from, now) => Ok(Outcome::Known),
            Outcome::Moved => {
                if self.handle_address_claim(from, header, announce, now) {
                    self.move_peer(header.node, from, announce.tcp_port);
                }
                Ok(outcome)
            }
            _ => Ok(outcome),
        }
    }

    /// An unknown boot announces itself. It is believed if it has already answered, otherwise its
    /// claim is checked.
    fn handle_claim(
        &mut self,
        from: SocketAddr,
        header: &Header,
        announce: &Announce<'_>,
        now: Millis,
    ) -> Result<Outcome, CatalogFault> {
        let nodes = self.nodes();
        match self.claims.handle(header, announce, from, nodes, &mut self.dice, now) {
            claims::Outcome::Proven => {
                return self.directory.admit(header, announce, from, &mut self.dice, now);
            }
            claims::Outcome::New => {
                self.stats.claims += 1;
                // The newcomer should hear of this node, whoever it is: if it is live, it connects.
                self.schedule.answer(nodes, &mut self.dice, now);
            }
            claims::Outcome::Waiting => {}
            claims::Outcome::Full => {
                self.stats.claims_dropped += 1;
                self.schedule.answer(nodes, &mut self.dice, now);
            }
        }
        Ok(Outcome::Claimed)
    }

    /// A proven boot is heard at another address. Returns whether it has already answered there;
    /// otherwise that claim is checked.
    fn handle_address_claim(
        &mut self,
        from: SocketAddr,
        header: &Header,
        announce: &Announce<'_>,
        now: Millis,
    ) -> bool {
        let nodes = self.nodes();
        let outcome = self.claims.handle(header, announce, from, nodes, &mut self.dice, now);
        match outcome {
            claims::Outcome::New => self.stats.claims += 1,
            claims::Outcome::Full => self.stats.claims_dropped += 1,
            claims::Outcome::Proven | claims::Outcome::Waiting => {}
        }
        outcome == claims::Outcome::Proven
    }

    /// The next connection to make, if one is due: the hello shows whether the peer is who
    /// datagrams say it is.
    pub fn poll_probe(&mut self, now: Millis) -> Option<Probe> {
        self.expire(now);
        let (node, swarm) = (self.config.node, self.config.keys.current().tag());
        let twin = self.twins.poll(now).map(|addr| Probe { node, addr, swarm, boot: None });
        let probe = twin.or_else(|| self.claims.poll_probe(self.config.epochs.epoch, now))?;
        self.stats.probes += 1;
        Some(probe)
    }

    /// A probe was not made because too many are under way: it is offered again soon.
    pub(crate) fn put_off(&mut self, probe: &Probe, now: Millis) {
        self.stats.probes -= 1;
        if probe.node == self.config.node {
            self.twins.put_off(probe.addr, now);
        } else {
            self.claims.put_off(probe, now);
        }
    }

    /// The next event for the node, until there are none.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// A datagram with this node's id: its own, echoed; a replay of an earlier boot; or one of a
    /// machine with the same id. Only a connection tells the latter two apart.
    pub(super) fn handle_own_id(
        &mut self,
        from: SocketAddr,
        header: &Header,
        message: &Message<'_>,
        now: Millis,
    ) {
        if header.boot == self.config.boot {
            self.stats.echoes += 1;
            return;
        }
        self.stats.duplicate_identity += 1;
        if let Message::Announce(announce) = message {
            let mut addr = from;
            addr.set_port(announce.tcp_port);
            self.twins.suspect(addr, now);
        }
    }

    /// Another boot with this node's id has said hello at `ip`, `uptime_s` seconds after it
    /// started: two machines share one id. The newer one steps aside, see [`Event::Twin`], but only
    /// on a connection that this node made (`called`), and at most twice.
    pub(crate) fn twin(
        &mut self,
        boot: BootId,
        uptime_s: u32,
        ip: IpAddr,
        called: bool,
        now: Millis,
    ) {
        if boot == self.config.boot {
            return;
        }
        let newer = self.twins.is_newer(self.config.boot, boot, uptime_s, now);
        self.stats.twins += 1;
        // Anyone may connect, so an incoming connection does not make this node step aside; only
        // its own probe does. Both machines probe each other.
        let steps_aside = newer && called && self.twins.renames < MAX_RENAMES;
        if newer && !called || !steps_aside && !self.twins.should_report(now) {
            return;
        }
        self.twins.renames += u8::from(steps_aside);
        let event = Event::Twin { ip: ip.to_canonical(), steps_aside };
        if self.events.len() < MAX_EVENTS {
            self.events.push_back(event);
        }
    }

    /// Changes this node's id, and announces that at once.
    pub(crate) fn rename(&mut self, node: NodeId, now: Millis) {
        self.config.node = node;
        self.twins.suspect = None;
        self.schedule.announce_now(now);
    }

    /// Whether to report the other version at this address.
    pub(super) fn should_report_version(&mut self, ip: IpAddr) -> bool {
        !self.versions_reported.contains(&ip) && self.versions_reported.push(ip).is_ok()
    }
}

/// Most events that wait at a time: they are drained after every input.
const MAX_EVENTS: usize = 64;
