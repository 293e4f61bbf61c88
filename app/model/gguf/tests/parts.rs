//! A model in several files is the same model; files that do not belong together are detected.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::model::load;

/// A u16, the type that llama-gguf-split uses for part numbers.
fn short(number: u16) -> Vec<u8> {
    [&2u32.to_le_bytes()[..], &number.to_le_bytes()].concat()
}

/// Adds the metadata that identifies a file as a part.
fn split(raw: Raw, no: u16, count: u16, tensors: u32) -> Raw {
    let signed = [5u32.to_le_bytes(), tensors.to_le_bytes()].concat();
    raw.set("split.no", short(no))
        .set("split.count", short(count))
        .set("split.tensors.count", signed)
}

/// Splits `raw` like llama-gguf-split: `lengths` tensors per part, all metadata in the first.
fn cut(raw: &Raw, lengths: &[usize]) -> Vec<Raw> {
    let mut tensors = raw.tensors.iter().cloned();
    let (count, all) = (lengths.len() as u16, raw.tensors.len() as u32);
    let parts = lengths.iter().zip(0..).map(|(&length, no)| {
        let entries = if no == 0 { raw.entries.clone() } else { Vec::new() };
        split(
            Raw { entries, tensors: tensors.by_ref().take(length).collect(), ..raw.clone() },
            no,
            count,
            all,
        )
    });
    parts.collect()
}

/// The tiny model's 28 tensors in three parts; the first part has only the metadata.
fn thirds() -> Vec<Raw> {
    cut(&tiny(), &[0, 10, 18])
}

/// Writes the parts to `dir` under their published names.
fn write(dir: &Path, parts: &[Raw]) -> Vec<PathBuf> {
    let path = |no: usize| dir.join(format!("tiny-{:05}-of-{:05}.gguf", no + 1, parts.len()));
    parts.iter().enumerate().for_each(|(no, part)| fs::write(path(no), part.build()).unwrap());
    (0..parts.len()).map(path).collect()
}

#[test]
fn a_model_in_parts_is_the_model_in_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("tiny.gguf");
    fs::write(&whole, tiny().build()).unwrap();
    let whole = load::open(&whole).unwrap();
    let paths = write(dir.path(), &thirds());
    for path in &paths {
        let opened = load::open(path).unwrap();
        assert_eq!(
            opened.content(),
            whole.content(),
            "nodes with the model in parts and in one file do not share"
        );
        assert_eq!(opened.gguf.path(), paths[0]);
        assert_eq!(opened.gguf.files().len(), 3);
        let sizes: u64 = paths.iter().map(|path| fs::metadata(path).unwrap().len()).sum();
        assert_eq!(opened.gguf.file_bytes(), sizes);
    }
    // The sample covers every file.
    let sample = load::open(&paths[0]).unwrap().sample().unwrap();
    let mut bytes = fs::read(&paths[2]).unwrap();
    let at = load::open(&paths[0]).unwrap().gguf.tensors()["output_norm.weight"].range.start;
    bytes[at] ^= 1;
    fs::write(&paths[2], bytes).unwrap();
    assert_ne!(load::open(&paths[0]).unwrap().sample().unwrap(), sample);
}

#[test]
fn a_part_that_is_missing_damaged_or_renamed_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let paths = write(dir.path(), &thirds());
    let refused = |open: &Path, named: &Path, what: &str| {
        let line = Gguf::open(open).unwrap_err().to_string();
        assert!(
            line.starts_with(&format!("{}: ", named.display()))
                && line.contains(what)
                && !line.contains('\n'),
            "{line}"
        );
    };
    let second = fs::read(&paths[1]).unwrap();
    fs::remove_file(&paths[1]).unwrap();
    refused(
        &paths[0],
        &paths[1],
        "is missing, and is part 2 of 3 of the model: download it to the same folder",
    );
    refused(&paths[2], &paths[1], "part 2 of 3");
    fs::write(&paths[1], &second[..second.len() - 40]).unwrap();
    refused(&paths[0], &paths[1], "truncated: tensor");
    fs::write(&paths[1], "").unwrap();
    refused(&paths[0], &paths[1], "is empty; download it again");
    fs::write(&paths[1], fs::read(&paths[2]).unwrap()).unwrap();
    refused(&paths[0], &paths[1], "is part 3 of 3, but part 2 of 3 is expected here");
    fs::write(&paths[1], tiny().build()).unwrap();
    refused(&paths[0], &paths[1], "is a whole model, but part 2 of 3 is expected here");
    fs::write(&paths[1], &second).unwrap();
    let renamed = dir.path().join("renamed.gguf");
    fs::copy(&paths[0], &renamed).unwrap();
    refused(
        &renamed,
        &renamed,
        "does not end in -00001-of-00003.gguf, which is needed to find the others",
    );
    Gguf::open(&paths[0]).unwrap();
}

/// The result of joining these parts.
fn joined(parts: &[Raw]) -> Result<Gguf, String> {
    let parts = parts
        .iter()
        .enumerate()
        .map(|(no, part)| (format!("part {}", no + 1).into(), Bytes::new(part.build())));
    Gguf::parse_parts(parts.collect()).map_err(|error| error.to_string())
}

#[track_caller]
fn says(parts: &[Raw], what: &str) {
    let line = joined(parts).unwrap_err();
    assert!(line.contains(what) && !line.contains('\n'), "{line}");
}

#[test]
fn parts_of_two_models_are_told_apart() {
    let good = thirds();
    joined(&good).unwrap();
    let mut fewer = good.clone();
    fewer[2].tensors.pop();
    says(
        &fewer,
        "part 1: its 3 parts hold 27 tensors, split.tensors.count says 28: a part is of another model or conversion",
    );
    let mut other = good.clone();
    other[1] = split(other[1].clone(), 1, 3, 31);
    says(
        &other,
        "part 2: counts 31 tensors in all, but the first part 28: a part is of another model",
    );
    let mut twice = good.clone();
    twice[2].tensors[0] = twice[1].tensors[0].clone();
    says(
        &twice,
        "part 3: tensor token_embd.weight is also in part 2: they are parts of two models",
    );
    let mut named = good.clone();
    named[0] = named[0].clone().set("general.name", text("one"));
    named[2] =
        named[2].clone().set("general.name", text("two")).set("general.alignment", number(32));
    says(&named, "part 3: has a different general.name than the first part");
    named[2] = named[2].clone().set("general.name", text("one"));
    joined(&named).unwrap();
    // The same bytes with another type or length are a different value.
    for (here, there) in [
        (number(7), [5u32.to_le_bytes(), 7u32.to_le_bytes()].concat()),
        (texts(&["a", "b"]), texts(&["a"])),
        (texts(&["a"]), texts(&["b"])),
        (bools(&[1; 4]), number(0x0101_0101)),
    ] {
        let mut named = named.clone();
        named[0] = named[0].clone().set("general.kept", here.clone());
        named[2] = named[2].clone().set("general.kept", there);
        says(&named, "part 3: has a different general.kept than the first part");
        named[2] = named[2].clone().set("general.kept", here);
        joined(&named).unwrap();
    }
    says(&good[..2], "part 1: is part 1 of 3, but part 1 of 2 is expected here");
    says(&good[1..2], "is part 2 of 3, but part 1 of 1 is expected here");
    // Parts whose numbers match may still disagree in their shapes.
    let mut wide = good.clone();
    wide[1].tensor("token_embd.weight").dims = vec![64, 5];
    wide[1].tensor("token_embd.weight").data = vec![0; 5 * 68];
    let gguf = joined(&wide).unwrap();
    let line = gguf.weights(&gguf.config().unwrap()).unwrap_err().to_string();
    assert_eq!(
        line,
        "part 2: damaged: tensor token_embd.weight is 5 x 64, but the metadata makes it 5 x 32; download it again"
    );
}

#[test]
fn hostile_counts_of_parts_are_refused() {
    let raw = |key: &str, value: Vec<u8>| vec![thirds()[0].clone().set(key, value)];
    says(&raw("split.count", short(200)), "it is one of 200 parts; this build takes at most 128");
    says(&raw("split.count", text("3")), "metadata split.count is not a whole number");
    says(&raw("split.no", short(3)), "metadata split.no is 3, of 3 parts");
    says(&[thirds()[0].clone().without("split.no")], "metadata split.no is missing, of 3 parts");
    says(
        &[thirds()[0].clone().without("split.tensors.count")],
        "metadata split.tensors.count is missing",
    );
    says(
        &raw("split.no", [5u32.to_le_bytes(), [0xff; 4]].concat()),
        "metadata split.no is -1, of 3 parts",
    );
    // A merged file may keep these keys.
    for count in [0, 1] {
        assert!(read(split(tiny(), 0, count, 28).build()).is_ok());
    }
}
