//! Messages of a chat, as clients send them, to the turns of a conversation.
//!
//! Promises: a conversation begins and ends with what a user says, and has a bounded number of
//! messages. Content other than text is refused, never left out silently.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::limits::MAX_HTTP_MESSAGES;

use super::super::ApiError;
use super::Prompt;

/// A message of a conversation, as clients send it.
#[derive(Deserialize)]
pub(super) struct Message {
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

/// Converts messages to turns. System and developer messages at the start become one system text;
/// later ones join the next user message. Consecutive messages of one side become one.
pub(super) fn conversation(messages: Vec<Message>) -> Result<Prompt, ApiError> {
    if messages.len() > MAX_HTTP_MESSAGES {
        return Err(ApiError::of(
            "messages",
            format!("at most {MAX_HTTP_MESSAGES} messages are taken: leave the oldest out"),
        ));
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
            "system" | "developer" if asked.is_none() && answer.is_none() => {
                join(&mut system, text)
            }
            "user" | "system" | "developer" => {
                if let Some(answer) = answer.take() {
                    turns.push((asked.take().unwrap_or_default(), answer));
                }
                join(&mut asked, text);
            }
            "assistant" if has_calls => {
                return Err(ApiError::of("messages", "tools are not supported"));
            }
            "assistant" if asked.is_none() => {
                return Err(ApiError::of(
                    "messages",
                    "a conversation begins with what a user says, not with an answer",
                ));
            }
            "assistant" => join(&mut answer, text),
            role => {
                let known = "system, developer, user and assistant are known";
                return Err(ApiError::of(
                    "messages",
                    format!("there is no role {role:?}: {known}"),
                ));
            }
        }
    }
    if answer.is_some() {
        return Err(ApiError::of(
            "messages",
            "the last message is an answer: end with what a user says",
        ));
    }
    let last = asked
        .ok_or_else(|| ApiError::of("messages", "nothing is asked: end with what a user says"))?;
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
                    _ => Err(ApiError::of(
                        "messages",
                        "this model reads text only: leave out images, sound and files",
                    )
                    .coded("unsupported")),
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::chat;
    use super::*;

    fn chat_of(messages: &str) -> Result<Prompt, String> {
        let body = format!(
            "{{\"model\": \"any\", \"messages\": {messages}, \"some_future_field\": {{\"a\": 1}}}}"
        );
        chat(body.as_bytes()).map(|asked| asked.prompt).map_err(|error| error.message)
    }

    fn said(system: Option<&str>, turns: &[(&str, &str)], last: &str) -> Result<Prompt, String> {
        let turns =
            turns.iter().map(|(asked, answer)| (asked.to_string(), answer.to_string())).collect();
        Ok(Prompt::Chat { system: system.map(str::to_string), turns, last: last.to_string() })
    }

    #[test]
    fn messages_become_turns_whatever_form_their_content_has() {
        assert_eq!(chat_of(r#"[{"role": "user", "content": "Hi"}]"#), said(None, &[], "Hi"));
        let parts = r#"[{"role": "developer", "content": "Be brief."}, {"role": "system", "content": [{"type": "text", "text": "Kind."}]},
            {"role": "user", "content": [{"type": "text", "text": "One"}, {"type": "text", "text": " two"}]},
            {"role": "assistant", "content": "Three"}, {"role": "user", "content": "Four", "name": "x"}]"#;
        assert_eq!(
            chat_of(parts),
            said(Some("Be brief.\n\nKind."), &[("One two", "Three")], "Four")
        );
        let in_a_row = r#"[{"role": "user", "content": "a"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": null},
            {"role": "assistant", "content": "c"}, {"role": "system", "content": "d"}, {"role": "user", "content": "e"}]"#;
        assert_eq!(chat_of(in_a_row), said(None, &[("a\n\nb", "\n\nc")], "d\n\ne"));
    }

    #[test]
    fn what_is_no_conversation_is_refused_with_what_to_do() {
        for (messages, says) in [
            ("[]", "nothing is asked"),
            (r#"[{"role": "assistant", "content": "Hi"}]"#, "begins with what a user says"),
            (
                r#"[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]"#,
                "end with what a user says",
            ),
            (r#"[{"role": "tool", "content": "4"}]"#, "there is no role \"tool\""),
            (
                r#"[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]"#,
                "reads text only",
            ),
            (r#"[{"content": "Hi"}]"#, "not understood"),
            (r#""Hi""#, "not understood"),
        ] {
            let reason = chat_of(messages).unwrap_err();
            assert!(reason.contains(says), "{messages}: {reason}");
        }
        let many = vec![r#"{"role": "user", "content": "x"}"#; MAX_HTTP_MESSAGES + 1].join(",");
        assert!(chat_of(&format!("[{many}]")).unwrap_err().contains("leave the oldest out"));
    }
}
