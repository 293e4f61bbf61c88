//! Every type that ggml writes is either read, or refused by its name with advice.

use half::f16;

use super::super::ggml::GgmlType;
use super::*;

/// The tiny model with a tensor of another type, with as many bytes as that type needs.
fn with(name: &str, ty: u32) -> Raw {
    let mut raw = tiny();
    let tensor = raw.tensor(name);
    tensor.ty = ty;
    if let Some(known) = GgmlType::from_number(ty) {
        let values: u64 = tensor.dims.iter().product();
        tensor.data = vec![0; values as usize / known.unit * known.unit_bytes];
    }
    raw
}

/// The same with rows of 256, a whole number of units of every type.
fn wide(ty: u32) -> Raw {
    let mut raw = tiny().set("gemma3.feed_forward_length", number(256));
    for tensor in &mut raw.tensors {
        if tensor.name.contains("ffn_") && !tensor.name.contains("norm") {
            tensor.dims = if tensor.name.contains("down") { vec![256, 32] } else { vec![32, 256] };
            tensor.data = vec![0; 32 * 256 / 32 * 34];
        }
    }
    let known = GgmlType::from_number(ty).unwrap();
    let down = raw.tensor("blk.1.ffn_down.weight");
    (down.ty, down.data) = (ty, vec![0; 256 * 32 / known.unit * known.unit_bytes]);
    raw
}

#[test]
fn every_type_of_ggml_is_read_or_named() {
    for number in 0..=u32::from(u8::MAX) {
        let Some(ty) = GgmlType::from_number(number) else { continue };
        let read = read(wide(number).build());
        match (ty.format(), read) {
            (Some(format), Ok((gguf, config))) => {
                assert_eq!(gguf.weights(&config).unwrap().layers[1].down.format(), format);
            }
            (None, Err(line)) => {
                let start = format!(
                    "tensor blk.1.ffn_down.weight has type {}, but this build reads F32, F16, ",
                    ty.name
                );
                assert!(
                    line.starts_with(&start)
                        && line.contains("get the model as Q4_K_M, Q4_0 or Q8_0"),
                    "{line}"
                );
                assert!(line.len() < 300, "{line}");
            }
            (format, read) => panic!("{} is {format:?}, but {read:?}", ty.name),
        }
    }
}

#[test]
fn a_type_that_is_newer_than_this_build_is_no_damage() {
    for number in [4, 31, 36, 43, 142, u32::MAX] {
        let line = refusal(&with("blk.1.ffn_up.weight", number));
        let start = format!(
            "tensor blk.1.ffn_up.weight has type {number} (unknown to this build), but this build reads F32"
        );
        assert!(line.starts_with(&start) && !line.contains("damaged"), "{line}");
    }
    let mut raw = tiny();
    raw.tensors.push(RawTensor {
        name: "v.blk.0.weight".into(),
        dims: vec![7],
        ty: 142,
        data: vec![0; 9],
        offset: None,
    });
    read(raw.build()).expect("the vision tower is never read");
    let gguf =
        Gguf::parse(Path::new("some.gguf"), Bytes::new(with("blk.1.ffn_up.weight", 142).build()))
            .unwrap();
    let (up, down) =
        (&gguf.tensors()["blk.1.ffn_up.weight"], &gguf.tensors()["blk.1.ffn_down.weight"]);
    assert_eq!(
        up.range.end, down.range.start,
        "a tensor of unknown size ends where the next one begins"
    );
    let mut beyond = with("blk.1.ffn_up.weight", 142);
    beyond.tensor("blk.1.ffn_up.weight").offset = Some(1 << 30);
    assert!(refusal(&beyond).starts_with("truncated: tensor blk.1.ffn_up.weight"));
}

#[test]
fn norms_in_any_type_are_widened_and_matrices_are_not() {
    let values: Vec<f32> = (0..32).map(|i| 1.0 + i as f32 / 8.0).collect();
    let expected: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let halves: Vec<u8> =
        values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
    let uppers: Vec<u8> =
        values.iter().flat_map(|value| value.to_le_bytes()[2..].to_vec()).collect();
    let eighths = [&f16::from_f32(0.125).to_le_bytes()[..], &(8..40).collect::<Vec<u8>>()].concat();
    for (ty, data) in [(0, expected.clone()), (1, halves), (30, uppers), (8, eighths)] {
        let mut raw = tiny();
        let norm = raw.tensor("output_norm.weight");
        (norm.ty, norm.data) = (ty, data);
        let (gguf, config) = read(raw.build()).unwrap();
        let norm = gguf.weights(&config).unwrap().output_norm;
        assert_eq!((norm.format(), norm.bytes()), (Format::F32, expected.as_slice()), "type {ty}");
    }
}
