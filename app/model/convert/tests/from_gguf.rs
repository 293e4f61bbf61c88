//! Converting a GGUF to a GGUF: what is kept, what is rounded, and what is refused.

use std::fs::File;

use super::*;
use crate::model::gguf::{Entry, Gguf, TensorPlan, Value, kept_entries, layer_tensors};
use crate::model::synth::{Shape, synth};

/// The demo's shape with random weights, in every type that can be written.
fn demo(dir: &Path, ty: ConvertType) -> PathBuf {
    let path = dir.join(format!("demo-{ty}.gguf"));
    synth(Shape::Demo, 5, ty, &path, &mut |_| {}).unwrap();
    path
}

fn again(from: &Path, ty: ConvertType) -> (crate::model::Opened, Report) {
    let out = from.with_file_name(format!("again-{ty}.gguf"));
    let mut last = (0, 1);
    let report = convert(from, &out, ty, &mut |at| last = (at.done, at.total)).unwrap();
    assert_eq!(last.0, last.1, "progress ends at its total");
    (open(&out).unwrap(), report)
}

/// Every metadata entry in its file encoding.
fn stored(gguf: &Gguf) -> BTreeMap<String, Vec<u8>> {
    let put = |value: &Value| {
        let mut bytes = Vec::new();
        value.put(gguf.head(), &mut bytes);
        bytes
    };
    gguf.metadata().iter().map(|(key, value)| (key.clone(), put(value))).collect()
}

#[test]
fn what_has_the_wanted_type_is_copied_and_nothing_else_changes() {
    let dir = tempfile::tempdir().unwrap();
    for (ty, _) in ConvertType::ALL {
        let from = demo(dir.path(), ty);
        let (copy, report) = again(&from, ty);
        let original = open(&from).unwrap();
        assert_eq!(copy.content(), original.content(), "{ty}");
        assert_eq!(stored(&copy.gguf), stored(&original.gguf), "{ty}");
        assert_eq!(copy.gguf.vocabulary().unwrap(), original.gguf.vocabulary().unwrap());
        assert_eq!((report.notes, report.vocabulary), (Vec::new(), Some(4_096)));
    }
}

#[test]
fn a_file_of_floats_becomes_what_its_directory_becomes() {
    let dir = tempfile::tempdir().unwrap();
    let floats = dir.path().join("f32.gguf");
    convert(&golden(), &floats, ConvertType::F32, &mut |_| {}).unwrap();
    for (ty, _) in ConvertType::ALL {
        let direct = dir.path().join("direct.gguf");
        convert(&golden(), &direct, ty, &mut |_| {}).unwrap();
        let (through, report) = again(&floats, ty);
        let direct = open(&direct).unwrap();
        assert_eq!(through.content(), direct.content(), "{ty}");
        assert_eq!(stored(&through.gguf), stored(&direct.gguf), "{ty}");
        assert!(
            report.notes.len() == 1
                && report.notes[0].ends_with("has no vocabulary: the file is written without one")
        );
    }
}

#[test]
fn what_was_quantised_is_read_exactly_and_a_second_rounding_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let from = demo(dir.path(), ConvertType::Q4_0);
    let original = open(&from).unwrap();
    let (floats, report) = again(&from, ConvertType::F32);
    assert_eq!(
        report.notes,
        ["43 tensors were quantised (Q4_0, Q8_0): as f32 they are larger but no better"]
    );
    for ((name, before), (_, after)) in
        named(&original.weights).into_iter().zip(named(&floats.weights))
    {
        for row in [0, before.rows() - 1] {
            assert_eq!(before.row(row), after.row(row), "{name}");
        }
    }
    let (eights, report) = again(&from, ConvertType::Q8_0);
    assert_eq!(eights.weights.layers[3].down.format(), Format::Q8_0);
    assert_eq!(report.notes.len(), 1);
    let (start, lost) = report.notes[0].split_once("which loses another ").unwrap();
    assert_eq!(start, "42 tensors were quantised (Q4_0) and are rounded a second time, ");
    let lost: f64 = lost.split_once(" %").unwrap().0.parse().unwrap();
    assert!(
        (0.1..1.0).contains(&lost),
        "a step of 8 bits is some 1 % of a block's largest value: {lost}"
    );
    // Its first rounding was to eight bits, so a second one to four bits loses far more.
    let (.., report) = again(&demo(dir.path(), ConvertType::Q8_0), ConvertType::Q4_0);
    let lost: f64 = report.notes[0]
        .split_once("another ")
        .unwrap()
        .1
        .split_once(" %")
        .unwrap()
        .0
        .parse()
        .unwrap();
    assert!((4.0..12.0).contains(&lost), "{lost}");
}

/// Writes `original` to `path`, with `more` entries and in the types of `plan`; the bytes come from
/// `data`.
fn write(
    path: &Path,
    original: &Gguf,
    more: Vec<(String, Entry<'_>)>,
    data: impl Fn(&str) -> (Format, Vec<u8>),
) {
    let mut entries = kept_entries(original);
    entries.extend(more);
    let tensors: Vec<_> =
        original.tensors().iter().map(|(name, tensor)| (name, tensor, data(name))).collect();
    let plans: Vec<TensorPlan> = tensors
        .iter()
        .map(|(name, tensor, (format, bytes))| TensorPlan {
            name: (*name).clone(),
            dims: tensor.dims.clone(),
            format: *format,
            bytes: bytes.len(),
        })
        .collect();
    let mut writer = Writer::new(File::create(path).unwrap(), &entries, &plans).unwrap();
    tensors.iter().for_each(|(_, _, (_, bytes))| writer.write(bytes).unwrap());
    writer.finish();
}

fn as_it_is(opened: &crate::model::Opened) -> impl Fn(&str) -> (Format, Vec<u8>) {
    let weights: BTreeMap<String, (Format, Vec<u8>)> = named(&opened.weights)
        .into_iter()
        .map(|(name, weight)| (name, (weight.format(), weight.bytes().to_vec())))
        .collect();
    move |name| weights[name].clone()
}

#[test]
fn keys_that_nobody_knows_are_kept_and_those_of_parts_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let original = open(&demo(dir.path(), ConvertType::Q8_0)).unwrap();
    let odd = vec![
        ("quantize.imatrix.file".to_owned(), Entry::Text("prose.dat".into())),
        ("some.switches".to_owned(), Entry::Bools(vec![true, false])),
        ("some.numbers".to_owned(), Entry::F32s(&[f32::NAN, 1.5])),
        ("split.count".to_owned(), Entry::U32(0)),
        ("split.tensors.count".to_owned(), Entry::U32(0)),
        ("general.file_type".to_owned(), Entry::U32(15)),
        ("general.alignment".to_owned(), Entry::U32(32)),
    ];
    let path = dir.path().join("odd.gguf");
    write(&path, &original.gguf, odd, as_it_is(&original));
    let before = stored(&open(&path).unwrap().gguf);
    let (copy, _) = again(&path, ConvertType::F16);
    let after = stored(&copy.gguf);
    for (key, value) in &before {
        let is_dropped =
            key.starts_with("split.") || key == "general.alignment" || key == "general.file_type";
        assert!(is_dropped || after.get(key) == Some(value), "{key}");
    }
    assert_eq!(copy.gguf.integer("general.file_type").unwrap(), Some(1));
    assert_eq!(copy.gguf.integer("general.quantization_version").unwrap(), Some(2));
    assert!(
        !after.keys().any(|key| key.starts_with("split."))
            && !after.contains_key("general.alignment")
    );
}

#[test]
fn a_scale_that_is_no_number_ends_in_the_tensors_name_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let original = open(&demo(dir.path(), ConvertType::Q8_0)).unwrap();
    let (bent, _) = &layer_tensors(2)[11];
    let path = dir.path().join("bent.gguf");
    let good = as_it_is(&original);
    write(&path, &original.gguf, Vec::new(), |name| {
        let (format, mut bytes) = good(name);
        if name == bent {
            bytes[3_400..3_402].copy_from_slice(&[0, 0x7e]);
        }
        (format, bytes)
    });
    let out = dir.path().join("out.gguf");
    let line = convert(&path, &out, ConvertType::F16, &mut |_| {}).unwrap_err().to_string();
    let wanted = format!(
        "{}: tensor {bent}, value 3200 is NaN: the weights are damaged, download them again",
        path.display()
    );
    assert_eq!(line, wanted);
    assert!(
        fs::read_dir(dir.path()).unwrap().all(|file| !file
            .unwrap()
            .file_name()
            .to_string_lossy()
            .contains("out"))
    );
    // Copied bytes stay unchanged, even if they are damaged.
    convert(&path, &out, ConvertType::Q8_0, &mut |_| {}).unwrap();
}

#[test]
fn a_file_is_never_written_over_itself() {
    let dir = tempfile::tempdir().unwrap();
    let path = demo(dir.path(), ConvertType::Q8_0);
    let before = fs::read(&path).unwrap();
    let link = dir.path().join("link.gguf");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for (from, to) in [(&path, &path), (&path, &link), (&link, &path)] {
        let line = convert(from, to, ConvertType::Q4_0, &mut |_| {}).unwrap_err().to_string();
        assert_eq!(
            line,
            format!("{}: is the source file; choose another output file", to.display())
        );
    }
    assert!(fs::read(&path).unwrap() == before);
}
