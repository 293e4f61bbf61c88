//! What the catalog has counted since the node started.

use serde::Serialize;

use super::CatalogFault;

/// Counters of the catalog. They only grow.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct CatalogStats {
    /// Announcements sent.
    pub(crate) announcements_sent: u64,
    /// Deltas sent.
    pub(crate) deltas_sent: u64,
    /// Whole segments sent.
    pub(crate) segments_sent: u64,
    /// Resets sent: orders to the swarm, repeats included.
    pub(crate) resets_sent: u64,
    /// Warnings sent, repeats included.
    pub(crate) warnings_sent: u64,
    /// Bytes of all datagrams sent, without IP and UDP headers.
    pub(crate) bytes_sent: u64,
    /// Announcements used.
    pub(crate) announcements_heard: u64,
    /// Deltas used.
    pub(crate) deltas_heard: u64,
    /// Whole segments used.
    pub(crate) segments_heard: u64,
    /// Resets heard, repeats included.
    pub(crate) resets_heard: u64,
    /// Warnings heard, repeats included.
    pub warnings_heard: u64,
    /// Bytes of all datagrams that came in, used or not.
    pub(crate) bytes_heard: u64,
    /// Our own datagrams, received back.
    pub(crate) echoes: u64,
    /// Datagrams that carry our node id but were sent by another start of it.
    pub(crate) duplicate_identity: u64,
    /// Hellos of other machines with our node id.
    pub(crate) twins: u64,
    /// Datagrams that were duplicates or came too late.
    pub(crate) overtaken: u64,
    /// Boots and addresses that were announced before they had answered.
    pub claims: u64,
    /// Claims dropped for lack of room: a flood.
    pub(crate) claims_dropped: u64,
    /// Connections requested to check claims.
    pub(crate) probes: u64,
    /// Peers that were proven at another address.
    pub(crate) moved: u64,
    /// Deltas, segments and goodbyes of unknown nodes.
    pub(crate) strangers: u64,
    /// Datagrams with a reset that this node has not obeyed yet.
    pub(crate) newer_epoch: u64,
    /// Datagrams of an epoch older than ours: answered, never believed.
    pub(crate) older_epoch: u64,
    /// New peers.
    pub(crate) joined: u64,
    /// Peers that restarted.
    pub(crate) restarted: u64,
    /// Peers that said goodbye.
    pub(crate) left: u64,
    /// Peers forgotten because they were silent.
    pub(crate) forgotten: u64,
    /// Peers forgotten by a reset.
    pub(crate) reset: u64,
    /// Peers forgotten because the table was full.
    pub(crate) evicted: u64,
    /// Announcements of new peers that the table had no room for.
    pub(crate) table_full: u64,
    /// Filter repairs started.
    pub(crate) pulls: u64,
    /// Segments repaired.
    pub segments_pulled: u64,
    /// Pulled segments that could not be used.
    pub(crate) pull_faults: u64,
    /// Removals of entries that were not in this node's filter.
    pub(crate) removed_absent: u64,
    /// Datagrams of other programs.
    pub(crate) foreign: u64,
    /// Datagrams of another protocol version.
    pub(crate) other_version: u64,
    /// Datagrams of another swarm.
    pub(crate) other_swarm: u64,
    /// Datagrams that were not sealed with the swarm's key, or were altered.
    pub forged: u64,
    /// Datagrams that could not be decoded, or were too long.
    pub(crate) malformed: u64,
    /// Datagrams of the swarm beyond the rate allowed to one address: replays.
    pub(crate) throttled: u64,
    /// Datagrams with an impossible geometry or port.
    pub(crate) out_of_limits: u64,
    /// Datagrams that contradict what their sender said before, or themselves.
    pub(crate) contradictions: u64,
}

impl CatalogStats {
    /// Adds what was dropped before it reached the catalog.
    pub(crate) fn add_dropped(&mut self, thrown: &CatalogStats) {
        self.bytes_heard += thrown.bytes_heard;
        self.foreign += thrown.foreign;
        self.other_version += thrown.other_version;
        self.other_swarm += thrown.other_swarm;
        self.forged += thrown.forged;
        self.malformed += thrown.malformed;
        self.throttled += thrown.throttled;
        self.out_of_limits += thrown.out_of_limits;
    }

    pub(super) fn count(&mut self, fault: CatalogFault) {
        *match fault {
            CatalogFault::Foreign => &mut self.foreign,
            CatalogFault::Version(_) => &mut self.other_version,
            CatalogFault::OtherSwarm => &mut self.other_swarm,
            CatalogFault::Forged => &mut self.forged,
            CatalogFault::TooLong(_) | CatalogFault::Malformed => &mut self.malformed,
            CatalogFault::Geometry | CatalogFault::Port => &mut self.out_of_limits,
            CatalogFault::Contradiction | CatalogFault::Digest => &mut self.contradictions,
            CatalogFault::NotAsked | CatalogFault::Outdated => &mut self.pull_faults,
        } += 1;
    }
}
