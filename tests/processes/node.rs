//! One `potluck run --json` on loopback, as a test sees it: requests go in, events come out.
//! Dropping it kills the process.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use potluck::model::convert::ConvertType;
use potluck::model::synth::{Shape, synth};
use serde_json::{Value, json};

/// Only a machine that has stalled completely takes longer for any one step.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Time between two polls of a condition.
const POLL: Duration = Duration::from_millis(10);

/// The synthetic demo model from seed 7, and another one from seed 8. Recreated in each run: a
/// changed file is renamed into place, so nodes of another run keep the file that they have mapped.
pub static MODELS: LazyLock<[PathBuf; 2]> = LazyLock::new(|| {
    [7, 8].map(|seed| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("processes-{seed}.gguf"));
        synth(Shape::Demo, seed, ConvertType::Q8_0, &path, &mut |_| {})
            .expect("the test's model must be writable");
        path
    })
});

/// Arguments of a node that takes `token_us` per computed token. Its fetches from peers then do not
/// depend on this machine's speed or load: a fast one would compute much of a prompt before any
/// data arrives, as it should.
pub fn paced(token_us: u32) -> [String; 2] {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("paced-{token_us}.toml"));
    let table = format!(
        "name = \"slow-board\"\nestimate = true\nstart_ms = 1\ntoken_us = [[1, {token_us}], [64, {token_us}]]\n\
         depth_us = [[0, 0]]\nlogits_us = 1_000\njob_us = 200\n"
    );
    // Concurrent tests read the same file, so it must never be seen half written.
    let new = path.with_extension(format!("{:?}", thread::current().id()));
    std::fs::write(&new, table)
        .and_then(|()| std::fs::rename(&new, &path))
        .expect("the folder of tests must be writable");
    ["--pace".to_string(), path.display().to_string()]
}

/// The binary `potluck`.
pub fn potluck() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_potluck"));
    // Ignores the settings of this machine.
    command.env("POTLUCK_CONFIG", "");
    command.env("XDG_CACHE_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"));
    command
}

/// Polls until `check` returns a value.
#[expect(
    clippy::disallowed_methods,
    reason = "a process does not announce the condition; this polls until a deadline"
)]
pub fn until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(start.elapsed() < TIMEOUT, "{what}: not within {TIMEOUT:?}");
        thread::sleep(POLL);
    }
}

/// A number somewhere in an event.
pub fn count(event: &Value, at: &str) -> u64 {
    event.pointer(at).and_then(Value::as_u64).unwrap_or_else(|| panic!("no number {at} in {event}"))
}

/// An answer and its figures.
#[derive(Debug)]
pub struct Answer {
    /// The answer's tokens.
    pub tokens: Vec<u64>,
    /// Its text.
    pub text: String,
    /// Tokens of the prompt.
    pub prompt: u64,
    /// Of those, how many came from its own slab.
    pub own: u64,
    /// Of those, how many came from peers.
    pub given: u64,
    /// Of those, how many were computed.
    pub computed: u64,
    /// Time to the first token.
    pub ttft: Duration,
}

impl Answer {
    fn new(done: &Value) -> Answer {
        let tokens =
            done["tokens"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
        let peers = done["figures"]["peers"].as_array().into_iter().flatten();
        Answer {
            tokens,
            text: done["text"].as_str().unwrap_or_default().to_string(),
            prompt: count(done, "/figures/prompt_tokens"),
            own: count(done, "/figures/own"),
            given: peers.map(|peer| count(peer, "/1")).sum(),
            computed: count(done, "/figures/computed"),
            ttft: Duration::from_millis(count(done, "/figures/ttft_ms")),
        }
    }

    /// Whether both have the same tokens and text.
    pub fn is(&self, other: &Answer) -> bool {
        self.tokens == other.tokens && self.text == other.text
    }
}

/// The process.
pub struct NodeProcess {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    asked: u64,
    answers: BTreeMap<u64, Answer>,
    notes: Vec<String>,
}

impl NodeProcess {
    /// Starts a node on `model` with more arguments, and waits until it accepts prompts.
    pub fn start(model: &Path, arguments: &[String]) -> NodeProcess {
        let mut command = potluck();
        command
            .args(["run", "--json", "--slab", "32", "--max-tokens", "6", "--model"])
            .arg(model)
            .args(arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            unreachable!("both are piped")
        };
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut node = NodeProcess {
            child,
            input,
            lines,
            asked: 0,
            answers: BTreeMap::new(),
            notes: Vec::new(),
        };
        while node.receive()["event"] != "ready" {}
        node
    }

    /// The next event. Notes and answers are kept for later calls.
    fn receive(&mut self) -> Value {
        let line = self
            .lines
            .recv_timeout(TIMEOUT)
            .unwrap_or_else(|error| panic!("a node printed nothing: {error}"));
        let event: Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"));
        match event["event"].as_str() {
            Some("note") => self.notes.push(event["text"].as_str().unwrap_or_default().to_string()),
            Some("done") => drop(self.answers.insert(count(&event, "/id"), Answer::new(&event))),
            Some("failed" | "error") => panic!("a node refused: {line}"),
            _ => {}
        }
        event
    }

    fn say(&mut self, request: &Value) {
        writeln!(self.input, "{request}").expect("the node must read its console");
    }

    /// Gives it a prompt without waiting for the answer. Returns the prompt's number.
    pub fn ask(&mut self, prompt: &str) -> u64 {
        self.asked += 1;
        let number = self.asked;
        self.say(&json!({ "ask": prompt, "id": number }));
        number
    }

    /// Waits for the answer to prompt `number`.
    pub fn answer(&mut self, number: u64) -> Answer {
        loop {
            if let Some(answer) = self.answers.remove(&number) {
                return answer;
            }
            self.receive();
        }
    }

    /// Asks and waits.
    pub fn answer_to(&mut self, prompt: &str) -> Answer {
        let number = self.ask(prompt);
        self.answer(number)
    }

    /// Whether prompt `number` has been answered.
    pub fn is_done(&self, number: u64) -> bool {
        self.answers.contains_key(&number)
    }

    /// Its status.
    pub fn status(&mut self) -> Value {
        self.say(&json!({ "command": "status" }));
        loop {
            let mut event = self.receive();
            if event["event"] == "status" {
                return event["status"].take();
            }
        }
    }

    /// Its status of the peer with this id, once it knows that peer.
    pub fn peer(&mut self, id: u64) -> Option<Value> {
        let id = format!("{id:016x}");
        let status = self.status();
        status["peers"].as_array()?.iter().find(|peer| peer["node"] == id.as_str()).cloned()
    }

    /// Waits until it has printed a line that contains `part`.
    pub fn wait_for_note(&mut self, part: &str) {
        until(&format!("a line with '{part}' from a node"), || {
            self.status();
            self.notes.iter().any(|note| note.contains(part)).then_some(())
        });
    }

    /// Waits until it knows everything that `other` holds at this moment.
    pub fn wait_to_know(&mut self, other: &mut NodeProcess) {
        let told = until("a node has announced all that it holds", || {
            Some(other.status()).filter(|status| status["told"] == true)
        });
        let id = told["node"]
            .as_str()
            .and_then(|id| u64::from_str_radix(id, 16).ok())
            .expect("a node says its id");
        let generation = count(&told, "/generation");
        until("a node knows what its peer holds", || {
            let peer = self.peer(id)?;
            (peer["current"] == true && count(&peer, "/generation") >= generation).then_some(())
        });
    }

    /// The process, for `kill`.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it at once, without a goodbye.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends `signals` to one process, one right after another.
pub fn signal(pid: u32, signals: &[&str]) {
    let script: Vec<String> =
        signals.iter().map(|signal| format!("kill -{signal} {pid}")).collect();
    let done =
        Command::new("sh").args(["-c", &script.join(" && ")]).status().expect("a shell starts");
    assert!(done.success(), "{script:?}");
}
