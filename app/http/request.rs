//! What a request asks for.
//!
//! A body is read whole, within a bound that the caller keeps. What is unknown in it is ignored, for clients send more than servers
//! know; what is known and cannot be done is refused, so that no answer silently lacks what was asked for.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::id::TokenId;
use crate::limits::MAX_HTTP_MESSAGES;

use super::ApiError;

/// A request for an answer.
#[derive(Clone, PartialEq, Debug)]
pub struct Asked {
    /// What is to be answered.
    pub prompt: Prompt,
    /// How.
    pub(crate) wish: Wish,
    /// Whether the answer is to come piece by piece.
    pub(crate) stream: bool,
    /// Whether its figures are to come at the end of that.
    pub(crate) usage: bool,
}

/// What is to be answered.
#[derive(Clone, PartialEq, Debug)]
pub enum Prompt {
    /// A text that goes on.
    Text(String),
    /// The same in tokens.
    Tokens(Vec<TokenId>),
    /// A conversation.
    Chat {
        /// What the model is told before it.
        system: Option<String>,
        /// What was said and answered so far.
        turns: Vec<(String, String)>,
        /// What is said now.
        last: String,
    },
}

/// How the answer is to be made; what is absent is as the node makes its answers.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Wish {
    /// Tokens of the answer, at most.
    pub max_tokens: Option<u64>,
    /// 0 always takes the likeliest token.
    pub temperature: Option<f32>,
    /// How many of the likeliest tokens are drawn from; 0 is all.
    pub top_k: Option<u64>,
    /// The probability that the tokens drawn from have together.
    pub top_p: Option<f32>,
    /// The same seed gives the same answer.
    pub seed: Option<u64>,
    /// What the logits of recent tokens are divided by.
    pub repeat_penalty: Option<f32>,
    /// Texts that end the answer.
    pub stop: Option<Vec<String>>,
}

/// Fields that both kinds of requests have.
#[derive(Deserialize)]
struct Body {
    messages: Option<Vec<Message>>,
    prompt: Option<Texts>,
    #[serde(default)]
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    temperature: Option<f32>,
    top_k: Option<i64>,
    top_p: Option<f32>,
    seed: Option<i64>,
    repeat_penalty: Option<f32>,
    stop: Option<Stops>,
    // What is refused where it asks for something.
    n: Option<u64>,
    best_of: Option<u64>,
    logprobs: Option<Asks>,
    top_logprobs: Option<Asks>,
    echo: Option<bool>,
    suffix: Option<String>,
    logit_bias: Option<Bias>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    tools: Option<Vec<IgnoredAny>>,
    functions: Option<Vec<IgnoredAny>>,
    response_format: Option<ResponseFormat>,
    modalities: Option<Vec<String>>,
    audio: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct ResponseFormat {
    r#type: Option<String>,
}

/// A switch, or a number of what is wanted.
#[derive(Deserialize)]
#[serde(untagged)]
enum Asks {
    Switch(bool),
    Number(u64),
}

impl Asks {
    fn is_on(&self) -> bool {
        match self {
            Asks::Switch(on) => *on,
            Asks::Number(count) => *count > 0,
        }
    }
}

/// Biases by token, or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Bias {
    Map(std::collections::BTreeMap<String, IgnoredAny>),
    List(Vec<IgnoredAny>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Texts {
    One(String),
    Tokens(Vec<u32>),
    Several(Vec<String>),
    SeveralTokens(Vec<Vec<u32>>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Stops {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
struct Message {
    role: String,
    content: Option<Content>,
    tool_calls: Option<Vec<IgnoredAny>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    r#type: String,
    text: Option<String>,
}

/// What `/v1/chat/completions` is asked.
///
/// # Errors
/// [`ApiError`], for the client.
pub fn chat(body: &[u8]) -> Result<Asked, ApiError> {
    let mut body = read(body)?;
    let messages = body.messages.take().ok_or_else(|| ApiError::of("messages", "messages is missing: give what was said"))?;
    let prompt = conversation(messages)?;
    body.asked(prompt)
}

/// What `/v1/completions` is asked.
///
/// # Errors
/// [`ApiError`], for the client.
pub fn completion(body: &[u8]) -> Result<Asked, ApiError> {
    let mut body = read(body)?;
    let several = || ApiError::of("prompt", "one prompt a request: send the others in requests of their own");
    let prompt = match body.prompt.take() {
        None => return Err(ApiError::of("prompt", "prompt is missing: give the text that goes on")),
        Some(Texts::One(text)) => Prompt::Text(text),
        Some(Texts::Tokens(ids)) => Prompt::Tokens(ids.into_iter().map(TokenId).collect()),
        Some(Texts::Several(mut texts)) if texts.len() == 1 => Prompt::Text(texts.remove(0)),
        Some(Texts::SeveralTokens(mut lists)) if lists.len() == 1 => {
            Prompt::Tokens(lists.remove(0).into_iter().map(TokenId).collect())
        }
        Some(Texts::Several(_) | Texts::SeveralTokens(_)) => return Err(several()),
    };
    body.asked(prompt)
}

/// The text that `/tokenize` is given, and whether the token that begins every prompt is wanted too.
///
/// # Errors
/// [`ApiError`], for the client.
pub fn text_to_tokenize(body: &[u8]) -> Result<(String, bool), ApiError> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(alias = "text", alias = "prompt")]
        content: String,
        add_special: Option<bool>,
    }
    let Body { content, add_special } = serde_json::from_slice(body).map_err(|error| not_understood(&error))?;
    Ok((content, add_special.unwrap_or(false)))
}

fn read(body: &[u8]) -> Result<Body, ApiError> {
    serde_json::from_slice(body).map_err(|error| not_understood(&error))
}

fn not_understood(error: &serde_json::Error) -> ApiError {
    ApiError::new(super::Kind::Invalid, format!("the body is not understood: {error}"))
}

impl Body {
    fn asked(self, prompt: Prompt) -> Result<Asked, ApiError> {
        self.refuse_the_impossible()?;
        let top_k = match self.top_k {
            Some(-1) => Some(0),
            Some(given) => Some(u64::try_from(given).map_err(|_| ApiError::of("top_k", "top_k is from 0 (all) on"))?),
            None => None,
        };
        let wish = Wish {
            max_tokens: self.max_completion_tokens.or(self.max_tokens),
            temperature: self.temperature,
            top_k,
            top_p: self.top_p,
            // Seeds are numbers of 64 bits, with a sign or without.
            seed: self.seed.map(i64::cast_unsigned),
            repeat_penalty: self.repeat_penalty,
            stop: self.stop.map(|stop| match stop {
                Stops::One(text) => vec![text],
                Stops::Several(texts) => texts,
            }),
        };
        let usage = self.stream_options.is_some_and(|options| options.include_usage == Some(true));
        Ok(Asked { prompt, wish, stream: self.stream == Some(true), usage })
    }

    /// Refuses what would otherwise be missing from the answer without a word.
    fn refuse_the_impossible(&self) -> Result<(), ApiError> {
        let is_on = |asks: &Option<Asks>| asks.as_ref().is_some_and(Asks::is_on);
        let is_biased = match &self.logit_bias {
            Some(Bias::Map(map)) => !map.is_empty(),
            Some(Bias::List(list)) => !list.is_empty(),
            None => false,
        };
        let format = self.response_format.as_ref().and_then(|format| format.r#type.as_deref());
        let more_than_text = |modalities: &Vec<String>| modalities.iter().any(|modality| modality != "text");
        let wants = |given: &Option<f32>| given.is_some_and(|penalty| penalty != 0.0);
        let impossible: [(bool, &'static str, &str); 13] = [
            (self.n.is_some_and(|n| n != 1), "n", "one answer a request: leave n out, or ask again with another seed"),
            (self.best_of.is_some_and(|best| best > 1), "best_of", "one answer a request: leave best_of out"),
            (is_on(&self.logprobs), "logprobs", "probabilities are not given: leave logprobs out"),
            (is_on(&self.top_logprobs), "top_logprobs", "probabilities are not given: leave top_logprobs out"),
            (self.echo == Some(true), "echo", "the prompt is not repeated: leave echo out"),
            (self.suffix.as_ref().is_some_and(|text| !text.is_empty()), "suffix", "this model goes on, it does not fill in"),
            (is_biased, "logit_bias", "tokens cannot be biased: leave logit_bias out"),
            (wants(&self.presence_penalty), "presence_penalty", "not known here: leave it out; repeat_penalty is"),
            (wants(&self.frequency_penalty), "frequency_penalty", "not known here: leave it out; repeat_penalty is"),
            (
                self.tools.as_ref().is_some_and(|tools| !tools.is_empty()),
                "tools",
                "no tools are called from here: leave them out",
            ),
            (self.functions.as_ref().is_some_and(|all| !all.is_empty()), "functions", "no functions are called from here"),
            (format.is_some_and(|format| format != "text"), "response_format", "answers are text: leave response_format out"),
            (
                self.audio.is_some() || self.modalities.as_ref().is_some_and(more_than_text),
                "modalities",
                "answers are text: leave modalities and audio out",
            ),
        ];
        match impossible.iter().find(|(is_asked, ..)| *is_asked) {
            Some((_, param, message)) => Err(ApiError::of(param, *message).coded("unsupported")),
            None => Ok(()),
        }
    }
}

/// Messages as turns: what the system and the developer say first is one text, and later belongs to what is said next; several messages
/// of one side in a row are one.
fn conversation(messages: Vec<Message>) -> Result<Prompt, ApiError> {
    if messages.len() > MAX_HTTP_MESSAGES {
        return Err(ApiError::of("messages", format!("at most {MAX_HTTP_MESSAGES} messages are taken: leave the oldest out")));
    }
    let (mut system, mut turns, mut asked) = (None::<String>, Vec::new(), None::<String>);
    let mut answer = None::<String>;
    let join = |into: &mut Option<String>, text: String| match into {
        Some(before) => {
            before.push_str("\n\n");
            before.push_str(&text);
        }
        None => *into = Some(text),
    };
    for message in messages {
        let has_calls = message.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty());
        let text = message.text()?;
        match message.role.as_str() {
            "system" | "developer" if asked.is_none() && answer.is_none() => join(&mut system, text),
            "user" | "system" | "developer" => {
                if let Some(answer) = answer.take() {
                    turns.push((asked.take().unwrap_or_default(), answer));
                }
                join(&mut asked, text);
            }
            "assistant" if has_calls => return Err(ApiError::of("messages", "no tools are called from here")),
            "assistant" if asked.is_none() => {
                return Err(ApiError::of("messages", "a conversation begins with what a user says, not with an answer"));
            }
            "assistant" => join(&mut answer, text),
            role => {
                let known = "system, developer, user and assistant are known";
                return Err(ApiError::of("messages", format!("no role is called {role:?}: {known}")));
            }
        }
    }
    if answer.is_some() {
        return Err(ApiError::of("messages", "the last message is an answer: end with what a user says"));
    }
    let last = asked.ok_or_else(|| ApiError::of("messages", "nothing is asked: end with what a user says"))?;
    Ok(Prompt::Chat { system: system.filter(|text| !text.trim().is_empty()), turns, last })
}

impl Message {
    fn text(&self) -> Result<String, ApiError> {
        match &self.content {
            None => Ok(String::new()),
            Some(Content::Text(text)) => Ok(text.clone()),
            Some(Content::Parts(parts)) => parts
                .iter()
                .map(|part| match (part.r#type.as_str(), &part.text) {
                    ("text" | "input_text" | "output_text", Some(text)) => Ok(text.as_str()),
                    ("refusal", _) => Ok(""),
                    _ => Err(ApiError::of("messages", "this model reads text only: leave out images, sound and files")
                        .coded("unsupported")),
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat_of(messages: &str) -> Result<Prompt, String> {
        let body = format!("{{\"model\": \"any\", \"messages\": {messages}, \"some_future_field\": {{\"a\": 1}}}}");
        chat(body.as_bytes()).map(|asked| asked.prompt).map_err(|error| error.message)
    }

    fn said(system: Option<&str>, turns: &[(&str, &str)], last: &str) -> Result<Prompt, String> {
        let turns = turns.iter().map(|(asked, answer)| (asked.to_string(), answer.to_string())).collect();
        Ok(Prompt::Chat { system: system.map(str::to_string), turns, last: last.to_string() })
    }

    #[test]
    fn messages_become_turns_whatever_form_their_content_has() {
        assert_eq!(chat_of(r#"[{"role": "user", "content": "Hi"}]"#), said(None, &[], "Hi"));
        let parts = r#"[{"role": "developer", "content": "Be brief."}, {"role": "system", "content": [{"type": "text", "text": "Kind."}]},
            {"role": "user", "content": [{"type": "text", "text": "One"}, {"type": "text", "text": " two"}]},
            {"role": "assistant", "content": "Three"}, {"role": "user", "content": "Four", "name": "x"}]"#;
        assert_eq!(chat_of(parts), said(Some("Be brief.\n\nKind."), &[("One two", "Three")], "Four"));
        let in_a_row = r#"[{"role": "user", "content": "a"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": null},
            {"role": "assistant", "content": "c"}, {"role": "system", "content": "d"}, {"role": "user", "content": "e"}]"#;
        assert_eq!(chat_of(in_a_row), said(None, &[("a\n\nb", "\n\nc")], "d\n\ne"));
    }

    #[test]
    fn what_is_no_conversation_is_refused_with_what_to_do() {
        for (messages, says) in [
            ("[]", "nothing is asked"),
            (r#"[{"role": "assistant", "content": "Hi"}]"#, "begins with what a user says"),
            (r#"[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]"#, "end with what a user says"),
            (r#"[{"role": "tool", "content": "4"}]"#, "no role is called \"tool\""),
            (r#"[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]"#, "reads text only"),
            (r#"[{"content": "Hi"}]"#, "not understood"),
            (r#""Hi""#, "not understood"),
        ] {
            let reason = chat_of(messages).unwrap_err();
            assert!(reason.contains(says), "{messages}: {reason}");
        }
        let many = vec![r#"{"role": "user", "content": "x"}"#; MAX_HTTP_MESSAGES + 1].join(",");
        assert!(chat_of(&format!("[{many}]")).unwrap_err().contains("leave the oldest out"));
    }

    #[test]
    fn settings_are_read_under_every_name_that_they_have() {
        let asked = completion(
            br#"{"prompt": ["Water"], "max_tokens": 9, "max_completion_tokens": 7, "temperature": 0.5, "top_k": -1, "top_p": 0.9,
                "seed": -1, "stop": "END", "stream": true, "stream_options": {"include_usage": true}, "n": 1, "logprobs": null,
                "tools": [], "presence_penalty": 0, "response_format": {"type": "text"}, "logit_bias": {}}"#,
        )
        .unwrap();
        let wish = Wish {
            max_tokens: Some(7),
            temperature: Some(0.5),
            top_k: Some(0),
            top_p: Some(0.9),
            seed: Some(u64::MAX),
            repeat_penalty: None,
            stop: Some(vec!["END".to_string()]),
        };
        assert_eq!(asked, Asked { prompt: Prompt::Text("Water".to_string()), wish, stream: true, usage: true });
        let tokens = completion(br#"{"prompt": [2, 105], "stop": null}"#).unwrap();
        assert_eq!(tokens.prompt, Prompt::Tokens(vec![TokenId(2), TokenId(105)]));
        assert_eq!(text_to_tokenize(br#"{"content": "a", "add_special": true}"#).unwrap(), ("a".to_string(), true));
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_the_name_of_its_field() {
        for (field, param) in [
            (r#""n": 2"#, "n"),
            (r#""best_of": 3"#, "best_of"),
            (r#""logprobs": true"#, "logprobs"),
            (r#""logprobs": 5"#, "logprobs"),
            (r#""top_logprobs": 1"#, "top_logprobs"),
            (r#""echo": true"#, "echo"),
            (r#""suffix": "x""#, "suffix"),
            (r#""logit_bias": {"50256": -100}"#, "logit_bias"),
            (r#""presence_penalty": 0.1"#, "presence_penalty"),
            (r#""frequency_penalty": 1"#, "frequency_penalty"),
            (r#""tools": [{"type": "function"}]"#, "tools"),
            (r#""functions": [{}]"#, "functions"),
            (r#""response_format": {"type": "json_object"}"#, "response_format"),
            (r#""modalities": ["text", "audio"]"#, "modalities"),
            (r#""top_k": -2"#, "top_k"),
        ] {
            let error = completion(format!("{{\"prompt\": \"x\", {field}}}").as_bytes()).unwrap_err();
            assert_eq!((error.param, error.kind.status()), (Some(param), 400), "{field}");
        }
        assert!(completion(br#"{"prompt": ["a", "b"]}"#).unwrap_err().message.contains("one prompt a request"));
        assert!(completion(b"{}").unwrap_err().message.contains("prompt is missing"));
        assert!(completion(b"\xff").unwrap_err().message.contains("not understood"));
    }
}
