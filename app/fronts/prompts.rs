//! The prompts of a console, on their way from input to the node, and the answers that a
//! conversation keeps.

use std::time::Instant;

use crate::answers::{Answer, AnswerSettings, PromptEncoding, Ready, Wanted};
use crate::console::Settings;
use crate::node::{AskId, Figures, Reply, StopReason};

use super::event::Around;
use super::host::Running;
use super::printer::Form;
use super::session::Session;

/// How to make and output one answer.
pub(super) struct Asking {
    settings: Settings,
    form: Form,
}

impl AnswerSettings for Asking {
    fn max_tokens(&self) -> usize {
        self.settings.max_tokens
    }

    fn drops_oldest(&self) -> bool {
        self.settings.drop_oldest
    }

    fn system(&self) -> Option<&str> {
        self.settings.system.as_deref()
    }
}

impl Session {
    /// Takes a line without a command: a turn for a chat model, else a text to complete.
    pub(super) fn said(&mut self, text: String) -> Result<(), String> {
        let is_chat = self.host.running()?.form.is_chat_model() && !self.settings.raw;
        let wanted = if is_chat {
            Wanted::Turn { name: String::new(), text }
        } else {
            Wanted::Completion(text)
        };
        self.want(None, wanted, self.settings.clone())
    }

    /// A prompt answered by itself: in the chat template for a chat model, unless `raw`
    /// says otherwise.
    pub(super) fn single(&self, text: String, raw: Option<bool>) -> Result<Wanted, String> {
        let is_chat_model = self.host.running()?.form.is_chat_model();
        let raw = raw.unwrap_or(self.settings.raw || !is_chat_model);
        Ok(if raw { Wanted::Completion(text) } else { Wanted::Single(text) })
    }

    /// Queues a prompt.
    pub(super) fn want(
        &mut self,
        id: Option<u64>,
        wanted: Wanted,
        settings: Settings,
    ) -> Result<(), String> {
        let running = self.host.running()?;
        let note = match &wanted {
            Wanted::Completion(text) | Wanted::Single(text) | Wanted::Turn { text, .. } => {
                running.tokenizer.marker_note(text)
            }
            Wanted::Measurement(_) => None,
        };
        self.queue
            .take(id, wanted, Asking { settings, form: self.printer.form })
            .map_err(|error| error.to_string())?;
        note.iter().for_each(|note| self.printer.note('·', note));
        self.advance();
        Ok(())
    }

    /// Gives the node the next prompt, if it has none from this console.
    fn advance(&mut self) {
        let Ok(running) = self.host.running() else { return };
        let Running { tokenizer, ref form, context, most_context, .. } = *running;
        let encoding = PromptEncoding { tokenizer, form, context, most_context };
        loop {
            let start = Instant::now();
            let Some(next) = self.queue.next(encoding) else { break };
            let tokenising_us = Some(start.elapsed().as_micros() as u64);
            match next {
                Ok(ready) => self.give_to_node(&running, ready, tokenising_us),
                Err((id, Asking { form, .. }, error)) => {
                    self.in_form(form, |session| session.printer.failed(id, &error.to_string()))
                }
            }
        }
    }

    fn give_to_node(
        &mut self,
        running: &Running,
        ready: Ready<Asking>,
        tokenising_us: Option<u64>,
    ) {
        let Ready { id, how: Asking { settings, form }, tokens, dropped, is_measurement } = ready;
        let answer =
            (!is_measurement).then(|| Answer::new(running.tokenizer).until(&settings.stop));
        self.in_form(form, |session| {
            if dropped > 0 {
                let turns = if dropped == 1 { "turn is" } else { "turns are" };
                session.printer.note(
                    '·',
                    &format!("the context is full: the oldest {dropped} {turns} forgotten"),
                );
            }
            session.printer.begin(id, answer);
        });
        let lookup_us = self.host.ask(running, self.console, id, tokens, settings, is_measurement);
        self.printer.measured(id, Around { tokenising_us, lookup_us });
    }

    /// Handles the end of a prompt. There is no answer if it failed or was a measurement.
    pub(super) fn answered(
        &mut self,
        id: AskId,
        answer: Option<Answer<'static>>,
        stop: StopReason,
    ) {
        let running = self.host.running().ok();
        let kept = running.zip(answer).filter(|_| stop != StopReason::Stopped);
        let kept =
            kept.and_then(|(running, answer)| answer.kept(running.tokenizer, &running.form).ok());
        if stop == StopReason::ContextFull && self.queue.is_in_conversation(id) {
            let remedy = "new begins another conversation, and set drop-oldest on lets this one go on without its oldest turns";
            self.printer.note('!', &format!("the context is full: {remedy}"));
        }
        self.queue.ended(id, kept);
        self.advance();
    }

    /// Stops all answers of this console, those that have not begun first, so that none of
    /// them begins.
    pub(super) fn stop(&mut self) {
        let given_up: Vec<(AskId, Asking)> = self.queue.give_up().collect();
        if let Ok(running) = self.host.running() {
            for (id, Asking { form, .. }) in given_up {
                self.in_form(form, |session| {
                    session.printer.begin(id, Some(Answer::new(running.tokenizer)))
                });
                self.printer.reply(id, &Reply::Done(Figures::never_begun()));
            }
        }
        self.host.stop(self.console);
    }

    /// Runs `say` with the printer in this form.
    fn in_form(&mut self, form: Form, say: impl FnOnce(&mut Session)) {
        let before = std::mem::replace(&mut self.printer.form, form);
        say(self);
        self.printer.form = before;
    }
}
