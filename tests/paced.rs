//! A node that runs at another machine's pace (`run --pace`): it says so in all its output, and it
//! behaves like the machine in the simulator.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use potluck::id::TokenId;
use potluck::node::NodeConfig;
use potluck::pace::Pace;
use serde_json::Value;

use crate::processes::node::{MODELS, NodeProcess, potluck};
use crate::sim::heap::MS;
use crate::sim::{Sim, config};

/// Slow enough that this machine is faster even when busy.
const TABLE: &str = "name = \"slow-board\"\nestimate = true\ntoken_us = [[1, 200_000], [16, 20_000], [64, 20_000]]\n\
                     depth_us = [[0, 0]]\nlogits_us = 300_000\n";

fn file(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Everything that a lone node prints for a prompt and then, once that is answered, for the
/// command status.
fn said(arguments: &[&str]) -> Vec<Value> {
    let mut command = potluck();
    command.args(["run", "--json", "--raw", "--alone", "--model"]).arg(&MODELS[0]).args(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, output) = (child.stdin.take(), child.stdout.take().unwrap());
    let mut events: Vec<Value> = Vec::new();
    for line in BufReader::new(output).lines() {
        events.push(serde_json::from_str(&line.unwrap()).unwrap());
        let request = match events[events.len() - 1]["event"].as_str() {
            Some("ready") => r#"{"ask": "one two three", "id": 1, "max_tokens": 2}"#,
            Some("done") => r#"{"command": "status"}"#,
            Some("status") => r#"{"command": "quit"}"#,
            _ => continue,
        };
        writeln!(input.as_mut().unwrap(), "{request}").unwrap();
    }
    child.wait().unwrap();
    events
}

fn event<'a>(events: &'a [Value], name: &str) -> &'a Value {
    events
        .iter()
        .find(|event| event["event"] == name)
        .unwrap_or_else(|| panic!("no {name} in {events:?}"))
}

#[test]
fn a_paced_node_takes_that_time_and_says_so_in_everything() {
    let table = file("paced.toml", TABLE);
    let events = said(&["--pace", table.to_str().unwrap()]);
    let note = event(&events, "note")["text"].as_str().unwrap();
    assert!(note.contains("PACED AS slow-board (an estimate)"), "{note}");
    assert_eq!(event(&events, "ready")["pace"], "slow-board");
    let figures = &event(&events, "done")["figures"];
    assert_eq!(figures["pace"], "slow-board");
    let (tokens, ttft) =
        (figures["prompt_tokens"].as_u64().unwrap() as usize, figures["ttft_ms"].as_u64().unwrap());
    let cost = Pace::read(TABLE).unwrap().job_micros(0, tokens, 1) / 1_000;
    assert!(ttft >= cost, "{ttft} ms, but the paced machine takes {cost} ms");
    assert!(
        figures["ttlt_ms"].as_u64().unwrap() >= cost + 500,
        "a decoded token takes 200 ms and its logits 300: {figures}"
    );
    for part in ["prefill_us", "decode_us", "sampling_us", "tokenising_us"] {
        assert!(figures[part].as_u64().is_some(), "{part} in {figures}");
    }
    assert_eq!(event(&events, "status")["pace"]["name"], "slow-board");
}

#[test]
fn without_a_pace_nothing_speaks_of_one() {
    let events = said(&[]);
    assert!(
        events
            .iter()
            .all(|event| event.get("pace").is_none() && event["figures"].get("pace").is_none()),
        "{events:?}"
    );
}

#[test]
fn a_pace_that_this_machine_cannot_keep_is_counted() {
    let table = file("too-fast.toml", &TABLE.replace("_000", ""));
    let events = said(&["--pace", table.to_str().unwrap()]);
    let pace = &event(&events, "status")["pace"];
    assert!(
        pace["jobs"] == 2
            && pace["late"].as_u64() > Some(0)
            && pace["latest_us"].as_u64() > Some(0),
        "{pace}"
    );
}

#[test]
fn a_pace_comes_from_the_command_line_alone() {
    let told = said(&["--pace", "no/such/file.toml"]);
    assert!(
        told.len() == 1 && told[0]["event"] == "error",
        "a node whose pace cannot be read must not run: {told:?}"
    );
    let board = file("board.toml", "[model]\npace = \"paced.toml\"\n");
    let told = said(&["--config", board.to_str().unwrap()]);
    assert!(
        told.iter().all(|event| event.get("pace").is_none()),
        "a settings file must not pace a board: {told:?}"
    );
}

/// The simulator's time to the first token in milliseconds, for a prompt that nobody has and for
/// one that a peer has.
fn simulated(tokens: usize) -> [u64; 2] {
    let opened = potluck::model::open(&MODELS[0]).unwrap();
    let model =
        potluck::model::Model::new(opened.config, opened.weights, potluck::model::Precision::INT8)
            .unwrap();
    let pace = Pace::read(TABLE).unwrap();
    let mut sim = Sim::calm();
    sim.net.weather.latency = MS / 20;
    for number in 0..2 {
        let rate = Some(pace.prefill_tokens_per_s());
        sim.join(
            NodeConfig { prefill_tokens_per_s: rate, ..config(number, model.kv_shape(), 32 << 20) },
            10,
        );
        sim.stations[number as usize].engine.pace = Some(pace.clone());
    }
    sim.pass(2_000);
    let text: Vec<TokenId> = (0..tokens as u32).map(|at| TokenId(at * 7 % 400)).collect();
    let miss = sim.ttft_now(0, &text);
    sim.pass(2_000);
    [miss, sim.ttft_now(1, &text)]
}

/// Cases 1 and 5 of the published experiment: nobody has the prompt, or a peer has all of it.
#[test]
fn the_simulator_and_real_processes_agree_within_a_tenth() {
    let table = file("agreed.toml", TABLE);
    let text = "The simulator and two real processes are given the same costs, and are to take the same time. ".repeat(5);
    let key = blake3::hash(format!("paced {}", std::process::id()).as_bytes()).to_hex().to_string();
    let port = crate::processes::free_port().to_string();
    let options = [
        "--raw",
        "--interface",
        "127.0.0.1",
        "--swarm-key",
        &key,
        "--port",
        &port,
        "--pace",
        table.to_str().unwrap(),
    ];
    let [mut giver, mut asker] = ["1", "2"].map(|id| {
        let options =
            options.iter().chain(&["--id", id]).map(ToString::to_string).collect::<Vec<_>>();
        NodeProcess::start(&MODELS[0], &options)
    });
    let miss = giver.answer_to(&text);
    asker.wait_to_know(&mut giver);
    let hit = asker.answer_to(&text);
    assert!(hit.is(&miss) && hit.given > 0, "{hit:?}");
    let [miss_ms, hit_ms] = simulated(miss.prompt as usize);
    for (real, simulated) in [(miss.ttft, miss_ms), (hit.ttft, hit_ms)] {
        let simulated = Duration::from_millis(simulated);
        eprintln!("{} tokens: real {real:?}, simulated {simulated:?}", miss.prompt);
        assert!(
            real.abs_diff(simulated) <= simulated / 10,
            "real {real:?}, simulated {simulated:?}"
        );
    }
}

/// The output of an evaluation script, one JSON value per line. `None` where no Python
/// can read TOML.
fn script(code: &str) -> Option<Vec<Value>> {
    let mut command = std::process::Command::new("python3");
    command
        .args(["-c", code])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tools/eval"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let output = command.output().ok().filter(|output| output.status.success());
    if output.is_none() {
        let _ = writeln!(std::io::stderr(), "skipped: the evaluation's scripts need Python 3.11");
    }
    let text = String::from_utf8(output?.stdout).unwrap();
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// A whole experiment on loopback: nodes, prompts, comparison and tables.
#[test]
fn eval_runs_the_experiment_beside_the_binary() {
    if script("import tomllib").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = potluck();
    command
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .args(["eval", "--loopback", "--subjects", "1", "--out"])
        .arg(folder.path());
    command
        .args(["--mmlu", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/mmlu"), "--model"])
        .arg(&MODELS[0]);
    // Limited to the demo model's context and the shortest experiment.
    let output = command
        .args(["--", "--context", "2048", "--experiments", "case zero2w 40 N=0"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tables = std::fs::read_to_string(folder.path().join("tables.md")).unwrap();
    assert!(
        tables.contains("1 rows") && tables.contains("Every answer is that of computing alone."),
        "{tables}"
    );
    // Measurements are kept, so the same command has nothing left to do.
    let rows = std::fs::read_to_string(folder.path().join("rows.jsonl")).unwrap();
    assert_eq!(rows.lines().count(), 1);
}

/// Otherwise the report's optimum would belong to another machine than the measurements.
#[test]
fn the_evaluation_counts_with_the_costs_that_nodes_wait_for() {
    const JOBS: [(usize, usize, usize); 6] =
        [(0, 1, 1), (0, 64, 0), (40, 3, 1), (0, 405, 1), (500, 130, 0), (4_000, 64, 2)];
    for name in ["zero2w", "paper", "paper-partial"] {
        let path = format!("{}/tools/eval/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        let pace = Pace::read(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert!(pace.name() == name && pace.is_estimate(), "{path}");
        let jobs =
            JOBS.map(|(first, tokens, rows)| format!("({first}, {tokens}, {rows})")).join(", ");
        let code = format!(
            "from costs import Pace\npace = Pace('{path}')\nfor job in [{jobs}]:\n    print(pace.job_s(*job) * 1e6)"
        );
        let Some(told) = script(&code) else { return };
        for ((first, tokens, rows), told) in JOBS.into_iter().zip(told) {
            let right = pace.job_micros(first, tokens, rows) as f64;
            assert!(
                (told.as_f64().unwrap() - right).abs() < 2.0,
                "{name}, {tokens} tokens from {first} on: {told}, not {right}"
            );
        }
    }
}

/// Its prompts match those of the demonstration and of the published experiment, to the character.
#[test]
fn the_evaluation_asks_what_the_program_would() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/mmlu");
    let read = |part: &str| {
        potluck::mmlu::parse_csv(
            &std::fs::read_to_string(format!("{data}/{part}/anatomy_{part}.csv")).unwrap(),
        )
        .unwrap()
    };
    let (dev, test) = (read("dev"), read("test"));
    let code = format!(
        "import json\nfrom pathlib import Path\nfrom prompts import Subject\nsubject = Subject(Path('{data}'), 'anatomy')\n\
         for shots in (1, 5):\n    print(json.dumps(subject.cases(shots, 3, 4)[0]))\n    print(json.dumps(subject.cases(shots, 3, 4)[1][4]))"
    );
    let Some(told) = script(&code) else { return };
    let right = [1, 5].into_iter().flat_map(|shots| {
        [3, 4].map(|at| potluck::mmlu::prompt("anatomy", &dev[..shots], &test[at]))
    });
    assert!(told.iter().map(|text| text.as_str().unwrap()).eq(right), "the prompts differ");
}
