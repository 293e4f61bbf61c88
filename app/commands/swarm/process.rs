//! One node of the swarm: a `potluck run --json` process and its events.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::id::{NodeId, TokenId};
use crate::start::without_settings;

use super::{ANSWER_TIMEOUT, SwarmError};

/// The events of a node, with only the fields that are used here.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Said {
    Ready {},
    Progress {},
    Text {},
    Done { id: u64, text: String, tokens: Vec<TokenId>, figures: SaidFigures },
    Failed { reason: String },
    Status { status: SaidStatus },
    Note {},
    Error { reason: String },
}

#[derive(Deserialize)]
pub(super) struct SaidFigures {
    pub prompt_tokens: usize,
    pub own: usize,
    pub peers: Vec<(NodeId, usize)>,
    pub computed: usize,
    pub ttft_ms: u64,
    pub ttlt_ms: u64,
}

#[derive(Deserialize)]
pub(super) struct SaidStatus {
    pub node: NodeId,
    pub generation: u64,
    pub told: bool,
    pub peers: Vec<SaidPeer>,
}

#[derive(Deserialize)]
pub(super) struct SaidPeer {
    pub node: NodeId,
    pub generation: u64,
    pub current: bool,
}

pub(super) struct Answer {
    pub text: String,
    pub tokens: Vec<TokenId>,
    pub figures: SaidFigures,
}

/// One `potluck run --json` process, ended when this is dropped.
pub(super) struct NodeProcess {
    pub name: String,
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl NodeProcess {
    pub(crate) fn start(
        name: &str,
        model: &Path,
        sharing: Option<(u16, u64)>,
    ) -> Result<NodeProcess, SwarmError> {
        let program = std::env::current_exe().map_err(SwarmError::Start)?;
        let mut command = Command::new(program);
        without_settings(&mut command)
            .args(["run", "--json", "--interface", "127.0.0.1", "--model"])
            .arg(model);
        match sharing {
            Some((port, id)) => {
                command.arg("--port").arg(port.to_string()).arg("--id").arg(format!("{id:x}"))
            }
            None => command.args(["--alone", "--no-reuse"]),
        };
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(SwarmError::Start)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            unreachable!("both are piped");
        };
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(NodeProcess { name: name.to_string(), child, input, lines })
    }

    fn hear(&mut self) -> Result<Said, SwarmError> {
        loop {
            let line = self.lines.recv_timeout(ANSWER_TIMEOUT).map_err(|error| match error {
                RecvTimeoutError::Timeout => SwarmError::Silent(self.name.clone()),
                RecvTimeoutError::Disconnected => SwarmError::Ended(self.name.clone()),
            })?;
            match serde_json::from_str(&line) {
                Ok(Said::Failed { reason } | Said::Error { reason }) => {
                    return Err(SwarmError::Refused(self.name.clone(), reason));
                }
                Ok(Said::Progress {} | Said::Text {} | Said::Note {}) => {}
                Ok(said) => return Ok(said),
                Err(error) => {
                    return Err(SwarmError::Refused(
                        self.name.clone(),
                        format!("{error} in {line}"),
                    ));
                }
            }
        }
    }

    fn say(&mut self, request: &serde_json::Value) -> Result<(), SwarmError> {
        writeln!(self.input, "{request}").map_err(|_| SwarmError::Ended(self.name.clone()))
    }

    pub(crate) fn ready(&mut self) -> Result<(), SwarmError> {
        loop {
            if let Said::Ready {} = self.hear()? {
                return Ok(());
            }
        }
    }

    pub(crate) fn ask(
        &mut self,
        number: u64,
        text: &str,
        max_tokens: usize,
    ) -> Result<Answer, SwarmError> {
        self.say(&serde_json::json!({ "ask": text, "raw": true, "id": number, "max_tokens": max_tokens }))?;
        loop {
            if let Said::Done { id, text, tokens, figures } = self.hear()?
                && id == number
            {
                return Ok(Answer { text, tokens, figures });
            }
        }
    }

    pub(crate) fn status(&mut self) -> Result<SaidStatus, SwarmError> {
        self.say(&serde_json::json!({ "command": "status" }))?;
        loop {
            if let Said::Status { status } = self.hear()? {
                return Ok(status);
            }
        }
    }
}

impl Drop for NodeProcess {
    #[expect(clippy::disallowed_methods, reason = "a process does not say when it has ended")]
    fn drop(&mut self) {
        let _ = self.say(&serde_json::json!({ "command": "quit" }));
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
