//! The planner against hand-worked cases, and against an exhaustive search over hops.

use proptest::prelude::*;

use super::*;

const WINDOW: usize = 512;
const BYTES: [usize; 2] = [26_112, 130_560];

fn first_sliding(resume: usize) -> usize {
    (resume + 1).saturating_sub(WINDOW)
}

/// A prompt of `total` tokens whose whole blocks are all held by the sources in `holders`.
#[derive(Debug)]
struct Case {
    total: usize,
    ready: usize,
    rows: Vec<Row>,
    ending: Option<Ending>,
    sources: Vec<Source>,
    ms_per_token: f32,
    /// If it was less before.
    quickest: Option<f32>,
    link: Option<f32>,
}

impl Case {
    fn new(total: usize, holders: SourceSet, sources: Vec<Source>) -> Case {
        let rows = vec![[Cell::Missing(holders); 2]; (total - 1) / BLOCK_TOKENS];
        Case {
            total,
            ready: 0,
            rows,
            ending: None,
            sources,
            ms_per_token: 11.0,
            quickest: None,
            link: None,
        }
    }

    fn view<T>(&self, look: impl FnOnce(&View<'_>) -> T) -> T {
        look(&View {
            total: self.total,
            ready: self.ready,
            rows: &self.rows,
            ending: self.ending.as_ref(),
            bytes: BYTES,
            sources: &self.sources,
            ms_per_token: self.ms_per_token,
            quickest_ms_per_token: self.quickest.unwrap_or(self.ms_per_token),
            link_bytes_per_ms: self.link,
            room: 1_000,
            first_sliding: &first_sliding,
        })
    }

    fn step(&self) -> Step {
        self.view(step)
    }
}

fn source(bytes_per_ms: f32) -> Source {
    Source { bytes_per_ms: Some(bytes_per_ms), round_trip_ms: Some(6.0), in_flight: 0, room: 16 }
}

#[test]
fn without_sources_it_is_plain_prefill_in_long_steps() {
    let case = Case::new(405, 0, Vec::new());
    assert_eq!(case.step(), Step { compute_to: 64, hold_ms: None, wants: Vec::new(), hop: None });
    let last = Case { ready: 384, ..Case::new(405, 0, Vec::new()) };
    assert_eq!(last.step().compute_to, 405);
}

#[test]
fn a_source_as_fast_as_computing_is_met_in_the_middle() {
    // 176 ms a block either way.
    let case = Case::new(405, 1, vec![source(156_672.0 / 176.0)]);
    let hop = case.step().hop.unwrap();
    assert_eq!(hop.resume, 400);
    assert!((192..=208).contains(&hop.meet), "{hop:?}");
    assert_eq!(case.step().compute_to, 64, "far from the meeting point steps are long");
    let near = Case { ready: 192, ..Case::new(290, 1, vec![source(1_800.0)]) };
    assert!(near.step().hop.is_some_and(|hop| hop.meet < 192 + 48));
    assert_eq!(near.step().compute_to, 208, "near it they are short");
}

#[test]
fn wants_come_from_the_tail_and_stop_short_of_where_computing_gets_first() {
    let case = Case::new(405, 1, vec![source(890.0)]);
    let wants = case.step().wants;
    assert_eq!(wants.len(), 16, "as many as the source has room for");
    assert_eq!(wants[0], Want { place: Place::Row(24), plane: Plane::Global, source: 0 });
    assert_eq!(wants[1], Want { place: Place::Row(24), plane: Plane::Sliding, source: 0 });
    assert_eq!(wants[15].place, Place::Row(17));
    let slow = Case::new(405, 1, vec![source(89.0)]).step();
    let meet = slow.hop.unwrap().meet;
    assert!(
        slow.wants
            .iter()
            .all(|want| matches!(want.place, Place::Row(row) if (row + 1) * BLOCK_TOKENS >= meet)),
        "{slow:?}"
    );
}

#[test]
fn behind_the_window_only_the_cheap_plane_is_fetched() {
    let mut case = Case::new(2_000, 1, vec![Source { room: 1_000, ..source(100_000.0) }]);
    case.ms_per_token = 37.0;
    let wants = case.step().wants;
    let sliding = wants.iter().filter(|want| want.plane == Plane::Sliding).count();
    let global = wants.len() - sliding;
    assert_eq!((global, sliding), (124, 32), "token 1,984 sees back to 1,473, in block 92");
}

#[test]
fn a_block_that_nobody_has_is_computed_and_all_around_it_fetched() {
    let mut case = Case::new(1_025, 1, vec![source(10_000.0)]);
    case.rows[30] = [Cell::Missing(0); 2];
    let step = case.step();
    assert_eq!(step.hop.unwrap().resume, 480, "up to the gap first");
    assert!(step.wants.iter().all(|want| !matches!(want.place, Place::Row(30))));
    let behind = Case { ready: 496, ..case };
    assert_eq!(behind.step().hop.unwrap().resume, 1_024);
    // If sliding planes before the gap are missing, computing must pass beyond their window.
    let mut bare = Case::new(1_025, 1, vec![source(10_000.0)]);
    for row in 0..60 {
        bare.rows[row][1] = Cell::Missing(0);
    }
    let hop = bare.step().hop.unwrap();
    assert_eq!((hop.meet, hop.resume), (960, 1_024));
}

#[test]
fn an_overtaken_step_is_held_back_and_the_hold_says_for_how_long() {
    let quick = Case::new(405, 1, vec![source(100_000.0)]).step();
    assert!(quick.hold_ms.is_some_and(|ms| (40.0..60.0).contains(&ms)), "{quick:?}");
    let slow = Case::new(405, 1, vec![source(2_600.0)]).step();
    assert_eq!(slow.hold_ms, None);
    let quick_again =
        Case { quickest: Some(1.0), ..Case::new(405, 1, vec![source(100_000.0)]) }.step();
    assert_eq!(quick_again.hold_ms, None, "the step may well be faster");
}

#[test]
fn a_fetch_half_way_through_takes_as_long_as_its_bytes_whatever_has_come() {
    // Computing a block takes 176 ms; the source brings one in 4 ms.
    let total = 24 * BLOCK_TOKENS + 1;
    let rate = BYTES.iter().sum::<usize>() as f32 / 4.0;
    for stride in 1..24 {
        for left_out in 0..stride {
            let mut case = Case::new(total, 1, vec![Source { in_flight: 1, ..source(rate) }]);
            for row in case.rows.iter_mut().skip(left_out).step_by(stride) {
                *row = [Cell::Have; 2];
            }
            let open = case.rows.iter().filter(|row| row[0] != Cell::Have).count();
            let step = case.step();
            let (hop, hold_ms) = (step.hop.unwrap(), step.hold_ms.unwrap());
            assert_eq!(hop.meet, 0, "every {stride} from {left_out} on is here");
            assert!((hold_ms - 4.0 * open as f32).abs() < 0.1, "{hold_ms} ms for {open} blocks");
        }
    }
}

#[test]
fn a_source_that_brings_nothing_gives_way_to_another() {
    let mut case =
        Case::new(405, 3, vec![Source { in_flight: 156_672, ..source(0.0) }, source(2_600.0)]);
    case.rows[24] = [
        Cell::Coming { source: 0, left: BYTES[0], others: 3 },
        Cell::Coming { source: 0, left: BYTES[1], others: 3 },
    ];
    let wants = case.step().wants;
    assert!(wants.iter().all(|want| want.source == 1), "{wants:?}");
    assert_eq!(wants[0].place, Place::Row(24), "its requests move to the other source");
}

#[test]
fn an_untried_source_is_asked_beside_a_proven_one() {
    let untried = Source { bytes_per_ms: None, round_trip_ms: None, in_flight: 0, room: 2 };
    let wants = Case::new(405, 3, vec![untried, source(2_600.0)]).step().wants;
    let of = |source: usize| wants.iter().filter(|want| want.source == source).count();
    assert_eq!((of(0), of(1)), (2, 16));
}

#[test]
fn sharers_of_one_link_are_not_counted_as_many() {
    let eight = || (0..8).map(|_| source(2_600.0)).collect();
    let fast = Case::new(1_500, 0xff, eight()).step().hop.unwrap();
    let shared =
        Case { link: Some(2_600.0), ..Case::new(1_500, 0xff, eight()) }.step().hop.unwrap();
    let one = Case::new(1_500, 1, vec![source(2_600.0)]).step().hop.unwrap();
    assert_eq!(shared.meet, one.meet);
    assert!(fast.meet < one.meet);
}

#[test]
fn the_ragged_end_of_an_earlier_prompt_is_where_work_resumes() {
    let mut case = Case::new(405, 1, vec![source(100_000.0)]);
    case.ending =
        Some(Ending { row: 25, tokens: 4, cells: [Cell::Missing(1); 2], bytes: [8_160, 40_800] });
    let step = case.step();
    assert_eq!(step.hop.unwrap().resume, 404);
    assert_eq!(step.wants[0].place, Place::Ending);
    let mut had = Case::new(405, 0, Vec::new());
    had.rows.iter_mut().for_each(|row| *row = [Cell::Have; 2]);
    assert_eq!(had.view(reach), 400);
    had.ending =
        Some(Ending { row: 25, tokens: 4, cells: [Cell::Have; 2], bytes: [8_160, 40_800] });
    assert_eq!(had.view(reach), 404);
}

#[test]
fn a_block_that_is_begun_is_finished_by_computing() {
    let mut case = Case { ready: 100, ..Case::new(160, 1, vec![source(100_000.0)]) };
    case.rows[..7].iter_mut().for_each(|row| *row = [Cell::Have; 2]);
    assert_eq!(case.view(reach), 100, "block 6 is filled up to token 100");
    let step = case.step();
    assert!(step.compute_to >= 112 && step.hop.is_none_or(|hop| hop.meet >= 112), "{step:?}");
}

#[test]
fn a_source_that_has_stalled_does_not_speak_for_those_that_are_untried() {
    let untried = Source { bytes_per_ms: None, round_trip_ms: None, in_flight: 0, room: 2 };
    let step = Case::new(405, 3, vec![source(0.0), untried]).step();
    assert!(step.wants.iter().all(|want| want.source == 1) && step.wants.len() == 2, "{step:?}");
}

#[test]
fn work_can_go_on_only_behind_a_whole_window() {
    let mut case = Case::new(1_025, 0, Vec::new());
    case.rows.iter_mut().for_each(|row| *row = [Cell::Have; 2]);
    case.rows[40][1] = Cell::Missing(0);
    assert_eq!(case.view(reach), 640, "the tokens after the missing plane see it");
    case.rows[40][0] = Cell::Missing(0);
    case.ready = 656;
    assert_eq!(case.view(reach), 1_024, "computing has passed its window");
}

fn cell() -> impl Strategy<Value = Cell> {
    prop_oneof![
        3 => (1u64..8).prop_map(Cell::Missing),
        2 => Just(Cell::Have),
        1 => Just(Cell::Missing(0)),
        1 => (0usize..3, 0usize..130_560, 0u64..8).prop_map(|(source, left, others)| Cell::Coming { source, left, others }),
    ]
}

fn rate() -> impl Strategy<Value = Source> {
    (
        prop::option::of(prop_oneof![Just(0.0f32), 1.0f32..100_000.0]),
        prop::option::of(0.0f32..200.0),
        0usize..500_000,
        0usize..17,
    )
        .prop_map(|(bytes_per_ms, round_trip_ms, in_flight, room)| Source {
            bytes_per_ms,
            round_trip_ms,
            in_flight,
            room,
        })
}

prop_compose! {
    fn case()(
        total in 2usize..1_400,
        cells in prop::collection::vec((cell(), cell()), 88),
        ready in 0usize..88,
        sources in prop::collection::vec(rate(), 3),
        ms_per_token in 0.01f32..40.0,
    ) -> Case {
        let whole = (total - 1) / BLOCK_TOKENS;
        let rows = cells[..whole].iter().map(|(global, sliding)| [*global, *sliding]).collect();
        let ready = ready.min(whole) * BLOCK_TOKENS;
        Case { total, ready, rows, ending: None, sources, ms_per_token, quickest: None, link: None }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_step_is_always_one_that_can_be_taken(case in case()) {
        let step = case.step();
        prop_assert!(step.compute_to > case.ready && step.compute_to <= case.total);
        prop_assert!(step.compute_to == case.total || step.compute_to.is_multiple_of(BLOCK_TOKENS));
        prop_assert!(step.compute_to - case.ready <= PREFILL_STEP_TOKENS);
        let mut asked = [0; 3];
        for (at, want) in step.wants.iter().enumerate() {
            let Place::Row(row) = want.place else { panic!("no ending") };
            let cell = case.rows[row][want.plane as usize];
            prop_assert!(row * BLOCK_TOKENS >= case.ready, "{want:?}");
            prop_assert!(sources(cell) & (1 << want.source) != 0, "{want:?} of {cell:?}");
            let again = matches!(cell, Cell::Coming { source, .. } if source == want.source);
            prop_assert!(!again, "requested again from the same source");
            prop_assert!(case.sources[want.source].bytes_per_ms != Some(0.0), "a source that delivers nothing");
            prop_assert!(!step.wants[..at].iter().any(|other| other.place == want.place && other.plane == want.plane));
            asked[want.source] += 1;
        }
        for (asked, source) in asked.iter().zip(&case.sources) {
            prop_assert!(*asked <= source.room);
        }
        if let Some(hop) = step.hop {
            prop_assert!(case.ready <= hop.meet && hop.meet <= hop.resume && hop.resume < case.total);
            prop_assert!(hop.fetch_ms >= 0.0 && hop.fetch_ms.is_finite(), "{hop:?}");
        }
    }

    /// Everything before `reach` is in memory, and nothing further could be resumed.
    #[test]
    fn reach_is_what_the_definition_says(case in case()) {
        let have = |row: usize, plane: usize| case.rows[row][plane] == Cell::Have;
        let in_place = |stop: usize| {
            let window = first_sliding(stop * BLOCK_TOKENS) / BLOCK_TOKENS;
            (case.ready / BLOCK_TOKENS..stop).all(|row| have(row, 0) && (row < window || have(row, 1)))
        };
        let expected = (case.ready / BLOCK_TOKENS..=case.rows.len()).rev().find(|stop| in_place(*stop));
        prop_assert_eq!(case.view(reach), expected.unwrap() * BLOCK_TOKENS);
    }

    /// With one source that holds everything, no other meeting point is better.
    #[test]
    fn the_meeting_point_is_the_two_ended_optimum(total in 34usize..2_000, rate in 50.0f32..50_000.0, ms in 0.5f32..40.0) {
        let case = Case { ms_per_token: ms, ..Case::new(total, 1, vec![source(rate)]) };
        let rows = case.rows.len();
        let resume = rows * BLOCK_TOKENS;
        let took = |meet: usize| {
            let global = (rows - meet) * BYTES[0];
            let sliding = (rows - meet.max(first_sliding(resume) / BLOCK_TOKENS).min(rows)) * BYTES[1];
            let fetching = if global + sliding == 0 { 0.0 } else { 6.0 + (global + sliding) as f32 / rate };
            fetching.max((meet * BLOCK_TOKENS) as f32 * ms)
        };
        let best = (0..=rows).map(took).fold(f32::INFINITY, f32::min);
        match case.step().hop {
            Some(hop) => prop_assert!(took(hop.meet / BLOCK_TOKENS) <= best * 1.001, "{hop:?}: {} ms, best {best}", took(hop.meet / BLOCK_TOKENS)),
            None => prop_assert!(best + MARGIN_MS >= resume as f32 * ms * 0.999),
        }
    }
}
