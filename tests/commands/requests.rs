//! JSON requests: ids, conversations, settings per answer, and the end of the input.

use serde_json::{Value, json};

use super::console::Node;
use super::*;

fn start(more: &[&str]) -> Node {
    let node = Node::start(demo(), &[&["--alone", "--max-tokens", "6"], more].concat());
    assert_eq!(node.receive("ready")["chat"], false);
    node
}

fn done_of(node: &Node, id: &Value) -> Value {
    node.hear_where("done", |done| done["id"] == *id)
}

/// Sends the request and returns the reason why it was refused.
fn refused_with(node: &mut Node, request: &Value) -> (Value, String) {
    node.say(&request.to_string());
    let error = node.receive("error");
    (error["id"].clone(), error["reason"].as_str().unwrap().to_string())
}

#[test]
fn requests_without_ids_are_all_answered_before_the_end() {
    let args = ["run", "--json", "--alone", "--max-tokens", "4", "--model"].map(str::to_string);
    let requests = "{\"ask\": \"Hello\"}\n".repeat(70)
        + "{\"command\": \"ask Hello\"}\n{\"chat\": \"Hello\"}\n";
    let output = fed(args.into_iter().chain([demo().display().to_string()]), requests.as_bytes());
    let events: Vec<Value> =
        done(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: Vec<u64> = events
        .iter()
        .filter(|event| event["event"] == "done")
        .map(|event| event["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids.len(), 72);
    assert!(
        ids.windows(2).all(|pair| pair[0] < pair[1]),
        "each has an id of its own, in their order: {ids:?}"
    );
    assert!(events.iter().all(|event| event["event"] != "error" && event["event"] != "failed"));
}

#[cfg(unix)]
#[test]
fn a_node_that_is_told_to_end_says_how_far_its_answers_have_come() {
    for signal in ["INT", "TERM"] {
        let mut node = start(&["--context", "4096"]);
        for id in [1, 2] {
            node.say(
                &json!({"ask": "Why is the sky blue?", "id": id, "max_tokens": 4000}).to_string(),
            );
        }
        node.receive("text");
        assert!(
            Command::new("kill")
                .args(["-s", signal, &node.pid().to_string()])
                .status()
                .unwrap()
                .success()
        );
        // The prompt that has not begun ends first, so that it never begins.
        for (id, has_text) in [(2, false), (1, true)] {
            let done = done_of(&node, &json!(id));
            assert_eq!(done["figures"]["finish"], "stopped", "{signal}: {done}");
            assert_eq!(!done["text"].as_str().unwrap().is_empty(), has_text, "{signal}: {done}");
        }
        node.end();
    }
}

#[test]
fn an_id_in_use_is_refused_and_errors_carry_ids() {
    let mut node = start(&["--context", "4096"]);
    node.say(&json!({"ask": "Why is the sky blue?", "id": 7, "max_tokens": 4000}).to_string());
    node.receive("text");
    let (id, reason) = refused_with(&mut node, &json!({"ask": "Again", "id": 7}));
    assert!(id == 7 && reason.contains("id 7 is in use"), "{id} {reason}");
    node.say(&json!({"command": "stop"}).to_string());
    assert_eq!(done_of(&node, &json!(7))["figures"]["finish"], "stopped");
    for (request, part) in [
        (json!({"id": 8, "ask": "a", "temperature": -1}), "temperature"),
        (json!({"id": 8, "ask": "a", "max_tokens": 0}), "max-tokens"),
        (json!({"id": 8, "ask": "a", "top_p": 1.5}), "top-p"),
        (json!({"id": 8, "ask": "a", "stop": vec!["x"; 99]}), "stop strings"),
        (json!({"id": 8, "ask": "a", "conversation": "b"}), "belongs to \"chat\""),
        (json!({"id": 8, "chat": "a", "raw": true}), "belongs to \"ask\""),
        (
            json!({"id": 8, "ask": "a", "system": "Be kind."}),
            "\"system\" has a place in chats only",
        ),
        (json!({"id": 8, "chat": "a", "conversation": "x".repeat(65)}), "64 bytes"),
        (json!({"id": 8, "ask": "a", "temprature": 1}), "not understood"),
        (json!({"id": 8, "ask": "a", "chat": "b"}), "a request has one of"),
        (json!({"id": 8, "command": "chat"}), "chat what?"),
        (json!({"id": 8, "system": "y".repeat(9_000), "chat": "a"}), "8192"),
    ] {
        let (id, reason) = refused_with(&mut node, &request);
        assert!(id == 8 && reason.contains(part), "{request}: {id} {reason}");
    }
    node.end();
}

#[test]
fn conversations_are_told_apart_by_name_and_number() {
    let mut node = start(&[]);
    let mut turn = |request: Value| {
        node.say(&request.to_string());
        let done = done_of(&node, &request["id"]);
        (
            done["figures"]["prompt_tokens"].as_u64().unwrap(),
            done["figures"]["own"].as_u64().unwrap(),
        )
    };
    let first = turn(json!({"chat": "Who are you?", "id": 1}));
    let second = turn(json!({"chat": "Why?", "id": 2}));
    assert_eq!(second.1, first.0 + 5, "all but the last token, which was never computed");
    assert_eq!(
        turn(json!({"chat": "Who are you?", "id": 3, "conversation": "b"})),
        (first.0, first.0 - 1)
    );
    assert_eq!(turn(json!({"chat": "Who are you?", "id": 4, "conversation": 2})).0, first.0);
    assert_eq!(
        turn(json!({"command": "chat Why?", "id": 5, "conversation": "b"})),
        (second.0, second.0 - 1)
    );
    let third = turn(json!({"chat": "And?", "id": 6}));
    assert_eq!(third.1, second.0 + 5);
    assert!(
        turn(json!({"chat": "Who are you?", "id": 7, "conversation": "c", "system": "Be kind."})).0
            > first.0
    );
    node.say(&json!({"command": "new", "conversation": "b"}).to_string());
    assert_eq!(node.receive("ok")["command"], "new");
    node.say(&json!({"command": "new"}).to_string());
    node.receive("ok");
    for (id, name) in [(8, json!("b")), (9, json!(""))] {
        node.say(&json!({"chat": "Who are you?", "id": id, "conversation": name}).to_string());
        assert_eq!(done_of(&node, &json!(id))["figures"]["prompt_tokens"], first.0);
    }
    node.end();
}

#[test]
fn each_request_says_how_its_answer_is_made() {
    let mut node = start(&[]);
    let mut answer = |more: Value| {
        let mut request = json!({"ask": "Why is the sky blue?", "id": 1});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        node.say(&request.to_string());
        done_of(&node, &json!(1))
    };
    let plain = answer(json!({}));
    assert_eq!(answer(json!({}))["text"], plain["text"], "a request's settings must not persist");
    let warm = json!({"temperature": 2.0, "top_k": 0, "top_p": 1.0, "seed": 5});
    let drawn = answer(warm.clone());
    assert_ne!(drawn["text"], plain["text"]);
    assert_eq!(answer(warm)["text"], drawn["text"], "the same seed gives the same answer");
    assert_ne!(
        answer(json!({"temperature": 2.0, "top_k": 0, "top_p": 1.0, "seed": 6}))["text"],
        drawn["text"]
    );
    assert_eq!(answer(json!({"max_tokens": 3}))["tokens"].as_array().unwrap().len(), 3);
    let text = plain["text"].as_str().unwrap().to_string();
    let (head, stop) = text.split_at(text.char_indices().nth(4).unwrap().0);
    for stops in [json!([stop]), json!(stop), json!(["never", stop])] {
        let stopped = answer(json!({"stop": stops}));
        assert_eq!(
            (&stopped["text"], &stopped["figures"]["finish"]),
            (&json!(head), &json!("stop")),
            "{stop:?}"
        );
    }
    let chat = answer(json!({"raw": false}));
    assert!(
        chat["figures"]["prompt_tokens"].as_u64() > plain["figures"]["prompt_tokens"].as_u64(),
        "{chat}"
    );
    assert_eq!(
        answer(json!({"raw": true}))["figures"]["prompt_tokens"],
        plain["figures"]["prompt_tokens"]
    );
    assert_ne!(
        answer(json!({"repeat_penalty": 9.0, "repeat_last_n": 512, "max_tokens": 40}))["text"],
        answer(json!({"max_tokens": 40}))["text"]
    );
    node.end();
}

/// A stop that queues behind the prompts it must end would be useless.
#[test]
fn stop_and_questions_get_through_however_many_prompts_are_due() {
    let mut node = start(&["--context", "4096"]);
    let most = 64 + 100;
    for id in 1..=most {
        node.say(&json!({"ask": "Why is the sky blue?", "id": id, "max_tokens": 4000}).to_string());
    }
    node.say(&json!({"command": "set seed 9"}).to_string());
    node.receive("text");
    node.say(&json!({"command": "status"}).to_string());
    node.receive("status");
    node.say(&json!({"command": "stop"}).to_string());
    let mut stopped: Vec<u64> = (1..=most)
        .map(|_| {
            let done = node.receive("done");
            assert_eq!(done["figures"]["finish"], "stopped", "{done}");
            done["id"].as_u64().unwrap()
        })
        .collect();
    stopped.sort_unstable();
    assert_eq!(stopped, (1..=most).collect::<Vec<u64>>());
    node.say(&json!({"command": "set"}).to_string());
    let settings = node.hear_where("settings", |event| event["settings"]["seed"] == 9);
    assert_eq!(
        settings["settings"]["seed"], 9,
        "a setting between the prompts and the stop must count"
    );
    node.say(&json!({"ask": "Hello", "id": 7, "max_tokens": 3}).to_string());
    assert_eq!(done_of(&node, &json!(7))["figures"]["finish"], "length");
    node.end();
}

/// `potluck ask` refuses it, so a program must get an error as well.
#[test]
fn what_a_model_is_told_is_refused_where_a_text_is_completed() {
    let mut node = start(&["--system", "Be kind."]);
    for request in [
        json!({"ask": "Hello", "id": 1}),
        json!({"command": "ask Hello", "id": 1}),
        json!({"ask": "a", "raw": true, "id": 1}),
    ] {
        let (id, reason) = refused_with(&mut node, &request);
        assert!(
            id == 1 && reason.contains("\"system\" has a place in chats only"),
            "{request}: {reason}"
        );
    }
    node.say(&json!({"chat": "Hello", "id": 2}).to_string());
    done_of(&node, &json!(2));
    node.say(&json!({"command": "system off"}).to_string());
    node.receive("ok");
    node.say(&json!({"ask": "Hello", "id": 3}).to_string());
    done_of(&node, &json!(3));
    node.say(&json!({"command": "system Be brief."}).to_string());
    node.receive("ok");
    assert!(refused_with(&mut node, &json!({"ask": "Hello", "id": 4})).1.contains("in chats only"));
    node.end();
}
