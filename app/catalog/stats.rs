//! What the catalog counted since the node started.

use serde::Serialize;

use super::CatalogFault;

/// Counters of the catalog. They only grow.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct CatalogStats {
    /// Announcements sent.
    pub announcements_sent: u64,
    /// Deltas sent.
    pub deltas_sent: u64,
    /// Whole segments sent.
    pub segments_sent: u64,
    /// Resets sent: orders to the swarm, repeats included.
    pub resets_sent: u64,
    /// Warnings sent, repeats included.
    pub warnings_sent: u64,
    /// Bytes of all datagrams sent, without IP and UDP headers.
    pub bytes_sent: u64,
    /// Announcements used.
    pub announcements_heard: u64,
    /// Deltas used.
    pub deltas_heard: u64,
    /// Whole segments used.
    pub segments_heard: u64,
    /// Resets heard, repeats included.
    pub resets_heard: u64,
    /// Warnings heard, repeats included.
    pub warnings_heard: u64,
    /// Bytes of all datagrams that came in, used or not.
    pub bytes_heard: u64,
    /// Our own datagrams, come back.
    pub echoes: u64,
    /// Datagrams that carry our node id but were sent by another start of it.
    pub duplicate_identity: u64,
    /// Hellos of other machines with our node id.
    pub twins: u64,
    /// Datagrams that came twice or too late.
    pub overtaken: u64,
    /// Boots and addresses that were announced without having answered before.
    pub claims: u64,
    /// Announcements of such ones for which there was no room: a flood.
    pub claims_dropped: u64,
    /// Connections asked for to look into them.
    pub probes: u64,
    /// Peers that were proven at another address.
    pub moved: u64,
    /// Deltas, segments and goodbyes of nodes that have not announced themselves.
    pub strangers: u64,
    /// Datagrams that tell of a reset that this node has not obeyed yet.
    pub newer_epoch: u64,
    /// Datagrams of an epoch older than ours: answered, never believed.
    pub older_epoch: u64,
    /// Peers that came to be known.
    pub joined: u64,
    /// Peers that started anew.
    pub restarted: u64,
    /// Peers that said goodbye.
    pub left: u64,
    /// Peers forgotten because they were silent.
    pub forgotten: u64,
    /// Peers forgotten by a reset.
    pub reset: u64,
    /// Peers forgotten because the table was full.
    pub evicted: u64,
    /// Announcements of newcomers for whom the table had no room.
    pub table_full: u64,
    /// Filter repairs started.
    pub pulls: u64,
    /// Segments repaired.
    pub segments_pulled: u64,
    /// Pulled segments that could not be used.
    pub pull_faults: u64,
    /// Removals of entries that were not in the own filter.
    pub removed_absent: u64,
    /// Datagrams that are not potluck's.
    pub foreign: u64,
    /// Datagrams of another protocol version.
    pub other_version: u64,
    /// Datagrams of another swarm.
    pub other_swarm: u64,
    /// Datagrams that were not closed with the swarm's key, or altered.
    pub forged: u64,
    /// Datagrams that could not be decoded, or were too long.
    pub malformed: u64,
    /// Datagrams with an impossible geometry or port.
    pub out_of_limits: u64,
    /// Datagrams that contradict what their sender said before, or themselves.
    pub contradictions: u64,
}

impl CatalogStats {
    /// Adds what was thrown away before the catalog was given it.
    pub fn add_thrown(&mut self, thrown: &CatalogStats) {
        self.bytes_heard += thrown.bytes_heard;
        self.foreign += thrown.foreign;
        self.other_version += thrown.other_version;
        self.other_swarm += thrown.other_swarm;
        self.forged += thrown.forged;
        self.malformed += thrown.malformed;
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
