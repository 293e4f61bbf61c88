//! The real binary, as several processes on this machine's loopback: sharing must survive sockets,
//! schedulers and signals. Nothing here waits for a fixed time; every wait is for a condition.
//!
//! A node that has computed nothing assumes that it is a Zero 2 W, so it waits seconds for a fetch:
//! enough on a busy machine. So nodes that must fetch are fresh ones, and they compute as slowly as
//! a board: a fast machine would compute the prompt's head before any data arrives.

pub(crate) mod node;

use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::process::Output;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use potluck::keyring::SwarmSecret;
use potluck::limits::BLOCK_TOKENS;
use potluck::mmlu::{self, Question};
use potluck::tokenizer::Tokenizer;
use socket2::{Domain, Protocol, Socket, Type};

use node::{Answer, MODELS, NodeProcess, count, paced, potluck, signal, until};

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let opened = potluck::model::open(&MODELS[0]).unwrap();
    Tokenizer::from_vocabulary(&opened.gguf.vocabulary().unwrap().unwrap()).unwrap()
});

fn questions_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/mmlu")
}

fn questions(part: &str, subject: &str) -> Vec<Question> {
    let path = questions_dir().join(part).join(format!("{subject}_{part}.csv"));
    mmlu::parse_csv(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A prompt with examples of about 1,200 tokens, the same for every question. Computing it takes
/// a fast machine longer than a busy peer takes to answer. It would compute a shorter one itself,
/// as it should.
fn prompt(subject: &str, question: usize) -> String {
    let (mut examples, test) = (questions("dev", subject), questions("test", subject));
    examples.extend(test[10..].iter().cloned());
    let tokens = |shots: &usize| {
        TOKENIZER
            .encode_prompt(&mmlu::prompt(subject, &examples[..*shots], &test[0]))
            .unwrap()
            .len()
    };
    let shots = (1..examples.len())
        .take_while(|shots| tokens(shots) <= 1_200)
        .last()
        .expect("an example must be shorter");
    mmlu::prompt(subject, &examples[..shots], &test[question])
}

/// A prompt of at least `tokens` tokens, with as many examples as that takes.
fn long_prompt(subject: &str, tokens: usize) -> String {
    let test = questions("test", subject);
    let long = (1..test.len()).map(|shots| mmlu::prompt(subject, &test[..shots], &test[shots]));
    long.into_iter()
        .find(|text| TOKENIZER.encode_prompt(text).unwrap().len() >= tokens)
        .expect("the subject has enough questions")
}

/// Tokens in the whole blocks at the start that two prompts have in common.
fn common_blocks(one: &str, other: &str) -> u64 {
    let [one, other] = [one, other].map(|text| TOKENIZER.encode_prompt(text).unwrap());
    let common = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
    (common / BLOCK_TOKENS * BLOCK_TOKENS) as u64
}

/// A UDP port that is free now.
pub(crate) fn free_port() -> u16 {
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port()
}

/// Nodes that can hear each other. A random key keeps out tests running at the same time, in case
/// they pick the same port.
struct Lan {
    key: String,
    port: u16,
}

impl Lan {
    fn new(name: &str) -> Lan {
        Lan {
            key: blake3::hash(format!("{name} {}", std::process::id()).as_bytes())
                .to_hex()
                .to_string(),
            port: free_port(),
        }
    }

    fn arguments(&self, id: u64, more: &[&str]) -> Vec<String> {
        let id = format!("{id:x}");
        let port = self.port.to_string();
        let own =
            ["--interface", "127.0.0.1", "--swarm-key", &self.key, "--port", &port, "--id", &id];
        own.iter().chain(more).map(ToString::to_string).collect()
    }

    fn join(&self, id: u64) -> NodeProcess {
        NodeProcess::start(&MODELS[0], &self.arguments(id, &[]))
    }

    /// A node that takes `token_us` per computed token.
    fn join_paced(&self, id: u64, token_us: u32) -> NodeProcess {
        NodeProcess::start(
            &MODELS[0],
            &self.arguments(id, &paced(token_us).each_ref().map(String::as_str)),
        )
    }
}

/// Time per token on a node that must fetch: a twentieth of 1,000 tokens takes a second.
const SLOW_US: u32 = 20_000;

/// The reference for every answer: a node that shares nothing and reuses nothing.
fn alone() -> NodeProcess {
    NodeProcess::start(&MODELS[0], &["--alone", "--no-reuse"].map(String::from))
}

fn assert_repeated(answer: &Answer) {
    assert!(answer.given * 100 >= answer.prompt * 95, "{answer:?}");
}

fn assert_computed(answer: &Answer) {
    assert_eq!(answer.computed, answer.prompt, "{answer:?}");
}

#[test]
fn a_repeated_prompt_and_its_examples_come_from_the_peer() {
    let lan = Lan::new("repeated");
    let mut one = lan.join(1);
    let [mut other, mut third] = [2, 3].map(|id| lan.join_paced(id, SLOW_US));
    let (first, second) = (prompt("anatomy", 0), prompt("anatomy", 1));
    let mut alone = alone();
    let [first_alone, second_alone] = [&first, &second].map(|text| alone.answer_to(text));
    assert_computed(&first_alone);

    let new = one.answer_to(&first);
    assert!(new.is(&first_alone));
    assert_computed(&new);
    other.wait_to_know(&mut one);
    let repeated = other.answer_to(&first);
    assert!(repeated.is(&first_alone));
    assert_repeated(&repeated);
    third.wait_to_know(&mut one);
    let shared = third.answer_to(&second);
    assert!(shared.is(&second_alone));
    let common = common_blocks(&first, &second);
    // Computing starts at the head at once, so a block of the common prefix may be computed before
    // the fetch arrives.
    assert!(
        common > 100 && shared.given * 100 >= common * 95,
        "{common} tokens in common: {shared:?}"
    );
    let again = third.answer_to(&second);
    assert!(again.is(&second_alone));
    assert_eq!((again.own, again.computed), (again.prompt - 1, 1));
}

#[test]
fn a_peer_that_falls_silent_delays_an_answer_and_changes_nothing() {
    let lan = Lan::new("silent");
    let [mut giver, mut asker] = [1, 2].map(|id| lan.join(id));
    // Long, because a fast machine computes a short one sooner than a busy peer may answer, and
    // then asks nobody, as it should.
    let text = long_prompt("anatomy", 1_000);
    let expected = alone().answer_to(&text);
    giver.answer_to(&text);
    asker.wait_to_know(&mut giver);
    signal(giver.pid(), &["STOP"]);
    let answer = asker.answer_to(&text);
    assert!(answer.is(&expected));
    assert_computed(&answer);
    let status = asker.status();
    assert!(count(&status, "/node_stats/wants_sent") > 0, "{status}");
    // A quarter of the computing time of the board that it assumes to be, plus this
    // machine's own time.
    let bound = Duration::from_millis(answer.prompt * 1_000 / 27 / 4) + Duration::from_secs(20);
    assert!(answer.ttft < bound, "{answer:?}");
}

#[test]
fn a_peer_that_dies_before_its_first_byte_costs_a_recomputation_and_nothing_else() {
    let lan = Lan::new("dies at once");
    let [mut giver, mut asker] = [1, 2].map(|id| lan.join(id));
    let text = long_prompt("astronomy", 1_500);
    let expected = alone().answer_to(&text);
    giver.answer_to(&text);
    asker.wait_to_know(&mut giver);
    signal(giver.pid(), &["STOP"]);
    let asked = asker.ask(&text);
    until("the peer is asked", || {
        Some(count(&asker.status(), "/node_stats/wants_sent")).filter(|sent| *sent > 0)
    });
    giver.kill();
    let answer = asker.answer(asked);
    assert!(answer.is(&expected));
    assert_computed(&answer);
    let status = asker.status();
    assert_eq!(count(&status, "/node_stats/connections_lost"), 1, "{status}");
}

#[test]
fn a_peer_that_dies_in_mid_transfer_costs_a_recomputation_and_nothing_else() {
    let text = long_prompt("astronomy", 1_500);
    let expected = alone().answer_to(&text);
    // The giver runs in slices between two signals. On a busy machine one slice may cover the whole
    // transfer: then the test tries again.
    let caught = (0..10).any(|round| {
        let lan = Lan::new(&format!("dies {round}"));
        let (mut giver, mut asker) = (lan.join(1), lan.join_paced(2, SLOW_US / 10));
        giver.answer_to(&text);
        asker.wait_to_know(&mut giver);
        signal(giver.pid(), &["STOP"]);
        let asked = asker.ask(&text);
        until("the first plane arrives", || {
            signal(giver.pid(), &["CONT", "STOP"]);
            (count(&asker.status(), "/node_stats/planes_fetched") > 0 || asker.is_done(asked))
                .then_some(())
        });
        giver.kill();
        let in_time = !asker.is_done(asked);
        let answer = asker.answer(asked);
        assert!(answer.is(&expected));
        let status = asker.status();
        in_time && count(&status, "/node_stats/connections_lost") == 1
    });
    assert!(caught, "no transfer was interrupted in the middle");
}

#[test]
fn peers_named_by_address_share_without_multicast() {
    let ports = [free_port(), free_port()];
    let key = format!("static {}", std::process::id());
    // Each listens to its own group on its own port, and serves on its own address.
    let start = |own: usize| {
        let interface = format!("127.0.0.{}", own + 2);
        let peer = format!("127.0.0.{}:{}", 3 - own, ports[1 - own]);
        let (group, port, id) =
            (format!("239.255.80.{}", own + 1), ports[own].to_string(), (own + 1).to_string());
        let net = ["--interface", &interface, "--group", &group, "--port", &port, "--peer", &peer];
        let who = ["--swarm-key", &key, "--id", &id];
        let pace = if own == 1 { paced(SLOW_US).to_vec() } else { Vec::new() };
        let options = net.iter().chain(&who).map(ToString::to_string).chain(pace);
        NodeProcess::start(&MODELS[0], &options.collect::<Vec<_>>())
    };
    let [mut one, mut other] = [0, 1].map(start);
    let text = prompt("econometrics", 0);
    let new = one.answer_to(&text);
    other.wait_to_know(&mut one);
    let repeated = other.answer_to(&text);
    assert!(repeated.is(&new) && repeated.is(&alone().answer_to(&text)));
    assert_repeated(&repeated);
    // And in the other direction, once the second knows more.
    other.answer_to("What only the second has worked through is known to the first, and not by any datagram to the group.");
    one.wait_to_know(&mut other);
    assert_eq!(one.peer(2).map(|peer| peer["shares"] == true), Some(true));
}

#[test]
fn nodes_with_another_model_or_precision_share_nothing_and_say_so() {
    let lan = Lan::new("other models");
    let start = |id, model: usize, more: &[&str]| {
        NodeProcess::start(&MODELS[model], &lan.arguments(id, more))
    };
    let mut nodes = [start(1, 0, &[]), start(2, 1, &[]), start(3, 0, &["--precision", "float"])];
    let text = prompt("machine_learning", 0);
    for asked in 0..nodes.len() {
        let (before, rest) = nodes.split_at_mut(asked);
        before.iter_mut().for_each(|other| {
            until("all nodes are heard", || {
                Some(rest[0].status()["peers"].as_array()?.len()).filter(|peers| *peers == 2)
            });
            // It has announced what it holds, so any node that could use it knows by now.
            until("all is told", || Some(other.status()).filter(|status| status["told"] == true));
        });
        assert_computed(&rest[0].answer_to(&text));
        let status = rest[0].status();
        assert_eq!(count(&status, "/node_stats/wants_sent"), 0);
        assert!(
            status["peers"].as_array().unwrap().iter().all(|peer| peer["shares"] == false),
            "{status}"
        );
        rest[0].wait_for_note("runs another model, precision or build");
    }
    // The same model at the same precision is shared among all these.
    let [pace, table] = paced(SLOW_US);
    let mut fourth = start(4, 0, &["--precision", "float", &pace, &table]);
    fourth.wait_to_know(&mut nodes[2]);
    assert_repeated(&fourth.answer_to(&text));
}

#[test]
fn nodes_with_another_swarm_key_do_not_exist_for_one_another() {
    let lan = Lan::new("keys");
    let other_key = Lan { key: "another".to_string() + &lan.key, port: lan.port };
    let (mut one, mut two) = (lan.join(1), lan.join_paced(2, SLOW_US));
    let mut stranger = other_key.join(3);
    let text = prompt("astronomy", 1);
    one.answer_to(&text);
    two.wait_to_know(&mut one);
    let heard = until("the stranger hears the others", || {
        Some(stranger.status()).filter(|status| count(status, "/catalog/other_swarm") > 0)
    });
    assert_eq!(heard["peers"].as_array().map(Vec::len), Some(0));
    assert_computed(&stranger.answer_to(&text));
    assert_eq!(count(&stranger.status(), "/node_stats/wants_sent"), 0);
    assert_repeated(&two.answer_to(&text));
    assert_eq!(one.status()["peers"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_late_joiner_learns_the_catalog_and_fetches_what_was_computed_before_it_came() {
    let lan = Lan::new("late");
    let mut early = lan.join(1);
    let text = prompt("clinical_knowledge", 0);
    let new = early.answer_to(&text);
    until("all is told", || Some(early.status()).filter(|status| status["told"] == true));
    let mut late = lan.join_paced(2, SLOW_US);
    late.wait_to_know(&mut early);
    let status = late.status();
    assert!(count(&status, "/catalog/segments_pulled") > 0, "{status}");
    assert_eq!(count(&status, "/catalog/deltas_heard"), 0, "{status}");
    let answer = late.answer_to(&text);
    assert!(answer.is(&new));
    assert_repeated(&answer);
}

#[test]
fn a_restarted_node_is_believed_empty_again() {
    let lan = Lan::new("restart");
    let [mut one, mut other] = [1, 2].map(|id| lan.join(id));
    let text = prompt("business_ethics", 0);
    let new = other.answer_to(&text);
    one.wait_to_know(&mut other);
    let before = one.peer(2).map(|peer| count(&peer, "/generation"));
    assert!(before > Some(0));
    other.kill();
    other = lan.join_paced(2, SLOW_US);
    one.wait_for_note("has restarted");
    one.wait_to_know(&mut other);
    assert_eq!(one.peer(2).map(|peer| count(&peer, "/generation")), Some(0));
    let answer = one.answer_to(&text);
    assert!(answer.is(&new));
    assert_computed(&answer);
    assert_eq!(count(&one.status(), "/node_stats/wants_sent"), 0);
    other.wait_to_know(&mut one);
    let back = other.answer_to(&text);
    assert!(back.is(&new));
    assert_repeated(&back);
}

/// Receives every datagram that nodes of a LAN send to the group.
struct Sniffer {
    socket: UdpSocket,
    tag: [u8; 8],
}

impl Sniffer {
    fn new(lan: &Lan) -> Sniffer {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&std::net::SocketAddr::from((Ipv4Addr::UNSPECIFIED, lan.port)).into()).unwrap();
        socket.join_multicast_v4(&Ipv4Addr::new(239, 255, 80, 76), &Ipv4Addr::LOCALHOST).unwrap();
        let key = blake3::Hash::from_hex(&lan.key).unwrap();
        Sniffer {
            socket: socket.into(),
            tag: SwarmSecret::derive(key.as_bytes()).tag().0.to_le_bytes(),
        }
    }

    /// Listens for this long. Returns the lengths of the datagrams.
    fn listen(&self, time: Duration) -> Vec<usize> {
        let end = Instant::now() + time;
        let mut heard = Vec::new();
        let mut buffer = [0; 2_048];
        while let Some(left) =
            end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
        {
            self.socket.set_read_timeout(Some(left)).unwrap();
            if let Ok(len) = self.socket.recv(&mut buffer)
                && buffer[5..13] == self.tag
            {
                heard.push(len);
            }
        }
        heard
    }
}

#[test]
fn three_idle_nodes_say_less_than_a_kilobyte_a_second() {
    const HEADERS: usize = 28;
    let lan = Lan::new("idle");
    let sniffer = Sniffer::new(&lan);
    let mut nodes = [1, 2, 3].map(|id| lan.join(id));
    nodes[0].answer_to(&prompt("high_school_geography", 0));
    for at in 1..3 {
        let (first, rest) = nodes.split_at_mut(at);
        rest[0].wait_to_know(&mut first[0]);
    }
    let sent = |nodes: &mut [NodeProcess; 3]| {
        nodes.iter_mut().map(|node| count(&node.status(), "/catalog/bytes_sent")).sum()
    };
    let before: u64 = sent(&mut nodes);
    assert!(
        !sniffer.listen(Duration::from_millis(1)).is_empty(),
        "nothing is heard, not even of the work just done"
    );
    let began = Instant::now();
    // Longer than the interval, so that each node announces itself at least once.
    let heard = sniffer.listen(Duration::from_secs(12));
    let seconds = began.elapsed().as_secs_f64();
    let bytes: usize = heard.iter().map(|len| len + HEADERS).sum();
    assert!(heard.len() >= 3, "{heard:?}");
    assert!(bytes as f64 / seconds <= 1_000.0, "{bytes} bytes in {seconds:.1} s");
    let told = sent(&mut nodes) - before;
    assert!(
        heard.iter().sum::<usize>() as u64 <= told,
        "the nodes count fewer bytes than are heard: {told} of {heard:?}"
    );
}

fn swarm(subjects: &str) -> Output {
    let mut command = potluck();
    command
        .args(["swarm", "--nodes", "2", "--max-tokens", "3", "--subjects", subjects, "--model"])
        .arg(&MODELS[0]);
    command.arg("--mmlu").arg(questions_dir()).output().unwrap()
}

#[test]
fn the_demonstration_holds_and_holds_again() {
    for _ in 0..2 {
        let output = swarm("2");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("answers equal to those without sharing: 8 of 8: ok"), "{said}");
    }
}
