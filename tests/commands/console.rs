//! `potluck ask`, and the consoles of `potluck run`: answers, turns, stop, quit, and what two nodes
//! notice of each other.

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::ChildStdin;
use std::sync::mpsc::Receiver;

use super::*;

const ALONE: [&str; 4] = ["run", "--alone", "--max-tokens", "6"];

fn alone() -> Vec<String> {
    ALONE
        .into_iter()
        .map(str::to_string)
        .chain(["--model".to_string(), demo().display().to_string()])
        .collect()
}

/// An interactive `potluck run --json`. Killed when dropped.
pub(super) struct Node {
    child: Child,
    input: Option<ChildStdin>,
    events: Receiver<serde_json::Value>,
}

impl Node {
    pub(super) fn start(model: &Path, args: &[&str]) -> Node {
        Node::start_by(potluck(), model, args)
    }

    pub(super) fn start_by(mut command: Command, model: &Path, args: &[&str]) -> Node {
        command.args(["run", "--json", "--model"]).arg(model).args(args);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        let (sender, events) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        Node { child, input, events }
    }

    pub(super) fn say(&mut self, request: &str) {
        writeln!(self.input.as_mut().unwrap(), "{request}").unwrap();
    }

    /// The next event of this kind.
    pub(super) fn receive(&self, event: &str) -> serde_json::Value {
        self.hear_where(event, |_| true)
    }

    pub(super) fn hear_where(
        &self,
        event: &str,
        wanted: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        loop {
            let heard = self
                .events
                .recv_timeout(TIMEOUT)
                .unwrap_or_else(|error| panic!("no {event} came: {error}"));
            if heard["event"] == event && wanted(&heard) {
                return heard;
            }
        }
    }

    pub(super) fn hear_note(&self, part: &str) {
        self.hear_where("note", |note| note["text"].as_str().unwrap().contains(part));
    }

    /// The process, for `kill`.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its exit, which must happen.
    pub(super) fn end(mut self) {
        self.input = None;
        while self.events.recv_timeout(TIMEOUT).is_ok() {}
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A UDP port that is free.
fn free_port() -> String {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

#[test]
fn an_answer_goes_to_standard_output_alone_and_ends_with_its_figures() {
    let ask = |more: &[&str]| {
        let output = ended(
            potluck()
                .args(["ask", "Why is the sky blue?", "--max-tokens", "9", "--model"])
                .arg(demo())
                .args(more)
                .spawn()
                .unwrap(),
        );
        (done(&output), told(&output))
    };
    let (answer, figures) = ask(&[]);
    assert!(answer.trim().len() > 9 && answer.ends_with('\n'), "{answer}");
    assert_eq!(figures.lines().count(), 1, "{figures}");
    assert!(
        figures.contains(" prompt tokens: 0 own slab, 0 peers, ")
            && figures.contains("9 generated; TTFT "),
        "{figures}"
    );
    assert_eq!(ask(&[]).0, answer, "greedy answers repeat");
    assert_ne!(ask(&["--chat"]).0, answer, "a chat is another prompt");
    let warm = ["--temperature", "2", "--seed", "5"];
    assert_eq!(ask(&warm).0, ask(&warm).0, "the same seed gives the same answer");
    assert_ne!(ask(&warm).0, answer);
}

#[test]
fn lines_piped_in_are_prompts_and_commands_and_all_are_answered_before_the_end() {
    let output =
        fed(alone(), b"Hello there\n\nchat Who are you?\nask Hello there\nhelp me write a poem\n");
    let (answers, notes) = (done(&output), told(&output));
    let marked = |mark: &str| notes.lines().filter(|line| line.starts_with(mark)).count();
    assert_eq!(marked("["), 4, "figures of four answers: {notes}");
    assert_eq!((marked("· node "), marked("!"), notes.lines().count()), (1, 0, 5), "{notes}");
    assert!(!answers.contains("prompt tokens"), "{answers}");
    assert!(
        notes.lines().nth(3).unwrap().contains(" own slab")
            && !notes.lines().nth(3).unwrap().contains(": 0 own slab"),
        "{notes}"
    );
}

#[test]
fn what_a_command_asks_for_is_given_in_lines_that_can_be_read() {
    let output = fed(alone(), b"status\npeers\nstats\nhelp\nversion\n");
    let said = done(&output);
    for part in [
        "node     ",
        "slab     ",
        "no peer has been heard",
        "prompts  0 answered, 0 refused",
        "odd      nothing",
        "chat TEXT",
        "potluck 0.",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(!said.contains('{'), "{said}");
}

#[test]
fn a_line_of_no_use_is_refused_and_the_next_is_answered() {
    let long = [vec![b'x'; 200_000], b"\n".to_vec()].concat();
    let input = [b"ask\ncaf\xe9\nstop\n".as_slice(), &long, b"Hello"].concat();
    let output = fed(alone(), &input);
    done(&output);
    let notes = text(&output.stderr);
    let refusals: Vec<&str> = notes.lines().filter(|line| line.starts_with("! ")).collect();
    let parts = ["ask what?", "not UTF-8", "nothing is being answered", "131072 bytes: shorten it"];
    assert_eq!(refusals.len(), parts.len(), "{notes}");
    assert!(refusals.iter().zip(parts).all(|(line, part)| line.contains(part)), "{notes}");
    assert!(notes.ends_with("number of tokens asked for]\n"), "{notes}");
}

#[test]
fn a_program_gets_one_event_a_line_and_ids_that_it_can_compare() {
    let mut node = Node::start(demo(), &["--alone", "--id", "fedcba9876543211"]);
    let ready = node.receive("ready");
    assert_eq!(
        (ready["node"].as_str(), ready["model"].as_str()),
        (Some("fedcba9876543211"), Some("demo.gguf"))
    );
    node.say(r#"{"ask": "Hello there", "id": 7, "max_tokens": 5}"#);
    let done = node.receive("done");
    assert_eq!((&done["id"], done["tokens"].as_array().unwrap().len()), (&7.into(), 5));
    assert_eq!(done["figures"]["finish"], "length");
    node.say(r#"{"command": "status"}"#);
    let status = &node.receive("status")["status"];
    assert_eq!((&status["node"], &status["fingerprint"]), (&ready["node"], &ready["fingerprint"]));
    for (request, part) in [
        ("hello", "not understood"),
        (r#"{"ask": 5}"#, "not understood"),
        (r#"{"command": "dance"}"#, "is one of the console's: ask, raw, chat"),
        (r#"{"ask": "a", "command": "quit"}"#, "one of \"ask\", \"chat\" and \"command\""),
        (r#"{"command": "stop"}"#, "nothing is being answered"),
    ] {
        node.say(request);
        let reason = node.receive("error")["reason"].clone();
        assert!(reason.as_str().unwrap().contains(part), "{reason}");
    }
    for (command, event) in [
        ("peers", "peers"),
        ("set seed 4", "settings"),
        ("log 3", "log"),
        ("config", "config"),
        ("bench", "bench"),
    ] {
        node.say(&format!(r#"{{"command": "{command}"}}"#));
        assert!(!node.receive(event)[event].is_null(), "{command}");
    }
    node.say(r#"{"ask": " ", "id": 8}"#);
    let failed = node.receive("failed");
    assert_eq!(failed["id"], 8);
    assert!(failed["reason"].as_str().unwrap().contains("the prompt is empty"));
    node.end();
}

#[test]
fn stop_ends_all_answers_and_quit_waits_for_them() {
    let mut node = Node::start(demo(), &["--alone", "--context", "4096"]);
    let long =
        |id: u32| format!(r#"{{"ask": "Why is the sky blue?", "id": {id}, "max_tokens": 4000}}"#);
    node.say(&long(1));
    node.receive("text");
    node.say(r#"{"command": "stop"}"#);
    let done = node.receive("done");
    assert_eq!((&done["id"], &done["figures"]["finish"]), (&1.into(), &"stopped".into()), "{done}");
    for id in 2..6 {
        node.say(&long(id));
    }
    node.receive("text");
    node.say(r#"{"command": "stop"}"#);
    let mut stopped = Vec::new();
    for _ in 2..6 {
        let done = node.receive("done");
        assert_eq!(done["figures"]["finish"], "stopped", "{done}");
        stopped.push(done["id"].as_u64().unwrap());
    }
    // Prompts that had not begun end first.
    stopped.sort_unstable();
    assert_eq!(stopped, [2, 3, 4, 5]);
    // A script that quits still gets the answers that it asked for.
    for id in 6..9 {
        node.say(&format!(r#"{{"ask": "Why is the sky blue?", "id": {id}, "max_tokens": 5}}"#));
    }
    node.say(r#"{"command": "quit"}"#);
    for id in 6..9 {
        let done = node.receive("done");
        assert_eq!(
            (&done["id"], &done["figures"]["finish"]),
            (&id.into(), &"length".into()),
            "{done}"
        );
    }
    node.end();
}

/// A program that hangs must not take the node with it: peers depend on what this node holds.
#[test]
fn a_program_that_reads_nothing_stops_nothing_and_is_told_what_it_missed() {
    let mut child = potluck().args(alone()).arg("--json").stdin(Stdio::piped()).spawn().unwrap();
    let (mut input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (sender, written) = channel();
    thread::spawn(move || {
        // About 30 MB of replies. The pipe holds a sixth of the requests, so the others are
        // answered before anyone reads.
        let requests = "{\"command\": \"help\"}\n".repeat(16_000);
        let _ = sender.send(input.write_all(requests.as_bytes()).map(|()| input));
    });
    let mut input =
        written.recv_timeout(TIMEOUT).expect("the node must not hang without a reader").unwrap();
    let (sender, events) = channel();
    thread::spawn(move || {
        let lines = BufReader::new(output).lines().map_while(Result::ok);
        lines.for_each(|line| {
            drop(sender.send(serde_json::from_str::<serde_json::Value>(&line).unwrap()))
        });
    });
    let mut heard = 0;
    loop {
        writeln!(input, "{{\"command\": \"version\"}}").unwrap();
        let event = events.recv_timeout(TIMEOUT).expect("the node must go on printing");
        heard += usize::from(event["event"] == "help");
        if event["event"] == "note"
            && event["text"].as_str().unwrap().ends_with("nobody read them in time")
        {
            break;
        }
    }
    assert!((200..16_000).contains(&heard), "{heard}");
    drop(input);
    assert!(child.wait().unwrap().success());
}

/// A full pipe.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
    rustix::fs::fcntl_setfl(&writer, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    while writer.write(&[0; 4_096]).is_ok() {}
    rustix::fs::fcntl_setfl(&writer, flags).unwrap();
    (reader, writer)
}

/// A full log, or a terminal stopped with Ctrl-S, must not keep a node from starting,
/// answering or exiting.
#[test]
fn a_node_whose_standard_error_takes_nothing_starts_answers_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("potluck.toml");
    // Causes a note at the start.
    fs::write(&config, "[memory]\nslap = 64\n").unwrap();
    let (_reader, writer) = full_pipe();
    let mut command = potluck();
    command.stderr(writer.try_clone().unwrap());
    let mut node = Node::start_by(
        command,
        demo(),
        &["--alone", "--max-tokens", "6", "--config", &config.display().to_string()],
    );
    node.receive("ready");
    node.say(r#"{"ask": "Hello", "id": 3}"#);
    assert_eq!(node.receive("done")["id"], 3);
    node.end();

    let mut command = potluck();
    let child =
        command.args(["run", "--alone", "--model", "absent.gguf"]).stderr(writer).spawn().unwrap();
    assert_eq!(ended(child).status.code(), Some(1));
}

#[test]
fn a_long_prompt_tells_a_program_how_far_it_is() {
    let mut node = Node::start(
        demo(),
        &[
            "--alone",
            "--context",
            "4096",
            "--isa",
            "portable",
            "--threads",
            "1",
            "--precision",
            "float",
        ],
    );
    let text: Vec<String> = (0..950).map(|number| number.to_string()).collect();
    node.say(&serde_json::json!({"ask": text.join(" "), "id": 3, "max_tokens": 1}).to_string());
    let first = node.receive("progress");
    let (total, computed) =
        (first["prompt_tokens"].as_u64().unwrap(), first["computed"].as_u64().unwrap());
    assert!(first["id"] == 3 && computed > 0 && computed < total, "{first}");
    assert_eq!((&first["own"], &first["peers"]), (&0.into(), &0.into()));
    node.say(r#"{"command": "stop"}"#);
    let done = node.receive("done");
    assert_eq!(
        (&done["figures"]["prompt_tokens"], &done["figures"]["finish"]),
        (&first["prompt_tokens"], &"stopped".into())
    );
    node.end();
}

#[test]
fn a_node_hears_of_its_peer_and_of_its_farewell_even_when_a_signal_ends_it() {
    let (port, other_port) = (free_port(), free_port());
    let net = ["--interface", "127.0.0.1", "--port"];
    let first = Node::start(demo(), &[net.as_slice(), &[&port, "--id", "a"]].concat());
    first.receive("ready");
    let address = format!("127.0.0.1:{port}");
    let peer = Node::start(
        demo(),
        &[net.as_slice(), &[&other_port, "--id", "b", "--peer", &address]].concat(),
    );
    peer.receive("ready");
    first.hear_note("peer 000000000000000b is here");
    let killed =
        Command::new("kill").args(["-TERM", &peer.child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    peer.end();
    first.hear_note("peer 000000000000000b has left");
    first.end();
}

#[test]
fn a_peer_with_another_model_is_named_and_nothing_is_shared_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("other.gguf");
    synth(Shape::Demo, 2, ConvertType::Q8_0, &other, &mut |_| {}).unwrap();
    let (port, other_port) = (free_port(), free_port());
    let net = ["--interface", "127.0.0.1", "--port"];
    let mut first = Node::start(demo(), &[net.as_slice(), &[&port]].concat());
    first.receive("ready");
    let address = format!("127.0.0.1:{port}");
    let peer = Node::start(
        &other,
        &[net.as_slice(), &[&other_port, "--id", "b", "--peer", &address]].concat(),
    );
    peer.receive("ready");
    first.hear_note("peer 000000000000000b runs another model");
    first.say(r#"{"command": "status"}"#);
    assert_eq!(first.receive("status")["status"]["peers"][0]["shares"], false);
    first.end();
    peer.end();
}
