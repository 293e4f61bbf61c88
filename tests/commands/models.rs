//! Model files as users have them: in parts, of other types, and half written.

use std::fs;
use std::fs::File;
use std::io::Write;

use potluck::model::gguf::{Entry, Gguf, TensorPlan, Writer, kept_entries};

use super::*;
use crate::processes::node::until;
use crate::real_file::real_file;

/// Splits `model` into three parts as llama-gguf-split does: the first has all metadata
/// and no tensors.
fn in_parts(model: &Path, dir: &Path) -> Vec<PathBuf> {
    let gguf = Gguf::open(model).unwrap();
    let whole = gguf.files()[0].bytes.as_slice();
    let tensors: Vec<_> = gguf.tensors().iter().collect();
    let (near, far) = tensors.split_at(tensors.len() / 3);
    let parts = [&[], near, far];
    let paths: Vec<PathBuf> =
        (1..=3).map(|number| dir.join(format!("model-{number:05}-of-00003.gguf"))).collect();
    for ((no, part), path) in parts.iter().enumerate().zip(&paths) {
        let mut entries = if no == 0 { kept_entries(&gguf) } else { Vec::new() };
        for (key, number) in [("no", no), ("count", 3), ("tensors.count", tensors.len())] {
            entries.push((format!("split.{key}"), Entry::U32(number as u32)));
        }
        let plans: Vec<TensorPlan> = part
            .iter()
            .map(|(name, tensor)| TensorPlan {
                name: (*name).clone(),
                dims: tensor.dims.clone(),
                format: tensor.ty.format().unwrap(),
                bytes: tensor.range.len(),
            })
            .collect();
        let mut writer = Writer::new(File::create(path).unwrap(), &entries, &plans).unwrap();
        part.iter().for_each(|(_, tensor)| writer.write(&whole[tensor.range.clone()]).unwrap());
        writer.finish().flush().unwrap();
    }
    paths
}

fn answer(model: &Path) -> Output {
    ended(
        potluck()
            .args(["ask", "--max-tokens", "8", "The state of the other side", "--model"])
            .arg(model)
            .spawn()
            .unwrap(),
    )
}

/// The weights' memory in the summary, in MB.
fn weights(output: &Output) -> String {
    let said = text(&output.stderr);
    let from = said.find("weights ").unwrap();
    said[from..].split(',').next().unwrap().to_owned()
}

fn inspected(model: &Path) -> serde_json::Value {
    serde_json::from_str(&done(&run([OsStr::new("inspect"), "--json".as_ref(), model.as_ref()])))
        .unwrap()
}

#[test]
fn a_model_in_parts_answers_as_in_one_file_whichever_part_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let paths = in_parts(demo(), dir.path());
    let (whole, parts) = (inspected(demo()), inspected(&paths[0]));
    assert_eq!(
        parts["fingerprint"], whole["fingerprint"],
        "nodes with the model in parts and in one file do not share"
    );
    assert_eq!((&parts["parts"], &whole["parts"]), (&3.into(), &1.into()));
    let shown = done(&run([OsStr::new("inspect"), paths[2].as_ref()]));
    assert!(shown.contains(" MB in 3 parts)"), "{shown}");
    let wanted = done(&answer(demo()));
    for path in &paths {
        let output = answer(path);
        assert_eq!(done(&output), wanted);
        assert_eq!(weights(&output), weights(&answer(demo())), "the memory of all parts counts");
    }
    // And back to one file.
    let joined = dir.path().join("joined.gguf");
    done(&run([OsStr::new("convert"), paths[0].as_ref(), joined.as_ref()]));
    assert_eq!(inspected(&joined)["fingerprint"], whole["fingerprint"]);
    fs::remove_file(&paths[1]).unwrap();
    let line = refused(&answer(&paths[0]));
    let missing = paths[1].display();
    assert!(
        line.contains(&format!(
            "{missing}: is missing, and is part 2 of 3 of the model: download it"
        )),
        "{line}"
    );
}

#[test]
fn a_gguf_is_converted_and_says_what_that_costs() {
    let dir = tempfile::tempdir().unwrap();
    let (small, floats) = (dir.path().join("q4_0.gguf"), dir.path().join("f32.gguf"));
    let convert = |from: &Path, out: &Path, ty: &str| {
        let output = run([
            OsStr::new("convert"),
            from.as_ref(),
            out.as_ref(),
            "--type".as_ref(),
            ty.as_ref(),
        ]);
        let size = format!("tensors, {:.1} MB", fs::metadata(out).unwrap().len() as f64 / 1e6);
        assert!(done(&output).contains(&size), "{output:?}, but {size}");
        text(&output.stderr)
    };
    let said = convert(demo(), &small, "q4_0");
    assert!(
        said.starts_with(
            "· 42 tensors were quantised (Q8_0) and are rounded a second time, which loses another "
        ),
        "{said}"
    );
    let said = convert(&small, &floats, "f32");
    assert!(
        said.contains(
            "43 tensors were quantised (Q4_0, Q8_0): as f32 they are larger but no better"
        ),
        "{said}"
    );
    assert_eq!(done(&answer(&small)).is_empty(), done(&answer(&floats)).is_empty());
    assert_eq!(
        (&inspected(&small)["name"], &inspected(&floats)["name"]),
        (&inspected(demo())["name"], &inspected(demo())["name"])
    );
    let before = fs::read(&floats).unwrap();
    let over = |force: &[&str]| {
        run([OsStr::new("convert"), small.as_ref(), floats.as_ref()]
            .into_iter()
            .chain(force.iter().map(OsStr::new)))
    };
    assert!(
        refused(&over(&[]))
            .contains("f32.gguf: already exists; name another file, or replace it with --force")
    );
    assert!(fs::read(&floats).unwrap() == before, "a file was overwritten without being asked");
    done(&over(&["--force"]));
    assert!(fs::read(&floats).unwrap() != before);
    let itself = run([OsStr::new("convert"), small.as_ref(), small.as_ref(), "--force".as_ref()]);
    assert!(
        refused(&itself).contains("q4_0.gguf: is the source file; choose another output file"),
        "{itself:?}"
    );
    assert_eq!(names(dir.path()), ["f32.gguf", "q4_0.gguf"]);
}

#[test]
fn inspect_measures_how_fast_a_model_runs_where_that_is_asked_for() {
    let measured = done(&run([
        OsStr::new("inspect"),
        "--measure".as_ref(),
        "--json".as_ref(),
        demo().as_ref(),
    ]));
    let measured: serde_json::Value = serde_json::from_str(&measured).unwrap();
    let speed = &measured["speed"];
    let positive = |rate: &str| speed[rate].as_f64().is_some_and(|rate| rate > 0.0);
    assert!(positive("prefill_tokens_per_s") && positive("decode_tokens_per_s"), "{measured}");
    assert_eq!(speed["prefill_tokens"], 64);
    assert_eq!(inspected(demo()).get("speed"), None);
}

#[cfg(unix)]
#[test]
fn a_command_that_is_stopped_leaves_nothing_half_written() {
    for signal in ["INT", "TERM"] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = potluck();
        command
            .args(["synth", "--shape", "gemma3-1b", "--type", "f32"])
            .arg(dir.path().join("big.gguf"));
        let child = command.spawn().unwrap();
        let id = child.id().to_string();
        until("a file is started", || names(dir.path()).pop());
        assert!(names(dir.path())[0].ends_with(".partial"));
        assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
        let output = ended(child);
        assert_eq!(
            output.status.code(),
            Some(if signal == "INT" { 130 } else { 143 }),
            "{output:?}"
        );
        assert_eq!(text(&output.stderr), "\npotluck: stopped; the unfinished output was removed\n");
        assert!(names(dir.path()).is_empty(), "{:?}", names(dir.path()));
    }
}

#[test]
fn the_published_file_is_described_as_it_is_published() {
    let Some(path) = real_file("the_published_file_is_described_as_it_is_published") else {
        return;
    };
    let said = inspected(&path);
    let tensors: Vec<(&str, u64)> =
        [("F32", 109), ("Q4_K", 27), ("Q5_0", 81), ("Q6_K", 9), ("Q8_0", 10)].into();
    let counted = said["tensors"].as_object().unwrap();
    assert_eq!(
        counted
            .iter()
            .map(|(ty, count)| (ty.as_str(), count["tensors"].as_u64().unwrap()))
            .collect::<Vec<_>>(),
        tensors
    );
    assert_eq!((&said["name"], &said["chat"]), (&"Gemma 3 270m".into(), &false.into()));
    assert_eq!(
        (&said["global_layers"], &said["sliding_layers"], &said["window"]),
        (&3.into(), &15.into(), &512.into())
    );
    assert_eq!(said["parameters"], 268_098_176);
    let config = potluck::model::open(&path).unwrap().config;
    assert_eq!(
        (config.rope_global.base, config.rope_sliding.base),
        (1e6, 1e4),
        "the file gives neither pattern nor sliding base"
    );
    assert_eq!((config.rope_global.factor, config.query_scale), (1.0, 0.0625));
    // The same file as version 2 of the format: only the version number differs.
    let old = tempfile::NamedTempFile::new().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[4..8].copy_from_slice(&2u32.to_le_bytes());
    fs::write(old.path(), bytes).unwrap();
    assert_eq!(inspected(old.path())["fingerprint"], said["fingerprint"]);
}
