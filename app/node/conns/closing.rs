//! How connections end: with a goodbye that says why, or at once.
//!
//! Whichever way a connection ends, its wants are lost and its pins dropped. A peer that broke a
//! rule is told so before its connection closes, and the fault is counted. At most
//! [`MAX_CLOSING_CONNECTIONS`] connections are closing at a time: beyond that, the oldest of them
//! closes without sending its goodbye.

use core::net::IpAddr;

use super::{Conn, ConnId, Conns, Event, Loss, Output, Shared, Side};
use crate::id::{Millis, NodeId};
use crate::limits::{CLOSING_MS, LEAST_PEERS, MAX_CLOSING_CONNECTIONS};
use crate::transfer::{ByeReason, Fault, Hello, VERSION};

impl Conns {
    /// A peer left or restarted. Ends the connection with its earlier start, and
    /// clears its backoff.
    pub(crate) fn part_from(&mut self, node: NodeId, shared: &mut Shared) {
        self.backoff.forget(node);
        self.pulls.remove(&node);
        let boot = shared.catalog.peer(node).map(|known| known.boot);
        let Some(&id) = self.to.get(&node) else { return };
        let Some(Conn { side: Side::Fetch(fetch), .. }) = self.conns.get(&id) else { return };
        if fetch.fetcher.peer().is_some_and(|hello| Some(hello.boot) != boot)
            && let Some(Conn { side: Side::Fetch(fetch), .. }) = self.close(id, shared)
        {
            self.lose(fetch, Loss::Gone);
        }
    }

    /// Ends the connections in both directions with a peer whose bytes are wrong. The goodbye says
    /// that it broke a rule, so that it stays away for a while.
    pub(crate) fn end_with(&mut self, node: NodeId, shared: &mut Shared, now: Millis) {
        self.pulls.remove(&node);
        let peer = |conn: &Conn| match &conn.side {
            Side::Fetch(fetch) => Some(fetch.peer),
            Side::Serve(serve) => serve.server.peer().map(|hello| hello.node),
        };
        let ended: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(_, conn)| peer(conn) == Some(node))
            .map(|(id, _)| *id)
            .collect();
        ended.into_iter().for_each(|id| self.say_goodbye(id, ByeReason::Protocol, shared, now));
    }

    /// Ends every connection without a goodbye, and sends `hello` on later ones.
    pub(crate) fn drop_all(&mut self, hello: Hello, shared: &mut Shared) {
        self.hello = hello;
        self.pulls.clear();
        while let Some((&id, _)) = self.conns.first_key_value() {
            if let Some(Conn { side: Side::Fetch(fetch), .. }) = self.close(id, shared) {
                self.lose(fetch, Loss::Gone);
            }
        }
    }

    /// The peer broke a rule: tells it so and ends the connection.
    pub(super) fn on_fault(&mut self, id: ConnId, fault: &Fault, shared: &mut Shared, now: Millis) {
        let (peer, ip) = match self.conns.get(&id) {
            Some(Conn { side: Side::Fetch(fetch), .. }) if fetch.probes => {
                return self.say_goodbye(id, fault.reason(), shared, now);
            }
            Some(Conn { side: Side::Fetch(fetch), .. }) => {
                shared.trust.fault(fetch.peer, fault, now);
                self.backoff.refused(fetch.peer, now);
                (Some(fetch.peer), fetch.addr.ip())
            }
            Some(Conn { side: Side::Serve(serve), .. }) => {
                (serve.server.peer().map(|hello| hello.node), serve.from)
            }
            None => return,
        };
        if let Fault::Version { theirs, .. } = fault {
            self.report_version(ip, Some(*theirs < VERSION), shared);
        } else if is_logged(id, peer, fault) {
            shared.report(Event::PeerFault { peer, fault: *fault });
        }
        // A node that runs another model is not at fault: callers find that out by connecting.
        shared.stats.peer_faults +=
            u64::from(!matches!(fault, Fault::Idle | Fault::Fingerprint { .. }));
        self.say_goodbye(id, fault.reason(), shared, now);
    }

    /// Reports a node of another version, once per address and only for a limited number
    /// of addresses.
    pub(super) fn report_version(&mut self, ip: IpAddr, older: Option<bool>, shared: &mut Shared) {
        let ip = ip.to_canonical();
        if self.outdated.len() < LEAST_PEERS && self.outdated.insert(ip) {
            shared.report(Event::OtherVersion { ip, older });
        }
    }

    /// Says goodbye on a connection, which ends when the goodbye is sent. Its wants are lost and
    /// its pins dropped.
    pub(super) fn say_goodbye(
        &mut self,
        id: ConnId,
        reason: ByeReason,
        shared: &mut Shared,
        now: Millis,
    ) {
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.closing.is_none()) else {
            return;
        };
        conn.closing = Some(now + Millis(CLOSING_MS));
        self.dirty.insert(id);
        match &mut conn.side {
            Side::Fetch(fetch) => {
                fetch.fetcher.bye(reason);
                let (peer, open) = (fetch.peer, core::mem::take(&mut fetch.open));
                if self.to.get(&peer) == Some(&id) {
                    self.to.remove(&peer);
                }
                self.lose_wants(open.into_keys(), Loss::Gone);
            }
            Side::Serve(serve) => {
                serve.server.bye(reason);
                serve.drop_pins(&mut shared.cache);
            }
        }
        let closing =
            self.conns.iter().filter_map(|(id, conn)| conn.closing.map(|until| (until, *id)));
        if closing.clone().count() > MAX_CLOSING_CONNECTIONS
            && let Some((_, oldest)) = closing.min()
        {
            self.close(oldest, shared);
        }
    }

    /// Closes a connection at once and forgets it.
    pub(super) fn close(&mut self, id: ConnId, shared: &mut Shared) -> Option<Conn> {
        shared.out.push_back(Output::Close(id));
        self.remove(id, shared)
    }

    /// Forgets a connection. The caller must report its wants as lost.
    pub(super) fn remove(&mut self, id: ConnId, shared: &mut Shared) -> Option<Conn> {
        let mut conn = self.conns.remove(&id)?;
        self.dirty.remove(&id);
        self.throttle.forget(id);
        match &mut conn.side {
            Side::Fetch(fetch) if self.to.get(&fetch.peer) == Some(&id) => {
                self.to.remove(&fetch.peer);
            }
            Side::Fetch(_) => {}
            Side::Serve(serve) => serve.drop_pins(&mut shared.cache),
        }
        Some(conn)
    }
}

/// Whether a fault is worth a log line. A caller that went to sleep has done nothing wrong.
/// Strangers that only connect, lack the key or replay recordings must not fill the log.
fn is_logged(id: ConnId, peer: Option<NodeId>, fault: &Fault) -> bool {
    match fault {
        _ if matches!(id, ConnId::Out(_)) => true,
        Fault::Idle | Fault::Silent | Fault::Magic | Fault::Swarm | Fault::Handshake => false,
        // Either this node itself, which probes every address where a machine with its own id was
        // reported, or that machine, which is reported separately.
        Fault::SameNode | Fault::Twin => false,
        _ => peer.is_some(),
    }
}
