//! What a node says, for a person or for a program: text streamed to a terminal, or one JSON object a line.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::rc::Rc;

use crate::answers::Answer;
use crate::config::Place;
use crate::console::{May, harmless};
use crate::node::{AskId, Figures, Progress, Reply, StopReason};

use super::event::{Around, Event, FiguresReport, Rates};
use super::outlet::{Outlet, Streams};
use super::terminal::OutputError;
use super::tty::Tty;

/// How to speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// To a person.
    Text,
    /// To a program.
    Json,
}

/// An answer that is being given.
struct Given {
    form: Form,
    /// None where only the figures are wanted: the command bench.
    answer: Option<Answer<'static>>,
    around: Around,
}

/// Where it is said.
enum Sink {
    /// Standard output and standard error.
    Streams {
        streams: Streams,
        line: Line,
        /// Whether a person sees the answers come.
        watched: bool,
        /// Whether a person types the prompts.
        typed: bool,
        /// Whether a person sees what stands on standard error, as it comes.
        noted: bool,
    },
    /// A terminal that is edited on.
    Tty(Rc<Tty>),
}

/// What stands on a terminal's last line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Empty,
    /// An answer that is still being streamed.
    Answer,
    /// The sign that a prompt may be typed.
    Sign,
    /// How far a prompt has come, in so many columns of standard error.
    Progress(usize),
}

/// Turns the node's words into output.
///
/// What was asked for, answers before all, goes to standard output. In text form everything else goes to standard error, so that
/// a pipe gets the answers alone, and is marked: `·` a note, `!` what went wrong, `[...]` an answer's figures.
pub(crate) struct Speaker {
    /// How what is said now is said.
    pub form: Form,
    /// Whose times its figures are, where not this machine's.
    pub pace: Option<Rc<str>>,
    /// Where people set what messages tell them to.
    pub place: Place,
    sink: Sink,
    answers: BTreeMap<u64, Given>,
}

impl Speaker {
    /// Speaks to standard output and standard error, and waits until it is written.
    pub(crate) fn to_streams(form: Form) -> Speaker {
        Speaker::to(Streams::direct(), form)
    }

    /// The same, but never waits: what nobody reads is left out in the end, and that is said.
    pub(super) fn through(outlet: Outlet, form: Form) -> Speaker {
        Speaker::to(Streams::through(outlet), form)
    }

    /// The same where no person looks on, whatever this program's own output is.
    pub(super) fn plain(outlet: Outlet, form: Form) -> Speaker {
        let streams = Streams::through(outlet);
        let sink = Sink::Streams { streams, line: Line::Empty, watched: false, typed: false, noted: false };
        Speaker { form, pace: None, place: Place::Computer, sink, answers: BTreeMap::new() }
    }

    fn to(streams: Streams, form: Form) -> Speaker {
        let watched = form == Form::Text && io::stdout().is_terminal();
        let noted = form == Form::Text && io::stderr().is_terminal();
        let typed = noted && io::stdin().is_terminal();
        let sink = Sink::Streams { streams, line: Line::Empty, watched, typed, noted };
        Speaker { form, pace: None, place: Place::Computer, sink, answers: BTreeMap::new() }
    }

    /// Speaks to a terminal.
    pub(super) fn to_tty(tty: Rc<Tty>) -> Speaker {
        Speaker { form: Form::Text, pace: None, place: Place::Computer, sink: Sink::Tty(tty), answers: BTreeMap::new() }
    }

    /// Fails when something could not be written since it was last asked. Says what was left out, once there is somebody to say it to.
    pub(crate) fn check(&mut self) -> Result<(), OutputError> {
        let Sink::Streams { streams, .. } = &mut self.sink else { return Ok(()) };
        streams.check()?;
        if let Some(count) = streams.recovered() {
            self.note('!', &format!("{count} pieces of output were left out: nobody read them in time"));
        }
        Ok(())
    }

    /// Waits while so much is unread that no more should be asked for. A program is to read what it asks for.
    pub(super) async fn has_room(&self) {
        if let Sink::Streams { streams, .. } = &self.sink
            && self.form == Form::Text
        {
            streams.has_room().await;
        }
    }

    /// Waits until everything is out, or nothing more can be written.
    pub(super) async fn drained(&self) {
        if let Sink::Streams { streams, .. } = &self.sink {
            streams.drained().await;
        }
    }

    /// Whether a person types the prompts.
    pub(super) fn is_typed(&self) -> bool {
        matches!(self.sink, Sink::Tty(_) | Sink::Streams { typed: true, .. })
    }

    /// Says whether the lines that follow belong to a prompt that has begun.
    pub(super) fn continues(&mut self, continues: bool) {
        if let Sink::Tty(tty) = &self.sink {
            tty.with(|screen| screen.set_continues(continues));
        }
    }

    /// Says what may be done on this console.
    pub(super) fn may(&mut self, may: May) {
        if let Sink::Tty(tty) = &self.sink {
            tty.with(|screen| screen.set_may(may));
        }
    }

    /// Says that the node waits for a line, where one is typed.
    pub(super) fn invite(&mut self) {
        match &mut self.sink {
            Sink::Tty(tty) => tty.with(|screen| screen.invite()),
            Sink::Streams { streams, line: line @ Line::Empty, typed: true, .. } => {
                streams.tell("> ");
                *line = Line::Sign;
            }
            Sink::Streams { .. } => {}
        }
    }

    /// A line was entered: whoever typed it ended the line.
    pub(super) fn entered(&mut self) {
        if let Sink::Streams { line: line @ Line::Sign, .. } = &mut self.sink {
            *line = Line::Empty;
        }
    }

    /// Gives what a command asked for: to a person as text, to a program as an event.
    pub(super) fn give(&mut self, event: &Event<'_>, text: &str) {
        if self.form == Form::Json {
            return self.json(event);
        }
        // Both go to standard output: an answer that is under way is not torn in mid-line.
        let is_under_way = matches!(self.sink, Sink::Streams { line: Line::Answer, watched: false, .. });
        self.begin_line();
        match &mut self.sink {
            Sink::Tty(tty) => tty.with(|screen| screen.say(text.trim_end())),
            Sink::Streams { streams, .. } => {
                let begin = if is_under_way { "\n" } else { "" };
                streams.give(format_args!("{begin}{}\n", text.trim_end()));
            }
        }
    }

    /// A line for the log.
    pub(crate) fn note(&mut self, mark: char, line: &str) {
        let line = &*self.place.words(line);
        match &self.sink {
            Sink::Tty(tty) if self.form == Form::Text => tty.with(|screen| screen.note(&format!("{mark} {line}"))),
            _ => self.say(&Event::Note { text: line }, mark, line),
        }
    }

    /// What was typed or requested is of no use.
    pub(crate) fn error(&mut self, reason: &str) {
        self.error_of(None, reason);
    }

    /// The same of the request with this id.
    pub(super) fn error_of(&mut self, id: Option<u64>, reason: &str) {
        let reason = &*self.place.words(reason);
        self.say(&Event::Error { id, reason }, '!', reason);
    }

    /// Begins an answer, in the form that is spoken now; none where only the figures are wanted.
    pub(crate) fn begin(&mut self, ask: AskId, answer: Option<Answer<'static>>) {
        self.answers.insert(ask.0, Given { form: self.form, answer, around: Around::default() });
    }

    /// What was measured around the node before an answer that has begun.
    pub(super) fn measured(&mut self, ask: AskId, around: Around) {
        if let Some(given) = self.answers.get_mut(&ask.0) {
            given.around = around;
        }
    }

    /// A prompt gets no answer.
    pub(super) fn failed(&mut self, ask: AskId, reason: &str) {
        let reason = &*self.place.words(reason);
        let before = self.form;
        self.form = self.answers.remove(&ask.0).map_or(before, |answer| answer.form);
        self.say(&Event::Failed { id: ask.0, reason }, '!', &format!("no answer: {reason}"));
        self.form = before;
    }

    /// Passes a reply on. When it ends an answer, gives the answer; none when it failed, or was only measured.
    pub(crate) fn reply(&mut self, ask: AskId, reply: &Reply) -> Option<Option<Answer<'static>>> {
        match reply {
            Reply::Progress(progress) => {
                self.progress(ask, progress);
                None
            }
            Reply::Token(token) => {
                let Given { form, answer, .. } = self.answers.get_mut(&ask.0)?;
                let (form, text) = (*form, answer.as_mut()?.push(*token));
                self.stream(ask, &text, form);
                None
            }
            Reply::Done(figures) => {
                let Given { form, mut answer, around } = self.answers.remove(&ask.0)?;
                let rest = answer.as_mut().map_or(String::new(), Answer::end);
                self.stream(ask, &rest, form);
                let before = std::mem::replace(&mut self.form, form);
                match &answer {
                    None => self.bench(figures),
                    Some(answer) if form == Form::Json => {
                        let pace = self.pace.clone();
                        let figures = FiguresReport { figures, around, pace: pace.as_deref() };
                        self.json(&Event::Done { id: ask.0, text: answer.text(), tokens: answer.tokens(), figures });
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

    /// Shows a person who watches, or tells a program, how far a prompt has come. What a pipe gets stays what it is.
    pub(crate) fn progress(&mut self, ask: AskId, progress: &Progress) {
        if self.answers.get(&ask.0).is_some_and(|given| given.form == Form::Json) {
            return self.json(&Event::Progress { id: ask.0, progress });
        }
        let text = format!("· {progress}");
        match &mut self.sink {
            Sink::Tty(tty) => tty.with(|screen| screen.progress(&text)),
            Sink::Streams { streams, line: line @ (Line::Empty | Line::Progress(_)), noted: true, .. } => {
                let before = if let Line::Progress(columns) = *line { columns } else { 0 };
                streams.tell(format_args!("\r{text:before$}"));
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
            if *watched { streams.give(harmless(text)) } else { streams.give(text) }
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
                streams.give("\n");
                streams.tell(format_args!("[{figures}{pace}]\n"));
            }
        }
    }

    fn bench(&mut self, figures: &Figures) {
        if figures.stop == StopReason::Stopped {
            return self.error("bench was stopped: nothing was measured");
        }
        let bench = Rates {
            prefill_tokens: figures.prompt_tokens,
            prefill_tokens_per_s: figures.prompt_tokens as f64 * 1e3 / figures.ttft_ms.max(1) as f64,
            decode_tokens: figures.generated,
            decode_tokens_per_s: figures.tokens_per_s(),
        };
        let decode = bench.decode_tokens_per_s.map_or("not measured".to_string(), |rate| format!("{rate:.1} tokens/s"));
        let text = format!(
            "prefill  {:.1} tokens/s, over {} tokens\ndecode   {decode}, over {} tokens",
            bench.prefill_tokens_per_s, bench.prefill_tokens, bench.decode_tokens
        );
        let pace = self.pace.clone();
        let text = pace.as_ref().map_or(text.clone(), |pace| format!("{text}\npaced    as {pace}: not this machine's figures"));
        self.give(&Event::Bench { bench, pace: pace.as_deref() }, &text);
    }

    /// Says something beside what was asked for.
    pub(crate) fn say(&mut self, event: &Event<'_>, mark: char, text: &str) {
        if self.form == Form::Json {
            return self.json(event);
        }
        self.begin_line();
        match &mut self.sink {
            Sink::Tty(tty) => tty.with(|screen| screen.say(&format!("{mark} {text}"))),
            Sink::Streams { streams, .. } => streams.tell(format_args!("{mark} {text}\n")),
        }
    }

    fn json(&mut self, event: &Event<'_>) {
        let line = event.line();
        // An answer in words that is under way is not torn in mid-line.
        if let Sink::Streams { streams, line: under_way @ Line::Answer, watched: false, .. } = &mut self.sink {
            streams.give("\n");
            *under_way = Line::Empty;
        }
        match &mut self.sink {
            Sink::Tty(tty) => tty.with(|screen| screen.say(&line)),
            Sink::Streams { streams, .. } => streams.give(line + "\n"),
        }
    }

    /// Leaves a line that something else stands on.
    fn begin_line(&mut self) {
        let Sink::Streams { streams, line, watched, .. } = &mut self.sink else { return };
        match line {
            Line::Empty => {}
            Line::Answer if *watched => streams.tell("\n"),
            Line::Answer => {}
            Line::Sign => streams.tell("\r\x1b[K"),
            Line::Progress(columns) => streams.tell(format_args!("\r{:columns$}\r", "", columns = *columns)),
        }
        *line = Line::Empty;
    }
}

impl Drop for Speaker {
    /// Leaves the shell a line of its own.
    fn drop(&mut self) {
        match &mut self.sink {
            Sink::Streams { streams, line: Line::Answer | Line::Sign, typed: true, .. } => streams.tell("\n"),
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
