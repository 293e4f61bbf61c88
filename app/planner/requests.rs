//! Requests for planes: which source to ask for each plane that a hop depends on.
//!
//! A plane is requested from the source that would deliver it soonest, given everything requested
//! before it, and never from a source that has no room. A plane that is on its way is requested
//! elsewhere only if it would arrive there much earlier.

use super::{Cell, Hop, PRIOR_ROUND_TRIP_MS, Place, SourceSet, View, Want, prior};
use crate::kv::Plane;
use crate::limits::BLOCK_TOKENS;

/// How many times longer a plane may take than it would elsewhere before it is requested there
/// instead. A factor near one would request planes twice whenever a radio hesitates.
const REREQUEST_FACTOR: f32 = 3.0;

/// Minimum gain, in milliseconds, for requesting a plane again elsewhere: several of a
/// radio's pauses.
const REREQUEST_GAIN_MS: f32 = 30.0;

/// Assigns wants to sources, and tracks each source's load.
pub(super) struct Requests<'v, 'a> {
    view: &'v View<'a>,
    in_flight: Vec<usize>,
    room: Vec<usize>,
    room_in_all: usize,
    prior: f32,
    pub(super) wants: Vec<Want>,
}

impl<'v, 'a> Requests<'v, 'a> {
    pub(super) fn new(view: &'v View<'a>) -> Requests<'v, 'a> {
        let in_flight = view.sources.iter().map(|source| source.in_flight).collect();
        let room = view.sources.iter().map(|source| source.room).collect();
        Requests {
            view,
            in_flight,
            room,
            room_in_all: view.room,
            prior: prior(view.sources),
            wants: Vec::new(),
        }
    }

    /// Requests what the hop depends on, starting at the tail: computing covers what is still
    /// missing, and everything after that is useful. Also requests one row before the meeting
    /// point, so that the link does not go idle if computing is slower than expected.
    pub(super) fn plan(&mut self, hop: &Hop) {
        let view = self.view;
        let rows = hop.resume / BLOCK_TOKENS;
        let window = (view.first_sliding)(hop.resume) / BLOCK_TOKENS;
        if let Some(ending) = view.ending.filter(|_| !hop.resume.is_multiple_of(BLOCK_TOKENS)) {
            for plane in Plane::ALL {
                self.consider(
                    Place::Ending,
                    plane,
                    ending.cells[plane as usize],
                    ending.bytes[plane as usize],
                );
            }
        }
        let last =
            (hop.meet / BLOCK_TOKENS).saturating_sub(1).max(view.ready.div_ceil(BLOCK_TOKENS));
        for row in (last.min(rows)..rows).rev() {
            if self.room_in_all == 0 || self.room.iter().all(|room| *room == 0) {
                return;
            }
            for plane in Plane::ALL {
                if plane == Plane::Global || row >= window {
                    self.consider(
                        Place::Row(row),
                        plane,
                        view.rows[row][plane as usize],
                        view.bytes[plane as usize],
                    );
                }
            }
        }
    }

    fn consider(&mut self, place: Place, plane: Plane, cell: Cell, bytes: usize) {
        let source = match cell {
            Cell::Missing(sources) => self.quickest(sources, bytes).map(|(source, _)| source),
            Cell::Coming { source, left, others } if left > 0 => {
                self.quicker(source, others & !(1 << source), bytes)
            }
            Cell::Have | Cell::Coming { .. } => None,
        };
        let asked = self.wants.iter().any(|want| want.place == place && want.plane == plane);
        if let Some(source) = source.filter(|_| !asked && self.room_in_all > 0) {
            self.room_in_all -= 1;
            self.in_flight[source] += bytes;
            self.room[source] -= 1;
            self.wants.push(Want { place, plane, source });
        }
    }

    /// The source that would deliver soonest, of those that may be asked, and in how
    /// many milliseconds.
    fn quickest(&self, sources: SourceSet, bytes: usize) -> Option<(usize, f32)> {
        let members = (0..self.view.sources.len())
            .filter(|at| sources & (1 << at) != 0 && self.room[*at] > 0);
        members
            .map(|at| (at, self.ms(at, bytes)))
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .filter(|(_, ms)| ms.is_finite())
    }

    /// Another source that would deliver the plane so much earlier that it is requested
    /// there instead.
    fn quicker(&self, source: usize, others: SourceSet, bytes: usize) -> Option<usize> {
        let (other, ms) = self.quickest(others, bytes)?;
        let proven = self.view.sources[other].bytes_per_ms.is_some();
        let stays = self.in_flight[source] as f32 / self.rate(source);
        (stays == f32::INFINITY || (proven && stays > REREQUEST_FACTOR * ms + REREQUEST_GAIN_MS))
            .then_some(other)
    }

    fn rate(&self, source: usize) -> f32 {
        self.view.sources[source].bytes_per_ms.unwrap_or(self.prior)
    }

    fn ms(&self, source: usize, bytes: usize) -> f32 {
        let trip = self.view.sources[source].round_trip_ms.unwrap_or(PRIOR_ROUND_TRIP_MS);
        let own = (self.in_flight[source] + bytes) as f32 / self.rate(source);
        // On a saturated link, another source is no faster.
        let all = self.in_flight.iter().sum::<usize>() + bytes;
        trip + self.view.link_bytes_per_ms.map_or(own, |link| own.max(all as f32 / link))
    }
}
