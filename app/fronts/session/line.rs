//! What becomes of a line that a console reads: it waits in the backlog, continues a prompt of
//! several lines, or is executed as a command, a request or a prompt.
//!
//! Promises: lines are executed in order, except urgent commands, which a full queue does not hold
//! up. A drastic command that is pasted among other lines is refused. A mistyped command is
//! answered with the one it resembles, and does not reach the model.

use crate::console::{self, Begun, Block, BlockError, Command, Line};

use super::{Session, Source};
use crate::fronts::lines::{self, BadLine};
use crate::fronts::printer::Form;
use crate::fronts::suggest::suggestion;

/// What a line means.
enum Begin {
    /// A quoted prompt of one line, or the end of one of several lines.
    Prompt(Result<Line, BlockError>),
    /// An ordinary line.
    Plain,
}

impl Session {
    /// Passes the line on, unless it is a drastic command that did not arrive alone.
    pub(super) async fn unless_pasted(
        &self,
        source: &Option<Source>,
        line: lines::Line,
    ) -> lines::Line {
        match (source, &line) {
            (Some(Source::Tty(tty)), Ok(text))
                if self.block.is_none() && is_drastic(text) && !tty.is_alone().await =>
            {
                Err(BadLine::Pasted)
            }
            _ => line,
        }
    }

    /// Handles a line; true if it quits. While the queue is full, lines of a pipe wait, except
    /// urgent commands.
    pub(super) fn take(&mut self, line: lines::Line) -> bool {
        if self.queue.is_full() && !self.printer.is_typed() {
            match self.urgent(&line) {
                None => {
                    self.backlog.push(line);
                    return false;
                }
                Some(Command::Stop) => return self.stop_all(),
                Some(_) => {}
            }
        }
        self.dealt_with(line)
    }

    fn dealt_with(&mut self, line: lines::Line) -> bool {
        self.printer.entered();
        let result = match line {
            Err(bad) => match &mut self.block {
                Some(block) => {
                    block.spoil(bad.remedy());
                    Ok(false)
                }
                None => Err(bad.remedy()),
            },
            Ok(line) if self.form == Form::Json => Ok(self.request(&line)),
            Ok(line) => self.line(&line),
        };
        result.unwrap_or_else(|reason| {
            self.printer.error(&reason);
            false
        })
    }

    /// The command of a line that need not wait its turn.
    fn urgent(&self, line: &lines::Line) -> Option<Command> {
        let line = line.as_ref().ok()?;
        let command = match self.form {
            Form::Json => Session::requested(line)?,
            // It may be a line of an unfinished prompt.
            Form::Text if self.block.is_some() || self.backlog.holds_block() => return None,
            Form::Text => line.clone(),
        };
        let Line { command, bare, .. } = console::parse(&command).ok()??;
        Some(command).filter(|command| !bare && command.is_urgent())
    }

    /// Stops everything asked before, the backlog included; true if one of its lines quits.
    fn stop_all(&mut self) -> bool {
        self.stop();
        let mut leaves = false;
        while let Some(line) = self.backlog.pop().filter(|_| !leaves) {
            leaves = self.dealt_with(line);
            self.stop();
        }
        leaves
    }

    /// Executes a typed line; true if it quits.
    fn line(&mut self, line: &str) -> Result<bool, String> {
        let (line, is_plain) = match self.begun(line) {
            None => return Ok(false),
            Some(Begin::Prompt(line)) => (line.map_err(|error| error.to_string())?, false),
            Some(Begin::Plain) => match console::parse(line).map_err(|error| error.to_string())? {
                None => return Ok(false),
                Some(line) => (line, true),
            },
        };
        if let Line { command: Command::Ask(text), bare: true, .. } = &line
            && is_plain
            && let Some(meant) = suggestion(text)
        {
            if meant == "quit" && !self.may_quit() {
                return self.execute(Command::Quit);
            }
            return Err(format!(
                "there is no command {text}: did you mean {meant}? To have the model answer it, type ask {text}"
            ));
        }
        let before = self.printer.form;
        if line.json {
            self.printer.form = Form::Json;
        }
        let result = match line.command {
            Command::Ask(text) if line.bare => self.said(text).map(|()| false),
            command => self.execute(command),
        };
        // The error of a `--json` line is for the program that sent it.
        let result = match result {
            Err(reason) if line.json => {
                self.printer.error(&reason);
                Ok(false)
            }
            other => other,
        };
        self.printer.form = before;
        result
    }

    /// What a line means; none if it belongs to an unfinished prompt.
    fn begun(&mut self, line: &str) -> Option<Begin> {
        let begun = match self.block.take() {
            Some(mut block) => block.push(line).map_or_else(|| Begun::Open(block), Begun::Whole),
            None => match Block::begin(line) {
                // Lines pasted together are one prompt, even if each would be a command.
                None if line.contains('\n') => Begun::Whole(Ok(console::prompt(line.to_string()))),
                None => return Some(Begin::Plain),
                Some(begun) => begun,
            },
        };
        let begun = match begun {
            Begun::Whole(line) => Some(Begin::Prompt(line)),
            Begun::Open(block) => {
                self.block = Some(block);
                None
            }
        };
        self.printer.continues(begun.is_none());
        begun
    }
}

/// Whether a line is so drastic that a person must have typed it alone. A program uses `--json`,
/// and may send lines fast.
fn is_drastic(line: &str) -> bool {
    console::parse(line)
        .is_ok_and(|line| line.is_some_and(|line| line.command.is_drastic() && !line.json))
}
