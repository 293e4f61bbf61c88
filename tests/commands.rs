//! The binary as a new user meets it: what its commands print, how they fail, and the
//! files they leave.

mod ask;
mod blocks;
mod chat;
mod console;
mod doctor;
mod files;
mod linux;
mod memory;
mod models;
mod refusals;
mod requests;
mod tokens;

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use potluck::model::convert::ConvertType;
use potluck::model::synth::{Shape, synth};
use potluck::tokenizer::{TokenKind, Vocabulary};
use tempfile::TempDir;

/// Far longer than anything here takes on a loaded machine: a command that exceeds it hangs.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The synthetic demo model: a vocabulary and a context of 4,096 tokens. Made once for all tests.
static DEMO: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("demo.gguf");
    synth(Shape::Demo, 1, ConvertType::Q8_0, &path, &mut |_| {}).unwrap();
    path
});

fn demo() -> &'static Path {
    &DEMO
}

/// A Gemma 3 with 512 tokens in Hugging Face's layout, with golden logits.
fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/gemma3-tiny")
}

fn potluck() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_potluck"));
    // Ignores the settings of this machine.
    command.env("POTLUCK_CONFIG", "");
    command.env("XDG_CACHE_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The demo model with this chat template in its file, written to `dir`.
fn with_template(dir: &TempDir, name: &str, template: &str) -> PathBuf {
    const KEY: &str = "tokenizer.chat_template";
    const HEAD: usize = 24;
    // Its tensors are aligned to 32 bytes, so the inserted entry must be a multiple of 32.
    let fixed = 8 + KEY.len() + 4 + 8;
    let padding = 4 + (32 - (fixed + template.len() + 4) % 32) % 32;
    let template = format!("{template}{{#{}#}}", " ".repeat(padding - 4));
    let mut file = fs::read(demo()).unwrap();
    let entries = u64::from_le_bytes(file[16..HEAD].try_into().unwrap());
    file[16..HEAD].copy_from_slice(&(entries + 1).to_le_bytes());
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    file.splice(HEAD..HEAD, [text(KEY), 8_u32.to_le_bytes().to_vec(), text(&template)].concat());
    let path = dir.path().join(name);
    fs::write(&path, file).unwrap();
    path
}

/// Gemma 3's chat template, without its image handling and its own error cases.
const TEMPLATE: &str = "{{ bos_token }}{%- set head = '' -%}{%- set turns = messages -%}\
    {%- if messages[0]['role'] == 'system' -%}{%- set head = messages[0]['content'] + '\n\n' -%}\
    {%- set turns = messages[1:] -%}{%- endif -%}\
    {%- for turn in turns -%}{%- set role = 'model' if turn['role'] == 'assistant' else turn['role'] -%}\
    {{ '<start_of_turn>' + role + '\n' + (head if loop.first else '') + turn['content'] | trim + '<end_of_turn>\n' }}\
    {%- endfor -%}{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}";

/// The output of a child that must exit by itself.
fn ended(child: Child) -> Output {
    let (sender, receiver) = channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    receiver.recv_timeout(TIMEOUT).expect("potluck did not exit").unwrap()
}

fn run<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Output {
    ended(potluck().args(args).spawn().unwrap())
}

/// The output of a child that is given `input` and then end of file.
fn fed<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>, input: &[u8]) -> Output {
    let mut child = potluck().args(args).stdin(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let input = input.to_vec();
    // On a thread, because the child may stop reading while it answers.
    thread::spawn(move || pipe.write_all(&input));
    ended(child)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The command's standard output. The command must have succeeded.
fn done(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

/// Standard error without the line that sums up memory.
fn told(output: &Output) -> String {
    text(&output.stderr)
        .split_inclusive('\n')
        .filter(|line| !line.starts_with("· memory: "))
        .collect()
}

/// The single line that says why the command failed. It must print nothing else.
fn refused(output: &Output) -> String {
    let said = told(output);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    assert!(
        said.starts_with("potluck: ") && said.ends_with('\n') && said.lines().count() == 1,
        "{said}"
    );
    assert!(!said.contains("panicked") && said.len() < 400, "{said}");
    said
}

/// The command line parser's message for a usage error.
fn misused(args: &[&str]) -> String {
    let output = run(args);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    text(&output.stderr)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The golden model's directory, without its golden logits, with a tokenizer.json around
/// `vocabulary`.
fn hub(vocabulary: &Vocabulary) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(golden().join(file), dir.path().join(file)).unwrap();
    }
    fs::write(dir.path().join("tokenizer.json"), tokenizer_json(vocabulary)).unwrap();
    dir
}

/// A tokenizer.json written like Gemma's.
fn tokenizer_json(vocabulary: &Vocabulary) -> String {
    let pieces: serde_json::Map<_, _> =
        vocabulary.tokens.iter().zip(0..).map(|(text, id)| (text.clone(), id.into())).collect();
    let whole = vocabulary.tokens.iter().zip(&vocabulary.kinds).zip(0..);
    let added: Vec<_> = whole
        .filter(|((_, kind), _)| !matches!(kind, TokenKind::Normal | TokenKind::Byte))
        .map(|((text, kind), id)| serde_json::json!({"id": id, "content": text, "special": *kind != TokenKind::UserDefined}))
        .collect();
    let unmark = serde_json::json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "});
    serde_json::json!({
        "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "decoder": {"type": "Sequence", "decoders": [unmark, {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "unk_token": "<unk>", "byte_fallback": true, "vocab": pieces, "merges": []},
    })
    .to_string()
}
