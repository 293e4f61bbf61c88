//! Judging several tokens at once gives the same tokens as decoding one by one, and an abandoned
//! job ends without disturbing others.

use std::sync::atomic::AtomicUsize;

use crate::kv::Sequence;
use crate::model::convert::ConvertType;
use crate::model::synth::{Shape, synth};
use crate::model::{Head, Precision, open};
use crate::pace::{Pace, PaceParts};
use crate::sampler::{Repeat, Sampling};

use super::*;

fn model() -> Model {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    synth(Shape::Demo, 7, ConvertType::Q8_0, &path, &mut |_| {}).unwrap();
    let opened = open(&path).unwrap();
    Model::new(opened.config, opened.weights, Precision::INT8).unwrap()
}

fn text(model: &Model, tokens: usize) -> Vec<TokenId> {
    (0..tokens as u32)
        .map(|at| TokenId(at.wrapping_mul(2_654_435_761) % model.config().vocab as u32))
        .collect()
}

/// A job over a part of `text` that, with `rows`, judges its last tokens.
fn job(
    text: &[TokenId],
    range: std::ops::Range<usize>,
    sequence: &Arc<Sequence>,
    judge: Option<(Sampling, usize)>,
) -> Job {
    let judge = judge.map(|(sampling, rows)| {
        let recent = sampling.repeat.recent(&text[..=range.end - rows]).to_vec();
        Judge { sampling, rows, recent }
    });
    Job {
        id: 1,
        tokens: text[range.clone()].to_vec(),
        first: range.start,
        sequence: sequence.clone(),
        judge,
        audits: None,
    }
}

fn samplings() -> [Sampling; 4] {
    let sampled = Sampling::new(1.3, 40, 0.95, 11).unwrap();
    [
        Sampling::GREEDY,
        Sampling { repeat: Repeat::new(1.4, 5).unwrap(), ..Sampling::GREEDY },
        sampled,
        Sampling { repeat: Repeat::new(1.2, 64).unwrap(), ..sampled },
    ]
}

/// Drafts would change answers if a token that is judged together with others ever differed from
/// the one decoded alone.
#[test]
fn rows_judged_together_are_chosen_as_one_by_one() {
    let model = model();
    let (head, rows) = (21, 70);
    // The tokens are not the model's own choice: a wrong draft is judged like a right one.
    let text = text(&model, head + rows);
    for sampling in samplings() {
        let sequence = Arc::new(Sequence::private(model.kv_shape(), text.len()));
        assert_eq!(run_job(&model, &job(&text, 0..head, &sequence, None)).result, Ok(Vec::new()));
        let one = |at| {
            run_job(&model, &job(&text, at..at + 1, &sequence, Some((sampling, 1)))).result.unwrap()
        };
        let alone: Vec<TokenId> = (head..head + rows).flat_map(one).collect();
        assert_eq!(alone.len(), rows);
        for (from, judged) in
            [(head, rows), (head, 1), (head, 3), (head + 5, 65), (0, rows), (0, 2)]
        {
            let sequence = Arc::new(Sequence::private(model.kv_shape(), text.len()));
            assert_eq!(
                run_job(&model, &job(&text, 0..head + 5, &sequence, None)).result,
                Ok(Vec::new())
            );
            let together =
                run_job(&model, &job(&text, from..text.len(), &sequence, Some((sampling, judged))))
                    .result
                    .unwrap();
            assert!(
                together == alone[rows - judged..],
                "{judged} rows of a job from {from}, {sampling:?}"
            );
        }
    }
}

/// A draft that matches the model's own choice is confirmed to the end.
#[test]
fn the_answer_judged_in_one_job_is_the_answer() {
    let model = model();
    for sampling in samplings() {
        let mut text = text(&model, 30);
        let sequence = Arc::new(Sequence::private(model.kv_shape(), 64));
        let mut ready = 0;
        while text.len() < 64 {
            let chosen =
                run_job(&model, &job(&text, ready..text.len(), &sequence, Some((sampling, 1))))
                    .result
                    .unwrap();
            ready = text.len();
            text.extend(chosen);
        }
        let sequence = Arc::new(Sequence::private(model.kv_shape(), 64));
        let judged =
            run_job(&model, &job(&text, 0..63, &sequence, Some((sampling, 34)))).result.unwrap();
        assert!(judged == text[30..], "{sampling:?}");
    }
}

/// Reading half of the output rows must not change any token, however it is sampled.
#[test]
fn tokens_out_of_halves_are_those_of_whole_rows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    synth(Shape::Demo, 7, ConvertType::Q8_0, &path, &mut |_| {}).unwrap();
    let opened = open(&path).unwrap();
    let (rows, ..) = opened.output_rows();
    Head::build(&dir.path().join("some.head"), rows, [1; 16], &mut |_| {}).unwrap();
    let head = Head::open(&dir.path().join("some.head"), rows, [1; 16]).unwrap();
    let whole = model();
    for joins in [false, true] {
        let mut halved = model();
        halved.set_head(Some(head.clone()), joins);
        assert!(halved.has_head() && !whole.has_head());
        same_tokens(&whole, &halved);
    }
    let mut float =
        Model::new(opened.config.clone(), opened.weights.clone(), Precision::FLOAT).unwrap();
    float.set_head(Some(head), false);
    assert!(!float.has_head(), "float arithmetic has other logits");
}

/// Both choose the same tokens one by one and in drafts, however they are sampled.
fn same_tokens(whole: &Model, halved: &Model) {
    let others = [
        Sampling::new(0.8, 0, 0.9, 3).unwrap(),
        Sampling::new(2.0, 300, 1.0, 3).unwrap(),
        Sampling::new(0.9, 7, 0.5, 5).unwrap(),
    ];
    for sampling in samplings().into_iter().chain(others) {
        let mut text = text(whole, 30);
        let pages = [whole, halved].map(|model| Arc::new(Sequence::private(model.kv_shape(), 80)));
        let mut ready = 0;
        while text.len() < 80 {
            let job = |pages| job(&text, ready..text.len(), pages, Some((sampling, 1)));
            let chosen = run_job(whole, &job(&pages[0])).result.unwrap();
            assert_eq!(
                run_job(halved, &job(&pages[1])).result.unwrap(),
                chosen,
                "token {}, {sampling:?}",
                text.len()
            );
            ready = text.len();
            text.extend(chosen);
        }
        // The tokens of a draft are judged together: few from upper halves, more from all logits.
        for rows in 2..=6 {
            let judged = |pages| job(&text, 70..80, pages, Some((sampling, rows)));
            assert_eq!(
                run_job(halved, &judged(&pages[1])).result.unwrap(),
                run_job(whole, &judged(&pages[0])).result.unwrap(),
                "{rows} rows, {sampling:?}"
            );
        }
    }
}

/// Blocks that are fetched in time must not wait for a slow core.
#[test]
fn a_job_that_is_given_up_ends_within_one_layer() {
    let model = model();
    let text = text(&model, 130);
    let layers = model.config().layers.len();
    // 130 tokens pass through the layers in three chunks, and the last one's logits take
    // one more step.
    for steps in [0, 1, layers - 1, layers, layers + 2, 3 * layers - 1, 3 * layers] {
        let sequence = Arc::new(Sequence::private(model.kv_shape(), text.len()));
        let asked = AtomicUsize::new(0);
        let go_on = || asked.fetch_add(1, Ordering::Relaxed) < steps;
        let done = run_job_while(
            &model,
            &job(&text, 0..130, &sequence, Some((Sampling::GREEDY, 1))),
            &go_on,
        );
        assert_eq!(done.result, Err(JobFault::Abandoned));
        assert_eq!(asked.into_inner(), steps + 1, "nothing more is computed once it is abandoned");
    }
    let sequence = Arc::new(Sequence::private(model.kv_shape(), text.len()));
    let asked = AtomicUsize::new(0);
    let count = || asked.fetch_add(1, Ordering::Relaxed) < 3 * layers + 1;
    let whole =
        run_job_while(&model, &job(&text, 0..130, &sequence, Some((Sampling::GREEDY, 1))), &count);
    assert!(whole.result.is_ok());
    assert_eq!(asked.into_inner(), 3 * layers + 1);
}

#[test]
fn only_the_job_that_is_named_is_given_up() {
    let model = model();
    let text = text(&model, 200);
    let sequence = Arc::new(Sequence::private(model.kv_shape(), text.len()));
    let named = |id| Job { id, ..job(&text, 0..200, &sequence, Some((Sampling::GREEDY, 1))) };
    let right = run_job(&model, &named(0)).result;
    let engine = Engine::start(model, None, None).unwrap();
    let done = |id, give_up: Option<u64>| {
        engine.jobs.send_blocking(named(id)).unwrap();
        give_up.into_iter().for_each(|id| engine.abandon(id));
        engine.done.recv_blocking().unwrap()
    };
    // Before it starts.
    engine.abandon(1);
    assert_eq!(done(1, None).result, Err(JobFault::Abandoned));
    // Jobs that ended long ago or are yet to come are not affected.
    assert_eq!(done(2, Some(1)).result, right);
    assert_eq!(done(3, Some(4)).result, right);
    assert_eq!(done(5, None).result, right);
    // While it runs: most of it is never computed.
    let given_up = done(6, Some(6));
    assert_eq!((given_up.id, given_up.result), (6, Err(JobFault::Abandoned)));
    assert_eq!(done(7, None).result, right);
}

/// A job at another machine's pace must be abandoned as quickly as an ordinary one.
#[test]
fn a_paced_job_takes_its_time_and_ends_at_the_next_layer_when_given_up() {
    let model = model();
    let text = text(&model, 20);
    let sequence = Arc::new(Sequence::private(model.kv_shape(), text.len()));
    let parts = PaceParts {
        name: "slow".to_string(),
        token_us: vec![(1.0, 100_000.0), (64.0, 100_000.0)],
        depth_us: vec![(0.0, 0.0)],
        logits_us: vec![(1.0, 0.0)],
        ..PaceParts::default()
    };
    let pace = Pace::new(parts).unwrap();
    // Two seconds for the whole job, and a proportional share for each layer.
    let (whole, layers) = (pace.job_micros(0, 20, 1), model.config().layers.len() as u64);
    let paced = Paced::new(pace);
    let job = job(&text, 0..20, &sequence, Some((Sampling::GREEDY, 1)));
    let right = run_job(&model, &job).result;
    let done = paced.run(&model, &job, &|| true);
    assert!(done.result == right && done.micros >= whole, "{} of {whole}", done.micros);

    let (start, given_up_after) = (Instant::now(), 3 * whole / 10);
    let go_on = || (start.elapsed().as_micros() as u64) < given_up_after;
    let done = paced.run(&model, &job, &go_on);
    assert_eq!(done.result, Err(JobFault::Abandoned));
    let boundary = given_up_after.div_ceil(whole / layers) * (whole / layers);
    assert!(
        (given_up_after..boundary + whole / layers).contains(&done.micros),
        "{} of {whole}",
        done.micros
    );
    assert!(paced.stats().jobs >= 1, "{:?}", paced.stats());
}
