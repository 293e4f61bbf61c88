//! How the table lets go of what its cells hold: wants, slots that only this prompt knows, and pins
//! in the cache.
//!
//! [`Blocks::clear`] cancels, releases or unpins whatever a cell holds, so that nothing leaks. When
//! a job needs a slot, [`Blocks::give_up`] releases what nothing depends on yet, and never state
//! that the answer has used.

use crate::id::Millis;
use crate::kv::Plane;
use crate::limits::BLOCK_TOKENS;
use crate::planner::SourceSet;

use super::super::conns::Conns;
use super::super::shared::Shared;
use super::blocks::{Blocks, Cell, Row};

impl Blocks {
    /// Replaces a cell's state: cancels, unpins or releases what was in it.
    pub(super) fn clear(
        shared: &mut Shared,
        conns: &mut Conns,
        row: &mut Row,
        plane: Plane,
        then: Cell,
        now: Millis,
    ) {
        match std::mem::replace(&mut row.cells[plane as usize], then) {
            Cell::Missing | Cell::Passed => {}
            Cell::Wanted { id, slot, .. } => {
                conns.cancel(id, shared, now);
                shared.cache.release(slot);
            }
            Cell::Arrived { slot, .. } => {
                shared.stats.planes_unused += 1;
                shared.cache.release(slot);
            }
            Cell::Own { slot, .. } => shared.cache.release(slot),
            Cell::Shared { .. } => {
                if let Some(link) = &row.link {
                    shared.cache.unpin(&link.key, plane);
                }
            }
        }
    }

    /// Cancels all wants and makes no more. What has arrived stays.
    pub(super) fn end_wants(&mut self, shared: &mut Shared, conns: &mut Conns, now: Millis) {
        for row in self.rows.iter_mut().chain(self.ending.as_mut().map(|ending| &mut ending.block))
        {
            for plane in Plane::ALL {
                if matches!(row.cells[plane as usize], Cell::Wanted { .. }) {
                    Blocks::clear(shared, conns, row, plane, Cell::Missing, now);
                }
                row.holders[plane as usize] = 0;
            }
        }
    }

    /// Cancels all wants and makes no more, and releases what has arrived but was not used.
    pub(super) fn end_fetch(&mut self, shared: &mut Shared, conns: &mut Conns, now: Millis) {
        self.end_wants(shared, conns, now);
        for row in &mut self.rows {
            for plane in Plane::ALL {
                if matches!(row.cells[plane as usize], Cell::Arrived { .. }) {
                    Blocks::clear(shared, conns, row, plane, Cell::Missing, now);
                }
            }
        }
        self.drop_ending(shared, conns, now);
    }

    /// Drops the ending.
    pub(super) fn drop_ending(&mut self, shared: &mut Shared, conns: &mut Conns, now: Millis) {
        let Some(mut ending) = self.ending.take() else { return };
        for plane in Plane::ALL {
            Blocks::clear(shared, conns, &mut ending.block, plane, Cell::Missing, now);
        }
    }

    /// Releases everything.
    pub(super) fn let_go(&mut self, shared: &mut Shared, conns: &mut Conns, now: Millis) {
        self.end_fetch(shared, conns, now);
        for row in &mut self.rows {
            for plane in Plane::ALL {
                Blocks::clear(shared, conns, row, plane, Cell::Missing, now);
            }
        }
    }

    /// Releases one slot of a plane that nothing depends on, because computing needs it. Picks
    /// the one that computing would reach first, since a fetch from the tail is useful without
    /// it. After those, releases cached blocks that are still ahead of token `ready`. False if
    /// there is none.
    pub(super) fn give_up(
        &mut self,
        plane: Plane,
        ready: usize,
        shared: &mut Shared,
        conns: &mut Conns,
        now: Millis,
    ) -> bool {
        let spare = |row: &Row| {
            matches!(row.cells[plane as usize], Cell::Wanted { .. } | Cell::Arrived { .. })
        };
        let row = self.rows.iter_mut().find(|row| spare(row));
        let Some(row) =
            row.or(self.ending.as_mut().map(|ending| &mut ending.block).filter(|row| spare(row)))
        else {
            return self.unpin_ahead(plane, ready, shared, conns, now);
        };
        row.holders[plane as usize] = 0;
        row.denied[plane as usize] = SourceSet::MAX;
        Blocks::clear(shared, conns, row, plane, Cell::Missing, now);
        true
    }

    /// Releases a pin ahead of token `ready`, so that the cache may evict what it holds there. For
    /// global planes it is the last one, because others depend on those before it. The block's
    /// sliding plane goes with it, or the block would stay.
    fn unpin_ahead(
        &mut self,
        plane: Plane,
        ready: usize,
        shared: &mut Shared,
        conns: &mut Conns,
        now: Millis,
    ) -> bool {
        let is_pinned =
            |row: &Row, plane: Plane| matches!(row.cells[plane as usize], Cell::Shared { .. });
        if self
            .ending
            .as_ref()
            .is_some_and(|ending| Plane::ALL.iter().any(|plane| is_pinned(&ending.block, *plane)))
        {
            self.drop_ending(shared, conns, now);
            return true;
        }
        let mut ahead = self.rows.iter_mut().skip(ready.div_ceil(BLOCK_TOKENS));
        let row = match plane {
            Plane::Global => {
                ahead.rfind(|row| Plane::ALL.iter().any(|plane| is_pinned(row, *plane)))
            }
            Plane::Sliding => ahead.find(|row| is_pinned(row, Plane::Sliding)),
        };
        let Some(row) = row else { return false };
        for plane in Plane::ALL.into_iter().filter(|each| plane == Plane::Global || *each == plane)
        {
            if is_pinned(row, plane) {
                row.holders[plane as usize] = 0;
                row.denied[plane as usize] = SourceSet::MAX;
                Blocks::clear(shared, conns, row, plane, Cell::Missing, now);
            }
        }
        true
    }
}
