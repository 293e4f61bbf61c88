//! Reads a model's chat template in a process of its own, for a template is a program out of a file: whatever it does, the node lives.
//!
//! That process is this binary again, with a command that the help does not show. Its memory, computing time and output are bounded; a
//! template that needs more, or crashes it, is not followed, and that is said.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

use crate::answers::{Form, Pattern, TemplateFault};
use crate::limits::{MAX_PATTERN_BYTES, MAX_TEMPLATE_BYTES};
use crate::model::Opened;

/// The command that reads it: `commands/read_template.rs`.
pub(crate) const READ_TEMPLATE: &str = "read-template";

/// How a model is talked to, and what is to be said where its template cannot be followed.
pub(crate) fn form(opened: &Opened) -> (Form, Option<String>) {
    let source = match opened.gguf.text("tokenizer.chat_template") {
        Ok(Some(source)) if !source.trim().is_empty() => source,
        _ => return (Form::gemma(false), None),
    };
    match read(source) {
        Ok(pattern) => (Form::of(pattern), None),
        Err(reason) => {
            let note =
                format!("the chat template in the model's file is not followed: {reason}. Chats are in Gemma's form instead");
            (Form::gemma(true), Some(note))
        }
    }
}

/// What a template says, or why it cannot be followed.
fn read(source: &str) -> Result<Pattern, String> {
    if source.len() > MAX_TEMPLATE_BYTES {
        return Err(TemplateFault::TooLong(source.len()).to_string());
    }
    let unread = |error: io::Error| format!("no process can be started to read it ({error})");
    let program = std::env::current_exe().map_err(unread)?;
    let mut command = Command::new(program);
    command.arg(READ_TEMPLATE).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(unread)?;
    // It reads everything before it says anything; where it has ended already, it says less than is wanted.
    let _ = child.stdin.take().map(|mut input| input.write_all(source.as_bytes()));
    let mut said = Vec::new();
    if let Some(output) = child.stdout.take() {
        let _ = output.take(MAX_PATTERN_BYTES as u64).read_to_end(&mut said);
    }
    let ended = child.wait().map_err(unread)?;
    let read = serde_json::from_slice::<Result<Pattern, TemplateFault>>(&said).ok().filter(|_| ended.success());
    let read = read.ok_or_else(|| "it takes more memory, time or stack than it may".to_string())?;
    read.map_err(|fault| fault.to_string())
}
