//! The HTTP API over real sockets: requests and responses.

mod client;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::processes::node::paced;
use client::{Node, Response};

const CHAT: &str = "/v1/chat/completions";

fn said(text: &str) -> Value {
    json!([{"role": "user", "content": text}])
}

#[test]
fn a_conversation_is_answered_whole_and_piece_by_piece_with_the_same_text() {
    let node = Node::start(&[]);
    let whole = node.post(CHAT, &json!({"messages": said("Hello there"), "max_tokens": 12}));
    assert_eq!(whole.status, 200, "{}", whole.text);
    let answer = whole.json();
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(
        (&answer["object"], &answer["usage"]["completion_tokens"]),
        (&json!("chat.completion"), &json!(12))
    );
    assert_eq!(answer["choices"][0]["finish_reason"], "length");

    let streamed = node.post(
        CHAT,
        &json!({"messages": said("Hello there"), "max_tokens": 12, "stream": true, "stream_options": {"include_usage": true}}),
    );
    let events = streamed.events();
    let pieces: String = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(pieces, text);
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let usage = &events[events.len() - 2]["usage"];
    let (prompt, cached) =
        (&usage["prompt_tokens"], &usage["prompt_tokens_details"]["cached_tokens"]);
    assert_eq!(
        cached.as_u64().unwrap(),
        prompt.as_u64().unwrap() - 1,
        "all but the last token must be reused: {usage}"
    );
    assert_eq!(events.last().unwrap(), "[DONE]");
    assert!(streamed.head.to_lowercase().contains("content-type: text/event-stream"));
}

#[test]
fn the_next_turn_finds_all_that_was_said_and_answered() {
    let node = Node::start(&[]);
    let mut messages = vec![json!({"role": "system", "content": "Be kind."})];
    let mut before = 0;
    for (turn, text) in ["Tell me something", "And then?", "Why is that?"].into_iter().enumerate() {
        messages.push(json!({"role": "user", "content": text}));
        // Sampled, so that an answer's text often encodes to other tokens than the sampled ones.
        let body = json!({"messages": messages, "max_tokens": 24, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "seed": turn});
        let answer = node.post(CHAT, &body).json();
        let usage = &answer["usage"];
        let cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
        assert!(
            turn == 0 || cached + 1 >= before,
            "turn {turn}: {usage}, with {before} tokens before"
        );
        before = usage["total_tokens"].as_u64().unwrap();
        messages.push(answer["choices"][0]["message"].clone());
    }
}

/// Two nodes of one swarm with the demo model, which has learned to spell: the text of its answers
/// encodes to the same tokens. The second node gets the arguments `more` as well.
fn pair(more: &[&str]) -> [Node; 2] {
    let model =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/demo-model/model/potluck-demo.gguf");
    let (port, key) =
        (client::free_udp_port().to_string(), format!("http tests {}", std::process::id()));
    let lan = ["--port", &port, "--swarm-key", &key, "--interface", "127.0.0.1", "--announce", "1"];
    [Node::start_with(&model, &lan), Node::start_with(&model, &[lan.as_slice(), more].concat())]
}

/// Waits until the second node knows everything that the first holds.
fn told([first, second]: &[Node; 2]) {
    client::until("the second node knows what the first holds", || {
        let swarm = second.get("/swarm").json();
        let told = first.get("/swarm").json();
        let generation = |value: &Value| value["generation"].as_u64();
        let peers = swarm["peers"].as_array().cloned().unwrap_or_default();
        (told["told"] == true
            && peers
                .iter()
                .any(|peer| peer["current"] == true && generation(peer) >= generation(&told)))
        .then_some(())
    });
}

/// An answer's counts: tokens of the prompt, tokens reused, and tokens from peers.
fn usage(answer: &Value) -> [u64; 3] {
    let usage = &answer["usage"];
    let peers = usage["potluck"]["peers"].as_array().unwrap();
    let given = peers.iter().map(|peer| peer[1].as_u64().unwrap()).sum();
    [
        usage["prompt_tokens"].as_u64().unwrap(),
        usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap(),
        given,
    ]
}

#[test]
fn a_second_node_takes_the_conversation_from_the_first() {
    let nodes = pair(&paced(10_000).each_ref().map(String::as_str));
    let long = "What one board has worked through, every other takes over. ".repeat(12);
    let mut messages = vec![
        json!({"role": "system", "content": "Be kind."}),
        json!({"role": "user", "content": long}),
    ];
    let ask = |node: &Node, messages: &[Value]| {
        node.post(CHAT, &json!({"messages": messages, "max_tokens": 24})).json()
    };
    for next in ["And then?", "Why is that?", "Tell me more."] {
        let answer = ask(&nodes[0], &messages);
        messages.extend([
            answer["choices"][0]["message"].clone(),
            json!({"role": "user", "content": next}),
        ]);
    }
    // The first node has its last answer in its cache; the second is asked something that the
    // first never was.
    let answer = ask(&nodes[0], &messages);
    told(&nodes);
    let taken = ask(&nodes[1], &messages);
    let [prompt, cached, given] = usage(&taken);
    assert!(
        given > 0 && cached * 100 >= prompt * 95,
        "{cached} of {prompt} tokens were reused, {given} from the first"
    );
    assert_eq!(taken["choices"], answer["choices"], "a hit changed the answer");
    messages.extend([
        answer["choices"][0]["message"].clone(),
        json!({"role": "user", "content": "Thank you."}),
    ]);
    let [prompt, cached, _] = usage(&ask(&nodes[1], &messages));
    assert!(cached * 100 >= prompt * 80, "the next turn: {cached} of {prompt} tokens were reused");
}

/// The template trims texts. The first node continues from the tokens that it remembers, and the
/// second has only the text: both must come to the same prompt.
#[test]
fn a_second_node_takes_what_follows_an_answer_that_ends_in_whitespace() {
    let nodes = pair(&paced(10_000).each_ref().map(String::as_str));
    let mut messages = said("Tell me about the sea.").as_array().unwrap().clone();
    let ask = |node: &Node, messages: &[Value], stop: &[&str]| {
        let body = json!({"messages": messages, "max_tokens": 24, "temperature": 0, "stop": stop});
        node.post(CHAT, &body).json()
    };
    let text =
        |answer: &Value| answer["choices"][0]["message"]["content"].as_str().unwrap().to_string();
    let whole = text(&ask(&nodes[0], &messages, &[]));
    let word = whole.split(' ').filter(|word| word.len() > 1).nth(3).unwrap();
    let cut = ask(&nodes[0], &messages, &[word]);
    assert!(text(&cut).len() > 1 && text(&cut).ends_with(' '), "{cut}");
    let long = "What one board has worked through, every other takes over. ".repeat(12);
    messages
        .extend([cut["choices"][0]["message"].clone(), json!({"role": "user", "content": long})]);
    let answer = ask(&nodes[0], &messages, &[]);
    told(&nodes);
    let taken = ask(&nodes[1], &messages, &[]);
    let [prompt, cached, given] = usage(&taken);
    assert_eq!(prompt, usage(&answer)[0], "the prompts differ");
    assert!(
        given > 0 && cached * 100 >= prompt * 95,
        "{cached} of {prompt} tokens were reused, {given} from the first"
    );
    assert_eq!(taken["choices"], answer["choices"]);
}

/// Home automation puts the time of day first: nothing after it is reused, and the figures show
/// where the prompt differs.
#[test]
fn a_clock_at_the_head_of_a_prompt_is_seen_in_the_figures() {
    let node = Node::start(&[]);
    let house = "The kitchen light is on, the door is shut, and the heating is off. ".repeat(12);
    let ask = |system: &str, said: &str| {
        let messages =
            json!([{"role": "system", "content": system}, {"role": "user", "content": said}]);
        node.post(CHAT, &json!({"messages": messages, "max_tokens": 1})).json()
    };
    let own = |answer: &Value| answer["usage"]["potluck"].clone();
    let found: Vec<(u64, String)> = ["08:15", "21:47"]
        .iter()
        .map(|time| own(&ask(&format!("The time is {time}. {house}"), "Is the door shut?")))
        .map(|own| (own["known"].as_u64().unwrap(), own["new_from"].as_str().unwrap().to_string()))
        .collect();
    assert!(found[1].0 <= 16 && found[1].1.contains("21:47"), "{found:?}");
    let last: Vec<Value> = ["08:15", "21:47"]
        .iter()
        .map(|time| ask(&house, &format!("At {time}: is the door shut?")))
        .collect();
    let [prompt, cached, _] = usage(&last[1]);
    assert!(cached * 100 >= prompt * 85, "with the time at the end: {cached} of {prompt}");
    let told = own(&last[1]);
    assert!(
        told["known"].as_u64().unwrap() <= prompt
            && told["new_from"].as_str().unwrap().contains("21:47"),
        "{told}"
    );
    let again = own(&ask(&house, "At 21:47: is the door shut?"));
    assert!(
        again["known"].as_u64().unwrap() + 1 >= prompt && again.get("new_from").is_none(),
        "{again}"
    );
}

/// When a client trims the history to a window of the latest turns, each turn costs as much as the
/// whole conversation.
#[test]
fn a_conversation_of_seventeen_turns_costs_what_each_adds_until_its_client_trims_it() {
    let node = Node::start(&[]);
    let mut messages = vec![json!({"role": "system", "content": "Be kind."})];
    let ask = |messages: &[Value]| {
        node.post(CHAT, &json!({"messages": messages, "max_tokens": 8})).json()
    };
    let mut computed = Vec::new();
    for turn in 0..17 {
        messages.push(json!({"role": "user", "content": format!("This is what is said in turn number {turn}.")}));
        let answer = ask(&messages);
        let [prompt, cached, _] = usage(&answer);
        computed.push(prompt - cached);
        messages.push(answer["choices"][0]["message"].clone());
    }
    assert!(computed[1..].iter().all(|count| *count < 60), "{computed:?}");
    messages.drain(1..3);
    messages.push(json!({"role": "user", "content": "And now?"}));
    let trimmed = ask(&messages);
    let ([prompt, cached, _], own) = (usage(&trimmed), &trimmed["usage"]["potluck"]);
    assert!(
        cached < 64 && prompt > 300,
        "{cached} of {prompt} tokens were reused after the trimmed part"
    );
    assert!(
        own["known"].as_u64().unwrap() < 64
            && own["new_from"].as_str().unwrap().contains("turn number 1"),
        "{own}"
    );
}

#[test]
fn a_prompt_can_be_looked_at_while_it_is_answered() {
    let node = Node::start(&[]);
    assert_eq!(node.get("/prompt").json(), Value::Null);
    let body = json!({"messages": said(&"Go on. ".repeat(60)), "max_tokens": 1_500, "stream": true, "temperature": 1.0});
    let mut stream = node.connect();
    node.begin(&mut stream, CHAT, &body.to_string());
    let map = client::until("the prompt is seen", || {
        Some(node.get("/prompt").json()).filter(|map| !map.is_null())
    });
    let tokens = map["prompt_tokens"].as_u64().unwrap();
    let blocks = map["blocks"].as_str().unwrap();
    assert_eq!(blocks.len() as u64, tokens.div_ceil(16), "{map}");
    assert!(blocks.chars().all(|block| "#=-.".contains(block)), "{map}");
    assert_eq!(node.get("/swarm").json()["busy"], true);
    drop(stream);
    client::until("the prompt ends", || node.get("/prompt").json().is_null().then_some(()));
    node.post(CHAT, &json!({"messages": said("Hi"), "max_tokens": 2}));
    let swarm = node.get("/swarm").json();
    let hour = swarm["hour"].as_array().unwrap();
    let counted: u64 = hour.iter().map(|minute| minute[3].as_u64().unwrap()).sum();
    // The client that left may have received no token or one.
    assert!(hour.len() == 60 && (1..=2).contains(&counted), "{swarm}");
}

#[test]
fn a_completion_goes_on_and_ends_at_a_stop_string() {
    let node = Node::start(&[]);
    let whole =
        node.post("/v1/completions", &json!({"prompt": "The state of", "max_tokens": 10})).json();
    let text = whole["choices"][0]["text"].as_str().unwrap().to_string();
    let (at, stop) =
        text.char_indices().nth(3).map(|(at, letter)| (at, letter.to_string())).unwrap();
    let first = text.find(&stop).unwrap().min(at);
    let stopped = node
        .post(
            "/v1/completions",
            &json!({"prompt": "The state of", "max_tokens": 10, "stop": [stop]}),
        )
        .json();
    assert_eq!(stopped["choices"][0]["text"], text[..first]);
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
    let tokens = node
        .post("/tokenize", &json!({"content": "The state of", "add_special": true}))
        .json()["tokens"]
        .clone();
    let by_ids = node.post("/v1/completions", &json!({"prompt": tokens, "max_tokens": 10})).json();
    assert_eq!(by_ids["choices"][0]["text"], text);
}

#[test]
fn what_cannot_be_answered_is_refused_in_the_apis_form() {
    let node = Node::start(&["--context", "256"]);
    let refused = |response: &Response, status: u16, says: &str| {
        assert_eq!(response.status, status, "{}", response.text);
        let error = response.json()["error"].clone();
        assert!(
            error["message"].as_str().unwrap().contains(says) && error["type"].is_string(),
            "{error}"
        );
    };
    refused(
        &node.post(CHAT, &json!({"messages": said("Hi"), "n": 3})),
        400,
        "one answer a request",
    );
    refused(
        &node.post(CHAT, &json!({"messages": said("Hi"), "temperature": 1e9})),
        400,
        "temperature",
    );
    let long = node.post(CHAT, &json!({"messages": said(&"word ".repeat(500))}));
    refused(&long, 400, "shorten it");
    assert_eq!(long.json()["error"]["code"], "context_length_exceeded");
    refused(&node.get("/v1/nothing"), 404, "no such path");
    refused(&node.get(CHAT), 405, "POST");
    refused(
        &node.raw(&format!("POST {CHAT} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 3\r\n\r\n{{x}}")),
        400,
        "not understood",
    );
    let huge = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 2000000\r\n\r\n{}",
        "x".repeat(2_000_000)
    );
    refused(&node.raw(&huge), 413, "shorten it");
    assert_eq!(
        node.raw(&format!(
            "GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n",
            "y".repeat(20_000)
        ))
        .status,
        431
    );
    assert_eq!(node.get("/health").json(), json!({"status": "ok"}));
}

#[test]
fn no_page_elsewhere_and_nobody_without_the_key_is_answered() {
    let file =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("http-{}.toml", std::process::id()));
    std::fs::write(&file, "[http]\napi_key = \"sk-1\"\norigins = [\"https://example.org\"]\n")
        .unwrap();
    let node = Node::start(&["--config", file.to_str().unwrap()]);
    let get = |path: &str, headers: &str| {
        node.raw(&format!("GET {path} HTTP/1.1\r\n{headers}connection: close\r\n\r\n"))
    };
    assert_eq!(get("/v1/models", "host: localhost\r\n").status, 401);
    assert_eq!(get("/v1/models", "host: localhost\r\nauthorization: Bearer sk-2\r\n").status, 401);
    let models = get("/v1/models", "host: localhost\r\nauthorization: Bearer sk-1\r\n");
    assert_eq!((models.status, &models.json()["object"]), (200, &json!("list")));
    assert_eq!(get("/", "host: localhost\r\n").status, 200, "the page itself asks for the key");
    assert_eq!(get("/", "host: evil.example\r\n").status, 403, "a name rebound to this address");
    assert_eq!(get("/health", "host: localhost\r\norigin: https://127.0.0.1\r\n").status, 403);
    let allowed = get("/health", "host: localhost\r\norigin: https://example.org\r\n");
    assert!(
        allowed.head.to_lowercase().contains("access-control-allow-origin: https://example.org"),
        "{}",
        allowed.head
    );
    let asked =
        node.raw("OPTIONS /v1/models HTTP/1.1\r\nhost: localhost\r\norigin: https://example.org\r\nconnection: close\r\n\r\n");
    assert_eq!(asked.status, 204);
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_client_that_goes_away_takes_its_answer_with_it() {
    let node = Node::start(&["--context", "4096"]);
    let body =
        json!({"messages": said("Go on"), "max_tokens": 4_000, "stream": true, "temperature": 1.0})
            .to_string();
    let mut stream = node.connect();
    node.begin(&mut stream, CHAT, &body);
    client::read_until(&mut stream, "data: ");
    drop(stream);
    // A generation that went on would delay the next one.
    let start = Instant::now();
    assert_eq!(node.post(CHAT, &json!({"messages": said("Hi"), "max_tokens": 2})).status, 200);
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "4,000 tokens were generated for a client that had left"
    );
    client::until("the node counts both as ended", || {
        let prompts = node.get("/metrics").text;
        prompts.contains("potluck_prompts_total{outcome=\"answered\"} 2").then_some(())
    });
}

#[test]
fn many_clients_at_once_all_get_their_answers() {
    let node = Node::start(&[]);
    let answers: Vec<Response> = std::thread::scope(|scope| {
        let ask = |at: usize| {
            node.post(CHAT, &json!({"messages": said(&format!("Number {at}")), "max_tokens": 2}))
        };
        let clients: Vec<_> = (0..50).map(|at| scope.spawn(move || ask(at))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert!(
        answers.iter().all(|answer| answer.status == 200),
        "{:?}",
        answers.iter().map(|answer| answer.status).collect::<Vec<_>>()
    );
}

#[test]
fn metrics_are_in_prometheus_form_and_the_page_needs_nothing_from_elsewhere() {
    let node = Node::start(&[]);
    node.post(CHAT, &json!({"messages": said("Hi"), "max_tokens": 2}));
    let metrics = node.get("/metrics").text;
    assert!(
        metrics.contains("potluck_ttft_seconds_count 1\n") && metrics.ends_with("# EOF\n"),
        "{metrics}"
    );
    let page = node.get("/");
    assert!(page.head.to_lowercase().contains("content-security-policy: default-src 'none'"));
    let all: String = ["/", "/page.css", "/page.js"].map(|path| node.get(path).text).concat();
    assert!(all.len() < 100_000, "{} bytes", all.len());
    assert!(
        !all.replace("http://www.w3.org/2000/svg", "").contains("://"),
        "the page refers to another host"
    );
}

/// The page in a real browser, where a browser and its driver are installed (`make clients`).
#[test]
fn the_page_works_in_a_browser_by_the_keyboard_alone() {
    let [python, script] = ["target/clients/bin/python", "tests/http/page.py"]
        .map(|path| Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
    let missing = match Command::new(&python).arg(&script).arg("--missing").output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_string(),
        Err(_) => "the clients: make clients installs them".to_string(),
    };
    if !missing.is_empty() {
        println!("skipped: the_page_works_in_a_browser_by_the_keyboard_alone: it needs {missing}");
        return;
    }
    let nodes = pair(&paced(10_000).each_ref().map(String::as_str));
    let output =
        Command::new(python).arg(script).args([nodes[0].url(), nodes[1].url()]).output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// OpenAI's own client, where it is installed (`make clients`).
#[test]
fn the_openai_client_chats_streams_stops_and_cancels() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients/bin/python");
    if !python.exists() {
        println!(
            "skipped: the_openai_client_chats_streams_stops_and_cancels: no client; make clients installs it"
        );
        return;
    }
    let node = Node::start(&["--context", "4096"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/http/openai_client.py");
    let output = Command::new(python).arg(script).arg(node.url()).output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
