//! Parses requests.
//!
//! A body is parsed whole; the caller bounds its size. Unknown fields are ignored, because clients
//! send more than servers know. Known but unsupported ones are refused, so that no answer silently
//! lacks what was asked for.

mod messages;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::id::TokenId;

use super::ApiError;

use messages::{Message, conversation};

/// A request for an answer.
#[derive(Clone, PartialEq, Debug)]
pub struct Asked {
    /// The prompt.
    pub prompt: Prompt,
    /// How to answer it.
    pub(crate) requested: RequestSettings,
    /// Whether to stream the answer.
    pub(crate) stream: bool,
    /// Whether the stream ends with the figures.
    pub(crate) usage: bool,
}

/// A prompt.
#[derive(Clone, PartialEq, Debug)]
pub enum Prompt {
    /// A text to complete.
    Text(String),
    /// Tokens to complete.
    Tokens(Vec<TokenId>),
    /// A conversation.
    Chat {
        /// The system text.
        system: Option<String>,
        /// The prompts and answers so far.
        turns: Vec<(String, String)>,
        /// The new prompt.
        last: String,
    },
}

/// Settings for the answer; absent ones default to the node's.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct RequestSettings {
    /// Maximum tokens of the answer.
    pub max_tokens: Option<u64>,
    /// 0 always takes the likeliest token.
    pub temperature: Option<f32>,
    /// Draws from this many of the likeliest tokens; 0 means all.
    pub top_k: Option<u64>,
    /// Draws from the likeliest tokens that together have this probability.
    pub top_p: Option<f32>,
    /// The same seed gives the same answer.
    pub seed: Option<u64>,
    /// What the logits of recent tokens are divided by.
    pub repeat_penalty: Option<f32>,
    /// Texts that end the answer.
    pub stop: Option<Vec<String>>,
}

/// The fields of both kinds of requests.
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
    // Fields that are refused if they ask for something.
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

/// A switch, or a count.
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

/// Parses a request to `/v1/chat/completions`.
///
/// # Errors
/// [`ApiError`], for the client.
pub fn chat(body: &[u8]) -> Result<Asked, ApiError> {
    let mut body = read(body)?;
    let messages = body
        .messages
        .take()
        .ok_or_else(|| ApiError::of("messages", "messages is missing: give what was said"))?;
    let prompt = conversation(messages)?;
    body.asked(prompt)
}

/// Parses a request to `/v1/completions`.
///
/// # Errors
/// [`ApiError`], for the client.
pub fn completion(body: &[u8]) -> Result<Asked, ApiError> {
    let mut body = read(body)?;
    let several =
        || ApiError::of("prompt", "one prompt a request: send the others in separate requests");
    let prompt = match body.prompt.take() {
        None => {
            return Err(ApiError::of("prompt", "prompt is missing: give the text to complete"));
        }
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

/// Parses a request to `/tokenize`: its text, and whether to add the token that begins
/// every prompt.
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
    let Body { content, add_special } =
        serde_json::from_slice(body).map_err(|error| not_understood(&error))?;
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
            Some(given) => Some(
                u64::try_from(given)
                    .map_err(|_| ApiError::of("top_k", "top_k is 0 (all) or more"))?,
            ),
            None => None,
        };
        let requested = RequestSettings {
            max_tokens: self.max_completion_tokens.or(self.max_tokens),
            temperature: self.temperature,
            top_k,
            top_p: self.top_p,
            // Seeds are 64-bit numbers, signed or unsigned.
            seed: self.seed.map(i64::cast_unsigned),
            repeat_penalty: self.repeat_penalty,
            stop: self.stop.map(|stop| match stop {
                Stops::One(text) => vec![text],
                Stops::Several(texts) => texts,
            }),
        };
        let usage = self.stream_options.is_some_and(|options| options.include_usage == Some(true));
        Ok(Asked { prompt, requested, stream: self.stream == Some(true), usage })
    }

    /// Refuses requests for features that would otherwise be silently missing from the answer.
    fn refuse_the_impossible(&self) -> Result<(), ApiError> {
        let is_on = |asks: &Option<Asks>| asks.as_ref().is_some_and(Asks::is_on);
        let is_biased = match &self.logit_bias {
            Some(Bias::Map(map)) => !map.is_empty(),
            Some(Bias::List(list)) => !list.is_empty(),
            None => false,
        };
        let format = self.response_format.as_ref().and_then(|format| format.r#type.as_deref());
        let more_than_text =
            |modalities: &Vec<String>| modalities.iter().any(|modality| modality != "text");
        let wants = |given: &Option<f32>| given.is_some_and(|penalty| penalty != 0.0);
        let impossible: [(bool, &'static str, &str); 13] = [
            (
                self.n.is_some_and(|n| n != 1),
                "n",
                "one answer a request: leave n out, or ask again with another seed",
            ),
            (
                self.best_of.is_some_and(|best| best > 1),
                "best_of",
                "one answer a request: leave best_of out",
            ),
            (is_on(&self.logprobs), "logprobs", "probabilities are not given: leave logprobs out"),
            (
                is_on(&self.top_logprobs),
                "top_logprobs",
                "probabilities are not given: leave top_logprobs out",
            ),
            (self.echo == Some(true), "echo", "the prompt is not repeated: leave echo out"),
            (
                self.suffix.as_ref().is_some_and(|text| !text.is_empty()),
                "suffix",
                "this model completes text, it does not fill in",
            ),
            (is_biased, "logit_bias", "tokens cannot be biased: leave logit_bias out"),
            (
                wants(&self.presence_penalty),
                "presence_penalty",
                "not known here: leave it out; repeat_penalty is",
            ),
            (
                wants(&self.frequency_penalty),
                "frequency_penalty",
                "not known here: leave it out; repeat_penalty is",
            ),
            (
                self.tools.as_ref().is_some_and(|tools| !tools.is_empty()),
                "tools",
                "tools are not supported: leave them out",
            ),
            (
                self.functions.as_ref().is_some_and(|all| !all.is_empty()),
                "functions",
                "functions are not supported",
            ),
            (
                format.is_some_and(|format| format != "text"),
                "response_format",
                "answers are text: leave response_format out",
            ),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_under_every_name_that_they_have() {
        let asked = completion(
            br#"{"prompt": ["Water"], "max_tokens": 9, "max_completion_tokens": 7, "temperature": 0.5, "top_k": -1, "top_p": 0.9,
                "seed": -1, "stop": "END", "stream": true, "stream_options": {"include_usage": true}, "n": 1, "logprobs": null,
                "tools": [], "presence_penalty": 0, "response_format": {"type": "text"}, "logit_bias": {}}"#,
        )
        .unwrap();
        let requested = RequestSettings {
            max_tokens: Some(7),
            temperature: Some(0.5),
            top_k: Some(0),
            top_p: Some(0.9),
            seed: Some(u64::MAX),
            repeat_penalty: None,
            stop: Some(vec!["END".to_string()]),
        };
        assert_eq!(
            asked,
            Asked {
                prompt: Prompt::Text("Water".to_string()),
                requested,
                stream: true,
                usage: true
            }
        );
        let tokens = completion(br#"{"prompt": [2, 105], "stop": null}"#).unwrap();
        assert_eq!(tokens.prompt, Prompt::Tokens(vec![TokenId(2), TokenId(105)]));
        assert_eq!(
            text_to_tokenize(br#"{"content": "a", "add_special": true}"#).unwrap(),
            ("a".to_string(), true)
        );
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
            let error =
                completion(format!("{{\"prompt\": \"x\", {field}}}").as_bytes()).unwrap_err();
            assert_eq!((error.param, error.kind.status()), (Some(param), 400), "{field}");
        }
        assert!(
            completion(br#"{"prompt": ["a", "b"]}"#)
                .unwrap_err()
                .message
                .contains("one prompt a request")
        );
        assert!(completion(b"{}").unwrap_err().message.contains("prompt is missing"));
        assert!(completion(b"\xff").unwrap_err().message.contains("not understood"));
    }
}
