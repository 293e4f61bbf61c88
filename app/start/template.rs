//! Reads a model's chat template in a separate process: a template is a program from a file, and
//! whatever it does, the node survives.
//!
//! The process is this binary again, with a command that the help does not show. Its memory, CPU
//! time and output are limited. A template that needs more, or crashes the process, is not
//! followed, and a note says so.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

use crate::answers::{Form, Pattern, TemplateFault};
use crate::limits::{MAX_PATTERN_BYTES, MAX_TEMPLATE_BYTES};
use crate::model::Opened;

/// The command that reads it: `commands/read_template.rs`.
pub(crate) const READ_TEMPLATE: &str = "read-template";

/// The chat format of a model, and a note if its template cannot be followed.
pub(crate) fn form(opened: &Opened) -> (Form, Option<String>) {
    let source = match opened.gguf.text("tokenizer.chat_template") {
        Ok(Some(source)) if !source.trim().is_empty() => source,
        _ => return (Form::gemma(false), None),
    };
    match read(source) {
        Ok(pattern) => (Form::of(pattern), None),
        Err(reason) => {
            let note = format!(
                "the chat template in the model's file is not followed: {reason}. Chats use Gemma's format instead"
            );
            (Form::gemma(true), Some(note))
        }
    }
}

/// What a template produces, or why it cannot be followed.
fn read(source: &str) -> Result<Pattern, String> {
    if source.len() > MAX_TEMPLATE_BYTES {
        return Err(TemplateFault::TooLong(source.len()).to_string());
    }
    let unread =
        |error: io::Error| format!("the process that reads it cannot be started ({error})");
    let program = std::env::current_exe().map_err(unread)?;
    let mut command = Command::new(program);
    command.arg(READ_TEMPLATE).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(unread)?;
    // The process reads everything before it writes. If it has ended already, its output
    // is incomplete.
    let _ = child.stdin.take().map(|mut input| input.write_all(source.as_bytes()));
    let mut said = Vec::new();
    if let Some(output) = child.stdout.take() {
        let _ = output.take(MAX_PATTERN_BYTES as u64).read_to_end(&mut said);
    }
    let ended = child.wait().map_err(unread)?;
    let read = serde_json::from_slice::<Result<Pattern, TemplateFault>>(&said)
        .ok()
        .filter(|_| ended.success());
    let read =
        read.ok_or_else(|| "it needs more memory, time or stack than allowed".to_string())?;
    read.map_err(|fault| fault.to_string())
}
