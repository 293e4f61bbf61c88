//! Programs' requests: one JSON object a line.

use serde::Deserialize;

use crate::answers::Wanted;
use crate::console::{self, Command, Line, Settings};
use crate::node::AskId;

use super::session::Session;

/// One request.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Request {
    id: Option<u64>,
    ask: Option<String>,
    chat: Option<String>,
    command: Option<String>,
    conversation: Option<Name>,
    raw: Option<bool>,
    system: Option<String>,
    drop_oldest: Option<bool>,
    max_tokens: Option<u64>,
    temperature: Option<f32>,
    top_k: Option<u64>,
    top_p: Option<f32>,
    seed: Option<u64>,
    repeat_penalty: Option<f32>,
    repeat_last_n: Option<u64>,
    stop: Option<Stops>,
    /// For a reset: drops blocks too.
    #[serde(default)]
    store: bool,
}

/// A conversation's name. A number works too, for scripts that count them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Name {
    Number(u64),
    Text(String),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Stops {
    One(String),
    Several(Vec<String>),
}

/// The id of a request that could not be parsed otherwise.
#[derive(Deserialize)]
struct Named {
    id: Option<u64>,
}

/// The command of a request.
#[derive(Deserialize)]
struct Commanded {
    command: String,
}

impl Session {
    /// The console command in a request, if it has one.
    pub(super) fn requested(line: &str) -> Option<String> {
        serde_json::from_str::<Commanded>(line).ok().map(|request| request.command)
    }

    /// Executes a request; true if it quits.
    pub(super) fn request(&mut self, line: &str) -> bool {
        if line.trim().is_empty() {
            return false;
        }
        let request = serde_json::from_str(line).map_err(|error| {
            format!("not understood: {error}; send {{\"ask\": \"text\", \"id\": 1}} or {{\"command\": \"status\"}}")
        });
        let result = request.and_then(|request| self.understood(request));
        result.unwrap_or_else(|reason| {
            let id = serde_json::from_str::<Named>(line).ok().and_then(|named| named.id);
            self.printer.error_of(id, &reason);
            false
        })
    }

    fn understood(&mut self, mut request: Request) -> Result<bool, String> {
        match (request.ask.take(), request.chat.take(), request.command.take()) {
            (Some(text), None, None) => self.asked(text, request.raw, &request),
            (None, Some(text), None) => self.turn(text, &request),
            (None, None, Some(command)) => {
                let command = if request.store && command.trim() == "reset" {
                    "reset --store".to_string()
                } else {
                    command
                };
                match console::parse(&command).map_err(|error| error.to_string())? {
                    Some(Line { command: Command::Ask(text), bare: false, .. }) => {
                        self.asked(text, request.raw, &request)
                    }
                    Some(Line { command: Command::Raw(text), .. }) => {
                        self.asked(text, Some(true), &request)
                    }
                    Some(Line { command: Command::Chat(text), .. }) => self.turn(text, &request),
                    Some(Line { command: Command::New, .. }) => {
                        let name = request.name();
                        self.queue.forget(&name);
                        self.done("new", "a new conversation");
                        Ok(false)
                    }
                    Some(Line { command, bare: false, .. }) => self.execute(command),
                    _ => Err(format!(
                        "\"command\" is one of the console's: {}",
                        console::words().collect::<Vec<_>>().join(", ")
                    )),
                }
            }
            _ => Err("a request has one of \"ask\", \"chat\" and \"command\"".to_string()),
        }
    }

    fn asked(
        &mut self,
        text: String,
        raw: Option<bool>,
        request: &Request,
    ) -> Result<bool, String> {
        if request.conversation.is_some() {
            return Err("\"conversation\" belongs to \"chat\": ask remembers nothing".to_string());
        }
        let wanted = self.single(text, raw);
        if (request.system.is_some() || self.has_system_text)
            && matches!(wanted, Ok(Wanted::Completion(_)))
        {
            return Err(
                "\"system\" has a place in chats only, and this completes the text: say \"chat\", or \"raw\": false".to_string()
            );
        }
        self.prompt(wanted, request)
    }

    fn turn(&mut self, text: String, request: &Request) -> Result<bool, String> {
        if request.raw.is_some() {
            return Err(
                "\"raw\" belongs to \"ask\": a conversation is in the model's chat template"
                    .to_string(),
            );
        }
        self.prompt(Ok(Wanted::Turn { name: request.name(), text }), request)
    }

    /// Takes a prompt. An invalid request is an error; a valid one that cannot be answered fails
    /// its prompt.
    fn prompt(
        &mut self,
        wanted: Result<Wanted, String>,
        request: &Request,
    ) -> Result<bool, String> {
        let settings = request.settings(&self.settings)?;
        let wanted = wanted.and_then(|wanted| match &wanted {
            Wanted::Completion(text) | Wanted::Single(text) | Wanted::Turn { text, .. }
                if text.trim().is_empty() =>
            {
                Err("the prompt is empty: give some text".to_string())
            }
            _ => Ok(wanted),
        });
        match (wanted, request.id) {
            (Ok(wanted), id) => self.want(id, wanted, settings)?,
            (Err(reason), Some(id)) if !self.queue.is_in_use(id) => {
                self.printer.failed(AskId(id), &reason)
            }
            (Err(reason), _) => return Err(reason),
        }
        Ok(false)
    }
}

impl Request {
    fn name(&self) -> String {
        match &self.conversation {
            None => String::new(),
            Some(Name::Text(name)) => name.clone(),
            Some(Name::Number(number)) => number.to_string(),
        }
    }

    /// The settings for this answer: the console's `usual` ones with the request's changes.
    fn settings(&self, usual: &Settings) -> Result<Settings, String> {
        let mut settings = usual.clone();
        let given = [
            ("max-tokens", self.max_tokens.map(|value| value.to_string())),
            ("temperature", self.temperature.map(|value| value.to_string())),
            ("top-k", self.top_k.map(|value| value.to_string())),
            ("top-p", self.top_p.map(|value| value.to_string())),
            ("seed", self.seed.map(|value| value.to_string())),
            ("repeat-penalty", self.repeat_penalty.map(|value| value.to_string())),
            ("repeat-last-n", self.repeat_last_n.map(|value| value.to_string())),
            ("drop-oldest", self.drop_oldest.map(|value| value.to_string())),
        ];
        for (name, value) in given {
            if let Some(value) = value {
                settings.set(name, &value)?;
            }
        }
        if let Some(system) = &self.system {
            settings.system = console::system(Some(system.clone()))?;
        }
        match &self.stop {
            None => {}
            Some(Stops::One(text)) => settings.stop = console::stops(vec![text.clone()])?,
            Some(Stops::Several(texts)) => settings.stop = console::stops(texts.clone())?,
        }
        Ok(settings)
    }
}
