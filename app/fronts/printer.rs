//! A node's output for a person or a program: text streamed to a terminal, or one JSON object
//! a line.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::rc::Rc;

use crate::answers::Answer;
use crate::config::Place;
use crate::console::{Permissions, harmless};
use crate::node::{AskId, Figures, Progress, Reply, StopReason};

use super::event::{Around, Event, FiguresReport, Rates};
use super::output_queue::{OutputQueue, Streams};
use super::terminal::OutputError;
use super::tty::Tty;

/// The form of the output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// For a person.
    Text,
    /// For a program.
    Json,
}

/// An answer being output.
struct OpenAnswer {
    form: Form,
    /// None if only the figures are wanted, for the command `bench`.
    answer: Option<Answer<'static>>,
    around: Around,
}

/// Where output goes.
enum Sink {
    /// Standard output and standard error.
    Streams {
        streams: Streams,
        line: Line,
        /// Whether a person sees answers stream.
        watched: bool,
        /// Whether a person types the prompts.
        typed: bool,
        /// Whether a person watches standard error.
        noted: bool,
    },
    /// A terminal with line editing.
    Tty(Rc<Tty>),
}

/// What a terminal's last line shows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Empty,
    /// A streaming answer.
    Answer,
    /// The prompt sign.
    Sign,
    /// A prompt's progress, this many columns wide, on standard error.
    Progress(usize),
}

/// Turns the node's replies into output.
///
/// Requested output, above all answers, goes to standard output. In text form everything else goes
/// to standard error, so that a pipe gets only the answers, and is marked: `·` a note, `!` an
/// error, `[...]` an answer's figures.
pub(crate) struct Printer {
    /// The form of output from now on.
    pub form: Form,
    /// The machine whose pace is simulated, if any.
    pub pace: Option<Rc<str>>,
    /// Where people change settings, for the wording of messages.
    pub place: Place,
    sink: Sink,
    answers: BTreeMap<u64, OpenAnswer>,
}

impl Printer {
    /// Writes to standard output and standard error, and blocks until done.
    pub(crate) fn to_streams(form: Form) -> Printer {
        Printer::to(Streams::direct(), form)
    }

    /// The same, but never blocks: output that nobody reads is dropped eventually, and reported.
    pub(super) fn through(queue: OutputQueue, form: Form) -> Printer {
        Printer::to(Streams::through(queue), form)
    }

    /// The same for output that no person watches, regardless of this program's own streams.
    pub(super) fn plain(queue: OutputQueue, form: Form) -> Printer {
        let streams = Streams::through(queue);
        let sink = Sink::Streams {
            streams,
            line: Line::Empty,
            watched: false,
            typed: false,
            noted: false,
        };
        Printer { form, pace: None, place: Place::Computer, sink, answers: BTreeMap::new() }
    }

    fn to(streams: Streams, form: Form) -> Printer {
        let watched = form == Form::Text && io::stdout().is_terminal();
        let noted = form == Form::Text && io::stderr().is_terminal();
        let typed = noted && io::stdin().is_terminal();
        let sink = Sink::Streams { streams, line: Line::Empty, watched, typed, noted };
        Printer { form, pace: None, place: Place::Computer, sink, answers: BTreeMap::new() }
    }

    /// Writes to a terminal.
    pub(super) fn to_tty(tty: Rc<Tty>) -> Printer {
        Printer {
            form: Form::Text,
            pace: None,
            place: Place::Computer,
            sink: Sink::Tty(tty),
            answers: BTreeMap::new(),
        }
    }

    /// Fails if a write has failed since the last call. Reports dropped output once there is room.
    pub(crate) fn check(&mut self) -> Result<(), OutputError> {
        let Sink::Streams { streams, .. } = &mut self.sink else { return Ok(()) };
        streams.check()?;
        if let Some(count) = streams.recovered() {
            self.note(
                '!',
                &format!("{count} pieces of output were left out: nobody read them in time"),
            );
        }
        Ok(())
    }

    /// Waits while too much output is unread to take more input. Does not wait for programs, which
    /// must read what they ask for.
    pub(super) async fn has_room(&self) {
        if let Sink::Streams { streams, .. } = &self.sink
            && self.form == Form::Text
        {
            streams.has_room().await;
        }
    }

    /// Waits until everything is written, or nothing more can be.
    pub(super) async fn drained(&self) {
        if let Sink::Streams { streams, .. } = &self.sink {
            streams.drained().await;
        }
    }

    /// Whether a person types the prompts.
    pub(super) fn is_typed(&self) -> bool {
        matches!(self.sink, Sink::Tty(_) | Sink::Streams { typed: true, .. })
    }

    /// Sets whether the next lines continue a prompt.
    pub(super) fn continues(&mut self, continues: bool) {
        if let Sink::Tty(tty) = &self.sink {
            tty.with(|screen| screen.set_continues(continues));
        }
    }

    /// Sets which commands are allowed on this console.
    pub(super) fn permissions(&mut self, permissions: Permissions) {
        if let Sink::Tty(tty) = &self.sink {
            tty.with(|screen| screen.set_permissions(permissions));
        }
    }

    /// Shows the prompt sign, if a person types.
    pub(super) fn invite(&mut self) {
        match &mut self.sink {
            Sink::Tty(tty) => tty.with(|screen| screen.invite()),
            Sink::Streams { streams, line: line @ Line::Empty, typed: true, .. } => {
                streams.eprint("> ");
                *line = Line::Sign;
            }
            Sink::Streams { .. } => {}
        }
    }

    /// Records that a person entered a line, which ended the row.
    pub(super) fn entered(&mut self) {
        if let Sink::Streams { line: line @ Line::Sign, .. } = &mut self.sink {
            *line = Line::Empty;
        }
    }

    /// Outputs a command's result: as text for a person, as an event for a program.
    pub(super) fn print(&mut self, event: &Event<'_>, text: &str) {
        if self.form == Form::Json {
            return self.json(event);
        }
        // Both go to standard output: must not break into a streaming answer's line.
        let is_under_way =
            matches!(self.sink, Sink::Streams { line: Line::Answer, watched: false, .. });
        self.begin_line();
        match &mut self.sink {
            Sink::Tty(tty) => tty.with(|screen| screen.say(text.trim_end())),
            Sink::Streams { streams, .. } => {
                let begin = if is_under_way { "\n" } else { "" };
                streams.print(format_args!("{begin}{}\n", text.trim_end()));
            }
        }
    }

    /// Outputs a note.
    pub(crate) fn note(&mut self, mark: char, line: &str) {
        let line = &*self.place.words(line);
        match &self.sink {
            Sink::Tty(tty) if self.form == Form::Text => {
                tty.with(|screen| screen.note(&format!("{mark} {line}")))
            }
            _ => self.say(&Event::Note { text: line }, mark, line),
        }
    }

    /// Reports invalid input.
    pub(crate) fn error(&mut self, reason: &str) {
        self.error_of(None, reason);
    }

    /// The same for the request with this id.
    pub(super) fn error_of(&mut self, id: Option<u64>, reason: &str) {
        let reason = &*self.place.words(reason);
        self.say(&Event::Error { id, reason }, '!', reason);
    }

    /// Begins an answer in the current form; none if only the figures are wanted.
    pub(crate) fn begin(&mut self, ask: AskId, answer: Option<Answer<'static>>) {
        self.answers
            .insert(ask.0, OpenAnswer { form: self.form, answer, around: Around::default() });
    }

    /// Adds times measured outside the node to an answer that has begun.
    pub(super) fn measured(&mut self, ask: AskId, around: Around) {
        if let Some(given) = self.answers.get_mut(&ask.0) {
            given.around = around;
        }
    }

    /// Reports that a prompt gets no answer.
    pub(super) fn failed(&mut self, ask: AskId, reason: &str) {
        let reason = &*self.place.words(reason);
        let before = self.form;
        self.form = self.answers.remove(&ask.0).map_or(before, |answer| answer.form);
        self.say(&Event::Failed { id: ask.0, reason }, '!', &format!("no answer: {reason}"));
        self.form = before;
    }

    /// Outputs a reply. If it ends a prompt, returns the answer; the inner value is none if the
    /// prompt failed or was a measurement.
    pub(crate) fn reply(&mut self, ask: AskId, reply: &Reply) -> Option<Option<Answer<'static>>> {
        match reply {
            Reply::Progress(progress) => {
                self.progress(ask, progress);
                None
            }
            Reply::Token(token) => {
                let OpenAnswer { form, answer, .. } = self.answers.get_mut(&ask.0)?;
                let (form, text) = (*form, answer.as_mut()?.push(*token));
                self.stream(ask, &text, form);
                None
            }
            Reply::Done(figures) => {
                let OpenAnswer { form, mut answer, around } = self.answers.remove(&ask.0)?;
                let rest = answer.as_mut().map_or(String::new(), Answer::end);
                self.stream(ask, &rest, form);
                let before = std::mem::replace(&mut self.form, form);
                match &answer {
                    None => self.bench(figures),
                    Some(answer) if form == Form::Json => {
                        let pace = self.pace.clone();
                        let figures = FiguresReport { figures, around, pace: pace.as_deref() };
                        self.json(&Event::Done {
                            id: ask.0,
                            text: answer.text(),
                            tokens: answer.tokens(),
                            figures,
                        });
                    }
                    Some(_) => self.end_answer(figures),
                }
                self.form = before;
                Some(answer)
            }
            Reply::Failed(reason) => {
                self.failed(ask, &reason.to_string());
                Some(None)
            }
        }
    }

    /// Shows a prompt's progress to a person who watches, or to a program. A pipe gets none.
    pub(crate) fn progress(&mut self, ask: AskId, progress: &Progress) {
        if self.answers.get(&ask.0).is_some_and(|given| given.form == Form::Json) {
            return self.json(&Event::Progress { id: ask.0, progress });
        }
        let text = format!("· {progress}");
        match &mut self.sink {
            Sink::Tty(tty) => tty.with(|screen| screen.progress(&text)),
            Sink::Streams {
                streams,
                line: line @ (Line::Empty | Line::Progress(_)),
                noted: true,
                ..
            } => {
                let before = if let Line::Progress(columns) = *line { columns } else { 0 };
                streams.eprint(format_args!("\r{text:before$}"));
                *line = Line::Progress(before.max(text.chars().count()));
            }
            Sink::Streams { .. } => {}
        }
    }

    fn stream(&mut self, ask: AskId, text: &str, form: Form) {
        if text.is_empty() {
            return;
        }
        if form == Form::Json {
            return self.json(&Event::Text { id: ask.0, text });
        }
        if let Sink::Tty(tty) = &self.sink {
            return tty.with(|screen| screen.answer(text));
        }
        if let Sink::Streams { line: Line::Sign | Line::Progress(_), .. } = self.sink {
            self.begin_line();
        }
        if let Sink::Streams { streams, line, watched, .. } = &mut self.sink {
            *line = Line::Answer;
            if *watched { streams.print(harmless(text)) } else { streams.print(text) }
        }
    }

    fn end_answer(&mut self, figures: &Figures) {
        if let Sink::Streams { line: Line::Progress(_), .. } = self.sink {
            self.begin_line();
        }
        let pace = self.pace.as_ref().map_or(String::new(), |pace| format!("; PACED AS {pace}"));
        match &mut self.sink {
            Sink::Tty(tty) => tty.with(|screen| {
                screen.end_answer();
                screen.say(&format!("[{figures}{pace}]"));
            }),
            Sink::Streams { streams, line, .. } => {
                *line = Line::Empty;
                streams.print("\n");
                streams.eprint(format_args!("[{figures}{pace}]\n"));
            }
        }
    }

    fn bench(&mut self, figures: &Figures) {
        if figures.stop == StopReason::Stopped {
            return self.error("bench was stopped: nothing was measured");
        }
        let bench = Rates {
            prefill_tokens: figures.prompt_tokens,
            prefill_tokens_per_s: figures.prompt_tokens as f64 * 1e3
                / figures.ttft_ms.max(1) as f64,
            decode_tokens: figures.generated,
            decode_tokens_per_s: figures.tokens_per_s(),
        };
        let decode = bench
            .decode_tokens_per_s
            .map_or("not measured".to_string(), |rate| format!("{rate:.1} tokens/s"));
        let text = format!(
            "prefill  {:.1} tokens/s, over {} tokens\ndecode   {decode}, over {} tokens",
            bench.prefill_tokens_per_s, bench.prefill_tokens, bench.decode_tokens
        );
        let pace = self.pace.clone();
        let text = pace.as_ref().map_or(text.clone(), |pace| {
            format!("{text}\npaced    as {pace}: not this machine's figures")
        });
        self.print(&Event::Bench { bench, pace: pace.as_deref() }, &text);
    }

    /// Outputs something other than a requested result.
    pub(crate) fn say(&mut self, event: &Event<'_>, mark: char, text: &str) {
        if self.form == Form::Json {
            return self.json(event);
        }
        self.begin_line();
        match &mut self.sink {
            Sink::Tty(tty) => tty.with(|screen| screen.say(&format!("{mark} {text}"))),
            Sink::Streams { streams, .. } => streams.eprint(format_args!("{mark} {text}\n")),
        }
    }

    fn json(&mut self, event: &Event<'_>) {
        let line = event.line();
        // Must not break into the line of an answer that streams as text.
        if let Sink::Streams { streams, line: under_way @ Line::Answer, watched: false, .. } =
            &mut self.sink
        {
            streams.print("\n");
            *under_way = Line::Empty;
        }
        match &mut self.sink {
            Sink::Tty(tty) => tty.with(|screen| screen.say(&line)),
            Sink::Streams { streams, .. } => streams.print(line + "\n"),
        }
    }

    /// Ends or erases what the last line shows.
    fn begin_line(&mut self) {
        let Sink::Streams { streams, line, watched, .. } = &mut self.sink else { return };
        match line {
            Line::Empty => {}
            Line::Answer if *watched => streams.eprint("\n"),
            Line::Answer => {}
            Line::Sign => streams.eprint("\r\x1b[K"),
            Line::Progress(columns) => {
                streams.eprint(format_args!("\r{:columns$}\r", "", columns = *columns))
            }
        }
        *line = Line::Empty;
    }
}

impl Drop for Printer {
    /// Puts the shell's prompt on a line of its own.
    fn drop(&mut self) {
        match &mut self.sink {
            Sink::Streams { streams, line: Line::Answer | Line::Sign, typed: true, .. } => {
                streams.eprint("\n")
            }
            Sink::Streams { line: Line::Progress(_), .. } => self.begin_line(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::id::{Fingerprint, NodeId};

    #[test]
    fn ids_read_the_same_in_json_as_on_the_console_and_lose_no_bit() {
        let node = NodeId(0xfedc_ba98_7654_3211);
        let json = serde_json::to_string(&node).unwrap();
        assert_eq!(json, "\"fedcba9876543211\"");
        assert_eq!(serde_json::from_str::<NodeId>(&json).unwrap(), node);
        let fingerprint = Fingerprint(std::array::from_fn(|at| at as u8));
        let json = serde_json::to_string(&fingerprint).unwrap();
        assert_eq!(json, format!("\"{fingerprint}\""));
        assert_eq!(serde_json::from_str::<Fingerprint>(&json).unwrap(), fingerprint);
        for wrong in ["12", "\"12\"", "\"+fedcba987654321\"", "\"fedcba9876543210f\"", "\"node\""] {
            assert!(serde_json::from_str::<NodeId>(wrong).is_err(), "{wrong}");
        }
    }
}
