//! The same bits on every machine: keys, values and logits of models that integers made, against digests taken once. `make
//! test` runs this on the machine at hand and `make firmware-test` on an emulated board; where both pass, they agree on every
//! bit, and may serve blocks to one another.

use std::sync::Arc;

use potluck::id::TokenId;
use potluck::kernels::{Isa, Team};
use potluck::kv::{Plane, Sequence};
use potluck::model::convert::ConvertType;
use potluck::model::synth::{Shape, synth};
use potluck::model::{Logits, Model, Precision, open};
use xxhash_rust::xxh3::Xxh3Default;

/// A prompt that ends in the middle of a tile and of a block, then single tokens.
const PROMPT: usize = 77;
const DECODED: usize = 3;

/// Digest of all logits and all KV bytes.
fn digest(model: &Model) -> String {
    let vocab = model.config().vocab as u32;
    let tokens: Vec<TokenId> = (0..(PROMPT + DECODED) as u32).map(|i| TokenId(i.wrapping_mul(2_654_435_761) % vocab)).collect();
    let sequence = Arc::new(Sequence::private(model.kv_shape(), tokens.len()));
    let mut hash = Xxh3Default::new();
    let mut pass = |range: core::ops::Range<usize>| {
        let logits = model.forward(&tokens[range.clone()], range.start, &sequence, Logits::All).unwrap();
        logits.iter().for_each(|logit| hash.update(&logit.to_le_bytes()));
    };
    pass(0..PROMPT);
    (PROMPT..PROMPT + DECODED).for_each(|position| pass(position..position + 1));
    for block in &sequence.blocks {
        Plane::ALL.iter().filter_map(|plane| block.plane(*plane)).for_each(|page| hash.update(&page.read()));
    }
    format!("{:032x}", hash.digest128())
}

#[test]
fn keys_values_and_logits_are_the_same_bits_on_every_machine_with_any_instructions_and_any_number_of_cores() {
    let kinds =
        [(ConvertType::Q8_0, Precision::INT8), (ConvertType::Q4_0, Precision::INT8), (ConvertType::Q8_0, Precision::FLOAT)];
    let dir = tempfile::tempdir().unwrap();
    let digests = kinds.map(|(ty, precision)| {
        let path = dir.path().join("model.gguf");
        synth(Shape::Demo, 7, ty, &path, &mut |_| {}).unwrap();
        let opened = open(&path).unwrap();
        let mut model = Model::new(opened.config, opened.weights, precision).unwrap();
        let alone = digest(&model);
        for isa in Isa::all() {
            model.set_team(Team::alone().using(isa));
            assert_eq!(digest(&model), alone, "{ty:?} {precision:?}: {isa:?}");
        }
        let (team, workers) = Team::new(3);
        let threads: Vec<_> = workers.into_iter().map(|worker| std::thread::spawn(move || worker.serve())).collect();
        model.set_team(team);
        assert_eq!(digest(&model), alone, "{ty:?} {precision:?}: one core, three cores");
        drop(model);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        alone
    });
    // Taken on an x86-64 with AVX-512; NUMERICS_VERSION rises with any change of them.
    let expected = ["ef304d59de276e94b2cfcb19cb2eb2d9", "560dda3fe3df02d7f27a9b397affba9a", "fc9cf1e4b5ce3d71d169460beed1bd05"];
    assert_eq!(digests, expected);
}
