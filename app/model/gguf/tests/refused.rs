//! Every kind of broken or foreign file yields one line that says what to do, and no mutation of a
//! file yields a weight of another size.

use proptest::prelude::*;

use super::*;

#[test]
fn what_potluck_does_not_run_is_refused_with_what_it_does() {
    let refused = |key: &str, value: Vec<u8>| refusal(&tiny().set(key, value));
    assert_eq!(
        refused("general.architecture", text("llama")),
        "architecture llama: potluck runs gemma3; get a Gemma 3"
    );
    let yarn = refused("gemma3.rope.scaling.type", text("yarn"));
    assert_eq!(yarn, "metadata gemma3.rope.scaling.type is yarn; this build knows linear and none");
    for factor in [f32::NAN, f32::INFINITY, -1.0] {
        let line = refused("gemma3.rope.scaling.factor", float(factor));
        assert_eq!(line, "metadata gemma3.rope.scaling.factor must be a positive number");
    }
    assert!(
        refused("gemma3.attn_logit_softcapping", float(30.0)).contains("Gemma 3 caps no logits")
    );
    assert!(
        refused("gemma3.final_logit_softcapping", float(50.0)).contains("Gemma 3 caps no logits")
    );
    assert!(refused("gemma3.block_count", number(65)).ends_with("is 65; this build takes 1 to 64"));
    assert!(refused("gemma3.block_count", number(0)).ends_with("is 0; this build takes 1 to 64"));
    assert!(refused("gemma3.attention.head_count_kv", number(3)).contains("1 to 2"));
    assert!(
        refused("gemma3.attention.value_length", number(8))
            .contains("differs from the key length 16")
    );
    assert!(
        refused("gemma3.rope.dimension_count", number(8))
            .contains("differs from the key length 16")
    );
    assert!(refused("gemma3.attention.key_length", number(15)).contains("RoPE rotates pairs"));
    assert!(
        refused("gemma3.attention.layer_norm_rms_epsilon", float(-1.0))
            .contains("must be a positive number")
    );
    assert!(
        refused("gemma3.attention.scale", float(f32::NAN)).contains("must be a positive number")
    );
    assert!(
        refused("gemma3.attention.sliding_window_pattern", bools(&[1]))
            .contains("each of the 2 layers")
    );
    assert!(refused("gemma3.context_length", text("long")).contains("is not a whole number"));
    assert_eq!(
        refusal(&tiny().without("gemma3.rope.freq_base")),
        "damaged: metadata gemma3.rope.freq_base is missing; download it again"
    );

    let mut raw = tiny();
    *raw.tensor("blk.1.ffn_up.weight") = RawTensor {
        name: "blk.1.ffn_up.weight".into(),
        dims: vec![256, 8],
        ty: 12,
        data: vec![0; 144 * 8],
        offset: None,
    };
    assert!(
        refusal(&raw)
            .contains("tensor blk.1.ffn_up.weight is 8 x 256, but the metadata makes it 64 x 32")
    );
    let mut raw = tiny();
    raw.tensors.push(RawTensor {
        name: "blk.0.attn_q.bias".into(),
        dims: vec![32],
        ty: 0,
        data: vec![0; 128],
        offset: None,
    });
    assert_eq!(
        refusal(&raw),
        "tensor blk.0.attn_q.bias does not belong to Gemma 3's text model of 2 layers"
    );
    raw.tensors.last_mut().unwrap().name = "v.blk.0.attn_q.bias".into();
    assert!(read(raw.build()).is_ok(), "the vision tower of a merged file is not used");
}

#[test]
fn a_damaged_file_is_named_as_such() {
    let whole = tiny().build();
    let line = read(whole[..whole.len() - 40].to_vec()).err().unwrap();
    let (has, needs) = (whole.len() - 40, whole.len());
    assert_eq!(
        line,
        format!(
            "truncated: tensor output_norm.weight ends at byte {needs}, but the file has {has}; download or copy it again"
        )
    );
    assert!(read(whole[..3].to_vec()).err().unwrap().starts_with("is not a GGUF file"));
    assert!(read(whole[..20].to_vec()).err().unwrap().starts_with("truncated: "));
    assert!(
        read(b"\x40\0\0\0\0\0\0\0{\"a\":1}".to_vec())
            .err()
            .unwrap()
            .contains("run potluck convert on its directory")
    );
    assert!(refusal(&Raw { magic: *b"ggjt", ..tiny() }).starts_with("is not a GGUF file"));
    assert!(
        refusal(&Raw { version: 1, ..tiny() }).contains("GGUF version 1; this build reads 2 and 3")
    );
    for version in [2u32, 3] {
        let line = refusal(&Raw { version: version.swap_bytes(), ..tiny() });
        assert!(
            line.starts_with("is a big-endian GGUF") && line.contains("get the little-endian file"),
            "{line}"
        );
    }

    let mut twice = tiny();
    twice.entries.push(twice.entries[1].clone());
    assert!(refusal(&twice).contains("metadata gemma3.context_length appears twice"));
    let mut twice = tiny();
    twice.tensors.push(twice.tensors[0].clone());
    assert!(refusal(&twice).contains("tensor token_embd.weight appears twice"));
    let mut overlap = tiny();
    overlap.tensor("blk.0.attn_k.weight").offset = Some(0);
    assert!(refusal(&overlap).contains("overlap"));
    let mut askew = tiny();
    askew.tensor("blk.0.attn_k.weight").offset = Some(33);
    assert!(refusal(&askew).contains("no multiple of 32"));
    for offset in [u64::MAX - 31, 1 << 62] {
        let mut beyond = tiny();
        beyond.tensor("blk.0.attn_k.weight").offset = Some(offset);
        assert!(refusal(&beyond).contains("beyond any file"));
    }
    for dims in [vec![], vec![1; 5]] {
        let mut ranks = tiny();
        ranks.tensor("blk.0.attn_k.weight").dims = dims;
        assert!(refusal(&ranks).contains("GGUF has 1 to 4"));
    }
    for dims in [vec![u64::MAX, 2], vec![32, 0], vec![1 << 40, 1 << 40]] {
        let mut sizes = tiny();
        sizes.tensor("blk.0.attn_k.weight").dims = dims;
        assert!(refusal(&sizes).contains("zero or beyond any file"));
    }
    let mut ragged = tiny();
    ragged.tensor("blk.0.attn_k.weight").dims = vec![33, 16];
    assert!(refusal(&ragged).contains("no multiple of the 32 of its type Q8_0"));
    for alignment in [0, 1, 24, 1 << 20] {
        assert!(
            refusal(&tiny().set("general.alignment", number(alignment))).contains("power of two")
        );
    }
    let mut missing = tiny();
    missing.tensors.retain(|tensor| tensor.name != "blk.1.attn_q_norm.weight");
    assert_eq!(
        refusal(&missing),
        "damaged: tensor blk.1.attn_q_norm.weight is missing; download it again"
    );
}

#[test]
fn hostile_counts_and_lengths_cost_nothing_before_they_are_refused() {
    let head = |tensors: u64, entries: u64| {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend_from_slice(&tensors.to_le_bytes());
        bytes.extend_from_slice(&entries.to_le_bytes());
        bytes
    };
    assert!(read(head(u64::MAX, 0)).err().unwrap().contains("tensors; this build takes at most"));
    assert!(
        read(head(0, u64::MAX))
            .err()
            .unwrap()
            .contains("metadata entries; this build takes at most")
    );
    assert!(read(head(4_000, 0)).err().unwrap().contains("more than its 0 bytes can hold"));
    let with = |value: &[u8]| refusal(&tiny().set("some.key", value.to_vec()));
    let array = |kind: u32, count: u64| {
        [&9u32.to_le_bytes()[..], &kind.to_le_bytes(), &count.to_le_bytes()].concat()
    };
    assert!(with(&array(4, u64::MAX)).contains("elements; this build takes at most"));
    assert!(with(&array(4, 4 << 20)).starts_with("truncated: metadata some.key"));
    assert!(with(&array(8, 4 << 20)).contains("metadata some.key"));
    assert!(with(&array(9, 1)).contains("nests arrays"));
    assert!(with(&array(77, 1)).contains("array of type 77"));
    assert!(with(&13u32.to_le_bytes()).contains("has type 13, which GGUF does not have"));
    assert!(
        with(&[&8u32.to_le_bytes()[..], &u64::MAX.to_le_bytes()].concat())
            .contains("takes at most")
    );
    assert!(
        with(&[&8u32.to_le_bytes()[..], &2u64.to_le_bytes(), &[0xff, 0xfe]].concat())
            .contains("not UTF-8")
    );
    assert!(with(&[&7u32.to_le_bytes()[..], &[2]].concat()).contains("boolean of 2"));
    let mut control = tiny();
    control.entries.push(("a\nb".into(), number(1)));
    assert!(refusal(&control).contains("control characters"));
}

#[test]
fn a_vocabulary_of_another_model_is_refused() {
    let tokens = "tokenizer.ggml.tokens";
    let five = tiny().set(tokens, texts(&["a", "b", "c", "d", "e"]));
    assert_eq!(read(five.build()).unwrap().0.vocabulary().unwrap().unwrap().tokens.len(), 5);
    let four = refusal(&tiny().set(tokens, texts(&["a", "b", "c", "d"])));
    assert!(four.contains(
        "the vocabulary has 4 tokens, but the embedding 5 rows: they belong to different models"
    ));
    let refused = |key: &str, value: Vec<u8>| {
        refusal(&five.clone().set(&format!("tokenizer.ggml.{key}"), value))
    };
    assert!(refused("model", text("gpt2")).starts_with("tokenizer gpt2: Gemma 3's is llama"));
    assert!(refused("scores", texts(&["a"])).contains("one F32 for each of the 5 tokens"));
    assert!(refused("token_type", bools(&[1; 5])).contains("a token type (1 to 6)"));
    assert!(refused("merges", texts(&["ab"])).contains("is not pairs"));
    let long = "a ".repeat(1 << 19);
    let refused = refused("merges", texts(&vec![long.as_str(); 64]));
    assert!(
        refused.contains(
            "metadata tokenizer.ggml.merges has 67109376 bytes; this build takes at most 67108864"
        ),
        "{refused}"
    );
}

/// Reads as much as it can and checks that every weight has the size given by the configuration.
fn survive(bytes: Vec<u8>) {
    let length = bytes.len();
    let Ok(gguf) = Gguf::parse(Path::new("mutant"), Bytes::new(bytes)) else { return };
    for tensor in gguf.tensors().values() {
        assert!(tensor.range.end <= length);
    }
    let _ = gguf.vocabulary();
    let Ok(config) = gguf.config() else { return };
    let Ok(weights) = gguf.weights(&config) else { return };
    for (name, weight) in crate::model::load::named(&weights) {
        let expected = weight.format().bytes(weight.cols()).unwrap() * weight.rows();
        assert_eq!(weight.bytes().len(), expected, "{name}");
    }
    assert_eq!((weights.embedding.rows(), weights.embedding.cols()), (config.vocab, config.hidden));
    assert_eq!(weights.layers.len(), config.layers.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn no_mutation_of_a_file_panics_or_yields_a_weight_of_another_size(
        edits in prop::collection::vec((0usize..3_000, prop::sample::select(vec![0u8, 1, 2, 4, 8, 9, 0x7f, 0x80, 0xff]), any::<bool>()), 1..6),
        cut in prop::option::of(0usize..20_000),
    ) {
        let tokens = texts(&["a", "b", "c", "d", "e"]);
        let mut bytes = tiny().set("tokenizer.ggml.tokens", tokens).set("tokenizer.ggml.merges", texts(&["a b"])).build();
        for (at, value, flip) in edits {
            let at = at % bytes.len();
            bytes[at] = if flip { bytes[at] ^ value } else { value };
        }
        if let Some(cut) = cut {
            bytes.truncate(cut);
        }
        survive(bytes);
    }
}
