//! Responses to clients: whole, or piece by piece as server-sent events.

use serde::Serialize;

use crate::node::{Figures, Progress, StopReason};

/// The endpoint's format of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    /// That of `/v1/chat/completions`.
    Chat,
    /// That of `/v1/completions`.
    Completion,
}

/// Formats one answer and each of its pieces.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ReplyFormat {
    shape: Shape,
    id: String,
    /// Seconds since 1970, by a clock that may not be set on a board.
    created: u64,
    model: String,
}

#[derive(Serialize)]
struct Envelope<'a, C: Serialize> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: C,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage<'a>>,
}

/// Shared by all kinds of answers; each fills its own fields. `finish_reason` is null until the
/// last piece.
#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Message<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<Delta<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
    refusal: Option<()>,
}

#[derive(Serialize, Default)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
}

/// Token counts, and where the prompt's state came from.
#[derive(Serialize)]
struct Usage<'a> {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
    prompt_tokens_details: Details,
    /// The node's own figures.
    potluck: &'a Answered,
}

/// A finished answer's figures.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Answered {
    /// Where the state came from, and how long it took.
    #[serde(flatten)]
    pub(crate) figures: Figures,
    /// The first words of the prompt that neither the slab nor a peer held: where this prompt
    /// begins to differ from earlier ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) new_from: Option<String>,
}

#[derive(Serialize)]
struct Details {
    cached_tokens: usize,
}

impl<'a> Usage<'a> {
    fn of(answered: &'a Answered) -> Usage<'a> {
        let figures = &answered.figures;
        Usage {
            prompt_tokens: figures.prompt_tokens,
            completion_tokens: figures.generated,
            total_tokens: figures.prompt_tokens + figures.generated,
            prompt_tokens_details: Details { cached_tokens: figures.own + figures.from_peers() },
            potluck: answered,
        }
    }
}

impl ReplyFormat {
    /// The format of this node's answer with this number.
    pub(crate) fn new(shape: Shape, number: u64, created: u64, model: &str) -> ReplyFormat {
        let id = match shape {
            Shape::Chat => format!("chatcmpl-{number:x}"),
            Shape::Completion => format!("cmpl-{number:x}"),
        };
        ReplyFormat { shape, id, created, model: model.to_string() }
    }

    /// A whole answer.
    pub(crate) fn whole(&self, text: &str, answered: &Answered) -> String {
        let finish_reason = Some(finish(answered.figures.stop));
        let choice = match self.shape {
            Shape::Chat => {
                let message = Message { role: "assistant", content: text, refusal: None };
                Choice { message: Some(message), finish_reason, ..Choice::EMPTY }
            }
            Shape::Completion => Choice { text: Some(text), finish_reason, ..Choice::EMPTY },
        };
        let object = match self.shape {
            Shape::Chat => "chat.completion",
            Shape::Completion => "text_completion",
        };
        json(&self.envelope(object, [choice], Some(Usage::of(answered))))
    }

    /// The piece before the text, if the format has one.
    pub(crate) fn first(&self) -> Option<String> {
        let delta = Delta { role: Some("assistant"), content: Some("") };
        (self.shape == Shape::Chat)
            .then(|| self.chunk(Choice { delta: Some(delta), ..Choice::EMPTY }))
    }

    /// A piece of the text.
    pub(crate) fn text(&self, text: &str) -> String {
        self.chunk(match self.shape {
            Shape::Chat => {
                Choice { delta: Some(Delta { role: None, content: Some(text) }), ..Choice::EMPTY }
            }
            Shape::Completion => Choice { text: Some(text), ..Choice::EMPTY },
        })
    }

    /// The last piece of the text and the end of the answer, with the figures if they
    /// were requested.
    pub(crate) fn last(&self, answered: &Answered, usage: bool) -> String {
        let finish_reason = Some(finish(answered.figures.stop));
        let end = self.chunk(match self.shape {
            Shape::Chat => Choice { delta: Some(Delta::default()), finish_reason, ..Choice::EMPTY },
            Shape::Completion => Choice { text: Some(""), finish_reason, ..Choice::EMPTY },
        });
        let usage = if usage {
            let none: [Choice<'_>; 0] = [];
            event(&json(&self.envelope(self.object(), none, Some(Usage::of(answered)))))
        } else {
            String::new()
        };
        end + &usage + &event("[DONE]")
    }

    fn chunk(&self, choice: Choice<'_>) -> String {
        event(&json(&self.envelope(self.object(), [choice], None)))
    }

    /// The object type of an answer or a piece.
    fn object(&self) -> &'static str {
        match self.shape {
            Shape::Chat => "chat.completion.chunk",
            Shape::Completion => "text_completion",
        }
    }

    fn envelope<'a, C: Serialize>(
        &'a self,
        object: &'static str,
        choices: C,
        usage: Option<Usage<'a>>,
    ) -> Envelope<'a, C> {
        Envelope { id: &self.id, object, created: self.created, model: &self.model, choices, usage }
    }
}

impl Choice<'_> {
    const EMPTY: Choice<'static> = Choice {
        index: 0,
        message: None,
        delta: None,
        text: None,
        logprobs: None,
        finish_reason: None,
    };
}

/// A comment line with a prompt's progress. Clients ignore it; it keeps the connection alive, and
/// the page reads it.
pub(crate) fn comment(progress: &Progress) -> String {
    format!(": {}\n\n", json(progress))
}

/// The end of a stream whose answer failed.
pub(crate) fn failed(error: &super::ApiError) -> String {
    event(&error.body()) + &event("[DONE]")
}

/// The list of models, which has only this one.
pub(crate) fn model_list(model: &str, created: u64, context: usize) -> String {
    json(&serde_json::json!({"object": "list", "data": [{
        "id": model, "object": "model", "created": created, "owned_by": "potluck", "max_model_len": context}]}))
}

/// Why an answer ended, in the API's terms. An answer stopped from elsewhere was cut short, as by
/// its length.
fn finish(stop: StopReason) -> &'static str {
    match stop {
        StopReason::End | StopReason::StopString => "stop",
        StopReason::MaxTokens
        | StopReason::ContextFull
        | StopReason::SlabFull
        | StopReason::Stopped => "length",
    }
}

fn event(data: &str) -> String {
    format!("data: {data}\n\n")
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value)
        .unwrap_or_else(|error| unreachable!("answers are plain data: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::id::NodeId;

    fn answered() -> Answered {
        let figures = Figures {
            prompt_tokens: 40,
            own: 16,
            peers: heapless::Vec::from_slice(&[(NodeId(7), 16)]).unwrap(),
            computed: 8,
            generated: 3,
            known: 32,
            stop: StopReason::MaxTokens,
            ..Figures::never_begun()
        };
        Answered { figures, new_from: Some("It is 14:32".to_string()) }
    }

    fn events(text: &str) -> Vec<Value> {
        let data = text.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap());
        data.map(|data| serde_json::from_str(data).unwrap_or(json!(data))).collect()
    }

    #[test]
    fn a_whole_answer_says_what_came_from_where() {
        let format = ReplyFormat::new(Shape::Chat, 255, 1_700_000_000, "gemma");
        let whole: Value = serde_json::from_str(&format.whole("Hi.", &answered())).unwrap();
        assert_eq!(
            (&whole["id"], &whole["object"]),
            (&json!("chatcmpl-ff"), &json!("chat.completion"))
        );
        let choice = json!({"index": 0, "message": {"role": "assistant", "content": "Hi.", "refusal": null}, "logprobs": null,
            "finish_reason": "length"});
        assert_eq!(whole["choices"], json!([choice]));
        let usage = &whole["usage"];
        assert_eq!(
            (&usage["total_tokens"], &usage["prompt_tokens_details"]["cached_tokens"]),
            (&json!(43), &json!(32))
        );
        assert_eq!(usage["potluck"]["peers"], json!([["0000000000000007", 16]]));
        assert_eq!(
            (&usage["potluck"]["known"], &usage["potluck"]["new_from"]),
            (&json!(32), &json!("It is 14:32"))
        );
        let text: Value = serde_json::from_str(
            &ReplyFormat::new(Shape::Completion, 1, 2, "g").whole("x", &answered()),
        )
        .unwrap();
        assert_eq!(
            (&text["object"], &text["choices"][0]["text"]),
            (&json!("text_completion"), &json!("x"))
        );
        assert!(text["choices"][0].get("message").is_none());
    }

    #[test]
    fn a_stream_begins_with_the_role_and_ends_with_reason_usage_and_done() {
        let format = ReplyFormat::new(Shape::Chat, 1, 2, "g");
        let all =
            [format.first().unwrap(), format.text("Hi"), format.last(&answered(), true)].concat();
        let events = events(&all);
        assert_eq!(events[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
        assert_eq!(events[0]["choices"][0]["finish_reason"], Value::Null);
        assert!(
            events[0]["choices"][0].as_object().unwrap().contains_key("finish_reason"),
            "null, not absent"
        );
        assert_eq!(events[1]["choices"][0]["delta"], json!({"content": "Hi"}));
        assert_eq!(
            (&events[2]["choices"][0]["delta"], &events[2]["choices"][0]["finish_reason"]),
            (&json!({}), &json!("length"))
        );
        assert_eq!(
            (&events[3]["choices"], &events[3]["usage"]["completion_tokens"]),
            (&json!([]), &json!(3))
        );
        assert_eq!(events[4], json!("[DONE]"));
        assert!(
            events[..4]
                .iter()
                .all(|event| event["id"] == "chatcmpl-1"
                    && event["object"] == "chat.completion.chunk")
        );
        assert!(!format.last(&answered(), false).contains("usage"));
        assert_eq!(ReplyFormat::new(Shape::Completion, 1, 2, "g").first(), None);
        let progress = comment(&Progress { prompt_tokens: 9, own: 1, peers: 2, computed: 3 });
        assert_eq!(progress, ": {\"prompt_tokens\":9,\"own\":1,\"peers\":2,\"computed\":3}\n\n");
    }
}
