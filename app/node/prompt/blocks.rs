//! The table of blocks: the only record of a prompt's KV state. It has one row per block and one
//! cell per plane, and each cell has one state at a time. The resume point, the next blocks to
//! compute or request, and the figures are all derived from it.
//!
//! A cell remembers who made its bytes. Fetched bytes stay in slots that only this prompt knows
//! until an answer depends on them. Then they are committed to the cache, with their maker. Nothing
//! else ever sees bytes that were fetched but not used.

use crate::cache::{Chain, Link, Maker, Slot};
use crate::id::{NodeId, TokenId};
use crate::kv::{Page, Plane};
use crate::limits::BLOCK_TOKENS;
use crate::planner::{self, SourceSet};

use super::super::conns::WantId;
use super::super::shared::Shared;

/// One plane of one block.
#[derive(Debug)]
pub(super) enum Cell {
    /// Not here.
    Missing,
    /// Requested from a peer, whose bytes are written straight into the slot.
    Wanted { id: WantId, source: usize, slot: Slot, landed: usize },
    /// Arrived, complete and checked; nothing depends on it yet.
    Arrived { from: NodeId, slot: Slot },
    /// In place, in a slot that only this prompt knows: computed, or copied from a block that
    /// continues differently.
    Own { slot: Slot, maker: Maker },
    /// In the cache, pinned.
    Shared { page: Page, maker: Maker },
    /// Left behind by the window: no later token sees it.
    Passed,
}

impl Cell {
    /// The page, if its bytes may be read.
    pub(super) fn page(&self) -> Option<&Page> {
        match self {
            Cell::Own { slot, .. } => Some(slot.page()),
            Cell::Shared { page, .. } => Some(page),
            Cell::Missing | Cell::Wanted { .. } | Cell::Arrived { .. } | Cell::Passed => None,
        }
    }

    /// Who made the bytes that are in place.
    fn maker(&self) -> Option<Maker> {
        match self {
            Cell::Own { maker, .. } | Cell::Shared { maker, .. } => Some(*maker),
            Cell::Missing | Cell::Wanted { .. } | Cell::Arrived { .. } | Cell::Passed => None,
        }
    }

    fn have(&self) -> bool {
        matches!(self, Cell::Arrived { .. } | Cell::Own { .. } | Cell::Shared { .. })
    }
}

/// One block.
#[derive(Debug)]
pub(super) struct Row {
    /// Its key, parent and tokens; none while an answer is still filling it.
    pub link: Option<Link>,
    pub cells: [Cell; 2],
    /// The sources that seem to hold each plane.
    pub holders: [SourceSet; 2],
    /// The sources that turned out not to hold it, or that must not be asked for it again.
    pub denied: [SourceSet; 2],
    /// The tokens at its start that were not computed.
    pub taken: Taken,
}

/// The part of a block that was not computed.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Taken {
    pub tokens: usize,
    /// The peer that supplied any of it; none if it was here already.
    pub from: Option<NodeId>,
}

impl Row {
    pub(super) fn empty(link: Option<Link>) -> Row {
        Row {
            link,
            cells: [Cell::Missing, Cell::Missing],
            holders: [0, 0],
            denied: [0, 0],
            taken: Taken::default(),
        }
    }
}

/// A block of which the prompt shares only the first `tokens` tokens.
#[derive(Debug)]
pub(super) struct Ending {
    pub row: usize,
    pub tokens: usize,
    pub block: Row,
}

impl Ending {
    /// Its link.
    pub(super) fn link(&self) -> &Link {
        self.block.link.as_ref().expect("an ending is looked up by its link")
    }
}

/// The table.
#[derive(Debug)]
pub(super) struct Blocks {
    /// Blocks of the prompt, then of the answer.
    pub rows: Vec<Row>,
    /// Number of whole blocks before the prompt's last token: those that may come from elsewhere.
    pub whole: usize,
    pub ending: Option<Ending>,
    /// The peers that may be asked, in ascending order.
    pub sources: Vec<NodeId>,
    /// Tokens that each source seems to hold, for the map.
    pub held: Vec<usize>,
    /// Whether finished blocks go into the cache. Not after a reset dropped the blocks, because
    /// this state depends on what came before.
    pub keeps: bool,
}

impl Blocks {
    /// The table of a prompt: pins what is here, and notes what peers seem to hold.
    pub(super) fn new(shared: &mut Shared, tokens: &[TokenId], sources: Vec<NodeId>) -> Blocks {
        let mut blocks = Blocks { sources, ..Blocks::bare(shared, tokens) };
        if shared.config.reuse {
            blocks.look_up(shared);
            blocks.find_ending(shared, tokens, BLOCK_TOKENS);
            blocks.pin_held(shared, tokens.len());
        }
        blocks
    }

    /// The table of a prompt that is computed entirely.
    pub(super) fn bare(shared: &Shared, tokens: &[TokenId]) -> Blocks {
        let chain = Chain::of(&shared.secret, shared.root, tokens);
        let rows = chain.blocks.into_iter().map(|link| Row::empty(Some(link))).collect();
        Blocks {
            rows,
            whole: (tokens.len() - 1) / BLOCK_TOKENS,
            ending: None,
            sources: Vec::new(),
            held: Vec::new(),
            keeps: true,
        }
    }

    /// Updates which peers seem to hold the missing planes.
    pub(super) fn look_up(&mut self, shared: &Shared) {
        let Blocks { rows, ending, sources, whole, .. } = self;
        let ending = ending.as_mut().map(|ending| &mut ending.block);
        for row in rows.iter_mut().take(*whole).chain(ending) {
            let Some(link) = &row.link else { continue };
            for plane in Plane::ALL {
                if matches!(row.cells[plane as usize], Cell::Missing) {
                    row.holders[plane as usize] =
                        holders(shared, sources, link, plane) & !row.denied[plane as usize];
                }
            }
        }
        self.count_held();
    }

    /// Looks for the longest block of at most `most` tokens that starts where the known
    /// whole blocks end.
    pub(super) fn find_ending(&mut self, shared: &Shared, tokens: &[TokenId], most: usize) {
        let known = |row: &Row| {
            let link = row.link.as_ref();
            row.holders[0] != 0 || link.is_some_and(|link| shared.cache.holds(link, Plane::Global))
        };
        let at = self.rows[..self.whole].iter().take_while(|row| known(row)).count();
        let start = at * BLOCK_TOKENS;
        let parent = at
            .checked_sub(1)
            .and_then(|before| self.rows[before].link.as_ref())
            .map_or(shared.root, |link| link.key);
        // The last token is always computed.
        let usable = tokens.len() - 1 - start;
        for len in (1..=most.min(tokens.len() - start)).rev() {
            // An available whole block is a row, unless the prompt ends with it.
            if len == BLOCK_TOKENS && usable >= BLOCK_TOKENS {
                continue;
            }
            let mut block = Row::empty(Some(crate::cache::link(
                &shared.secret,
                parent,
                &tokens[start..start + len],
            )));
            let link = block.link.as_ref().expect("just made");
            let held = Plane::ALL.map(|plane| {
                shared.cache.holds(link, plane) || self.bytes(shared, plane, len) == 0
            });
            let holders = Plane::ALL.map(|plane| holders(shared, &self.sources, link, plane));
            if (0..2).all(|plane| held[plane] || holders[plane] != 0) && usable > 0 {
                block.holders = holders;
                self.ending = Some(Ending { row: at, tokens: len.min(usable), block });
                return;
            }
        }
    }

    /// Looks for a new ending, since more whole blocks may be known now. Keeps the current one if
    /// any of it is here or on its way.
    pub(super) fn look_further(&mut self, shared: &Shared, tokens: &[TokenId]) {
        let in_use =
            |ending: &Ending| ending.block.cells.iter().any(|cell| !matches!(cell, Cell::Missing));
        if !self.ending.as_ref().is_some_and(in_use) {
            self.ending = None;
            self.find_ending(shared, tokens, BLOCK_TOKENS);
        }
    }

    /// Pins what is here and may support a resume point. Sliding planes before the window of the
    /// furthest reachable resume point are useless.
    pub(super) fn pin_held(&mut self, shared: &mut Shared, total: usize) {
        let held = |row: &Row, plane: Plane| {
            row.link.as_ref().is_some_and(|link| shared.cache.holds(link, plane))
        };
        let as_cell = |has: bool| if has { planner::Cell::Have } else { planner::Cell::Missing(0) };
        let as_row = |row: &Row| {
            Plane::ALL.map(|plane| {
                as_cell(held(row, plane) || self.bytes(shared, plane, BLOCK_TOKENS) == 0)
            })
        };
        let rows: Vec<planner::Row> = self.rows[..self.whole].iter().map(as_row).collect();
        let ending = self
            .ending
            .as_ref()
            .map(|ending| self.ending_view(shared, ending, as_row(&ending.block)));
        let shape = shared.config.shape.clone();
        let first_sliding = |resume: usize| shape.first_sliding(resume);
        let resume = planner::reach(&planner::View {
            total,
            ready: 0,
            rows: &rows,
            ending: ending.as_ref(),
            bytes: [0, 0],
            sources: &[],
            ms_per_token: 1.0,
            quickest_ms_per_token: 1.0,
            link_bytes_per_ms: None,
            room: 0,
            first_sliding: &first_sliding,
        });
        let window = first_sliding(resume) / BLOCK_TOKENS;
        let Blocks { rows, ending, whole, .. } = self;
        let ending = ending.as_mut().map(|ending| &mut ending.block);
        for (at, row) in
            rows.iter_mut().take(*whole).enumerate().chain(ending.map(|block| (usize::MAX, block)))
        {
            let Some(link) = &row.link else { continue };
            for plane in Plane::ALL {
                if (plane == Plane::Global || at >= window)
                    && matches!(row.cells[plane as usize], Cell::Missing)
                    && let Some((page, maker)) = shared.cache.pin(link, plane)
                {
                    row.cells[plane as usize] = Cell::Shared { page, maker };
                }
            }
        }
    }

    /// Size, in bytes, of one plane of a block of `tokens` tokens.
    pub(super) fn bytes(&self, shared: &Shared, plane: Plane, tokens: usize) -> usize {
        shared.config.shape.plane_bytes(plane, tokens)
    }

    /// The planner's view of the table. `usable` are the sources that may be asked.
    pub(super) fn view_rows(
        &self,
        shared: &Shared,
        usable: SourceSet,
    ) -> (Vec<planner::Row>, Option<planner::Ending>) {
        let row = |row: &Row, tokens: usize| {
            Plane::ALL.map(|plane| {
                let bytes = self.bytes(shared, plane, tokens);
                let holders = row.holders[plane as usize] & usable;
                match &row.cells[plane as usize] {
                    cell if bytes == 0 || cell.have() => planner::Cell::Have,
                    Cell::Wanted { source, landed, .. } => planner::Cell::Coming {
                        source: *source,
                        left: bytes.saturating_sub(*landed),
                        others: holders,
                    },
                    _ => planner::Cell::Missing(holders),
                }
            })
        };
        let rows = self.rows[..self.whole].iter().map(|block| row(block, BLOCK_TOKENS)).collect();
        let ending = self.ending.as_ref().map(|ending| {
            let cells = row(&ending.block, ending.link().tokens.len());
            self.ending_view(shared, ending, cells)
        });
        (rows, ending)
    }

    fn ending_view(
        &self,
        shared: &Shared,
        ending: &Ending,
        cells: planner::Row,
    ) -> planner::Ending {
        let bytes = Plane::ALL.map(|plane| self.bytes(shared, plane, ending.link().tokens.len()));
        planner::Ending { row: ending.row, tokens: ending.tokens, cells, bytes }
    }

    /// The block at the planner's `place`.
    pub(super) fn block_mut(&mut self, place: planner::Place) -> Option<&mut Row> {
        match place {
            planner::Place::Row(at) => self.rows.get_mut(at),
            planner::Place::Ending => self.ending.as_mut().map(|ending| &mut ending.block),
        }
    }

    /// The block and plane whose cell waits for this want.
    pub(super) fn wanted(&mut self, wanted: WantId) -> Option<(&mut Row, usize)> {
        let waits = |row: &Row| {
            row.cells
                .iter()
                .position(|cell| matches!(cell, Cell::Wanted { id, .. } if *id == wanted))
        };
        let ending = self.ending.as_mut().map(|ending| &mut ending.block);
        self.rows.iter_mut().chain(ending).find_map(|row| waits(row).map(|plane| (row, plane)))
    }

    /// Every cell that waits for a peer, with the peer and the number of bytes that have arrived.
    pub(super) fn wants(&self) -> impl Iterator<Item = (usize, &Slot, usize)> {
        let blocks = self.rows.iter().chain(self.ending.as_ref().map(|ending| &ending.block));
        blocks.flat_map(|row| &row.cells).filter_map(|cell| match cell {
            Cell::Wanted { source, slot, landed, .. } => Some((*source, slot, *landed)),
            _ => None,
        })
    }

    /// The peers that made any of the state in place.
    pub(super) fn foreign_makers(&self) -> Vec<NodeId> {
        let mut makers = Vec::new();
        for maker in self.rows.iter().flat_map(|row| &row.cells).filter_map(Cell::maker) {
            if let Maker::Peer(node) = maker
                && !makers.contains(&node)
            {
                makers.push(node);
            }
        }
        makers
    }

    /// Tokens in place or arrived: from this node's slab, and from peers.
    pub(super) fn gathered(&self, ready: usize) -> (usize, usize) {
        let (mut own, mut peers) = (0, 0);
        for (at, row) in self.rows.iter().enumerate() {
            let Taken { tokens, from } = row.taken;
            let arrived = row.cells.iter().any(|cell| matches!(cell, Cell::Arrived { .. }));
            let pinned = row.cells.iter().any(|cell| matches!(cell, Cell::Shared { .. }));
            match from {
                Some(_) => peers += tokens,
                None if tokens > 0 => own += tokens,
                None if at * BLOCK_TOKENS < ready => {}
                None if arrived => peers += BLOCK_TOKENS,
                None if pinned => own += BLOCK_TOKENS,
                None => {}
            }
        }
        (own, peers)
    }
}

/// The sources that seem to hold this plane.
fn holders(shared: &Shared, sources: &[NodeId], link: &Link, plane: Plane) -> SourceSet {
    if sources.is_empty() {
        return 0;
    }
    let places = shared
        .catalog
        .holders(&link.key, plane)
        .filter_map(|node| sources.binary_search(&node).ok());
    places.fold(0, |set, at| set | 1 << at)
}
