//! A reset of real processes over loopback: `potluck reset`, a node's console, and the files on the
//! card afterwards.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

use potluck::model::convert::ConvertType;
use potluck::model::synth::{Shape, synth};
use serde_json::{Value, json};

use crate::processes::node::until;

/// One `potluck run --json`, killed without a goodbye when dropped.
struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(model: &Path, more: &[&str]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_potluck"));
        command
            .args(["run", "--json", "--slab", "16", "--max-tokens", "2", "--model"])
            .arg(model)
            .args(more);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            unreachable!("both are piped")
        };
        let mut process = Process { child, input, output: BufReader::new(output) };
        process.wait_for("ready");
        process
    }

    fn say(&mut self, request: &Value) {
        writeln!(self.input, "{request}").expect("the node must read its console");
    }

    fn wait_for(&mut self, event: &str) -> Value {
        loop {
            let mut line = String::new();
            assert!(
                self.output.read_line(&mut line).expect("UTF-8") > 0,
                "a node exited before the event {event}"
            );
            let said: Value = serde_json::from_str(&line).expect("an event");
            if said["event"] == event {
                return said;
            }
        }
    }

    fn status(&mut self) -> Value {
        self.say(&json!({ "command": "status" }));
        self.wait_for("status")["status"].take()
    }

    fn wait_until(&mut self, what: &str, check: impl Fn(&Value) -> bool) {
        until(what, || check(&self.status()).then_some(()));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn reset(port: &str, key: &str, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_potluck"));
    command.args(["reset", "--interface", "127.0.0.1", "--port", port]).args(more);
    if !key.is_empty() {
        command.args(["--swarm-key", key]);
    }
    command.output().expect("the binary starts")
}

fn shares_with_two(status: &Value) -> bool {
    let peers = status["peers"].as_array().map(Vec::as_slice).unwrap_or_default();
    peers.len() == 2 && peers.iter().all(|peer| peer["shares"] == true)
}

#[test]
fn processes_obey_a_reset_say_so_and_keep_the_epoch_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("demo.gguf");
    synth(Shape::Demo, 7, ConvertType::Q8_0, &model, &mut |_| {}).unwrap();
    let port = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
        .to_string();
    let key = format!("reset {}", std::process::id());
    let states: Vec<String> = (0..3)
        .map(|node| dir.path().join(format!("state-{node}")).to_str().unwrap().to_string())
        .collect();
    let mut nodes: Vec<Process> = states
        .iter()
        .map(|state| {
            let net = [
                "--interface",
                "127.0.0.1",
                "--port",
                &port,
                "--swarm-key",
                &key,
                "--state",
                state,
            ];
            Process::start(&model, &net)
        })
        .collect();
    nodes.iter_mut().for_each(|node| node.wait_until("all know one another", shares_with_two));
    nodes[0].say(&json!({ "ask": "State from before the reset, which nobody may find again after it.", "id": 1 }));
    nodes[0].wait_for("done");
    assert!(nodes[0].status()["cache"]["entries"] != 0);

    let ordered = reset(&port, &key, &["--store"]);
    let said = String::from_utf8_lossy(&ordered.stdout).into_owned();
    assert!(ordered.status.success(), "{said}{}", String::from_utf8_lossy(&ordered.stderr));
    assert!(said.contains("peers and blocks are forgotten, the swarm is at epoch 1"), "{said}");
    assert!(said.contains("3 of 3 nodes have acknowledged"), "{said}");
    for (node, state) in nodes.iter_mut().zip(&states) {
        let status = node.status();
        assert_eq!((&status["epoch"], &status["cache"]["entries"]), (&json!(1), &json!(0)));
        let file = std::fs::read_to_string(Path::new(state).join("epoch")).unwrap();
        assert!(file.starts_with("potluck epoch 1\nepoch 1\nstore 1\n"), "{file}");
        node.wait_until("all know one another again", shares_with_two);
    }

    nodes[1].say(&json!({ "command": "reset" }));
    let event = nodes[1].wait_for("reset");
    assert_eq!(
        (&event["epoch"], &event["store"], &event["peers"]),
        (&json!(2), &json!(false), &json!(2))
    );
    nodes[1].wait_for("acknowledged");
    let ended = nodes[1].wait_for("reset_ended");
    assert_eq!((&ended["acknowledged"], &ended["missing"]), (&json!(2), &json!([])));

    drop(nodes);
    let mut again = Process::start(&model, &["--alone", "--state", &states[2]]);
    assert_eq!(again.status()["epoch"], 2, "only its own card could tell it the epoch");
}

#[test]
fn a_reset_that_nobody_obeys_fails_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("demo.gguf");
    synth(Shape::Demo, 7, ConvertType::Q8_0, &model, &mut |_| {}).unwrap();
    let port = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
        .to_string();
    let nobody = reset(&port, "", &["--wait", "3"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&nobody.stderr).contains("none was heard in 3 s. Give --interface")
    );
    let net =
        ["--interface", "127.0.0.1", "--port", &port, "--swarm-key", "theirs", "--announce", "1"];
    let mut node = Process::start(&model, &net);
    let other = reset(&port, "ours", &["--wait", "5"]);
    assert_eq!(other.status.code(), Some(1));
    let said = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(said.contains("--swarm-key"), "{said}");
    assert_eq!(node.status()["epoch"], 0);
}
