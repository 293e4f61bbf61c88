//! One request for an answer: its tokens, its turn at the node, and the reply.

use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use smol::channel::Receiver;
use smol::future::FutureExt;
use smol::{Task, Timer};

use crate::answers::{Answer, FormError};
use crate::console::{self, Settings};
use crate::http::{Answered, ApiError, Asked, Kind, Prompt, ReplyFormat, RequestSettings, Shape};
use crate::id::TokenId;
use crate::limits::{HTTP_KEEP_ALIVE_MS, MAX_HTTP_WAITING};
use crate::node::{AskId, Figures, Refusal, Reply, StopReason};

use super::State;
use super::fair_queue::{Permit, Waiting};
use super::feed::{Feed, Out, Pieces, Stage};
use crate::fronts::host::{ConsoleEvent, ConsoleId, Host, Running};

/// A client has one prompt, so its id does not matter.
const ASK: AskId = AskId(0);
/// How long a stream's head waits for the first news, so that a refused prompt gets an
/// error status.
const FIRST_NEWS: Duration = Duration::from_secs(1);

/// Tokens shown of a prompt's new part; the block that holds them may begin earlier.
const NEW_TOKENS: usize = 24;

/// Answers a request with a whole answer or a stream.
pub(super) async fn answer(
    state: &Rc<State>,
    shape: Shape,
    asked: Asked,
) -> Result<(Out, &'static str), ApiError> {
    let running =
        state.host.running().map_err(|reason| ApiError::new(Kind::Unavailable, reason))?;
    let settings = settings(&state.host.settings, &asked.requested)?;
    let tokens = tokens(state, &running, asked.prompt, settings.system.clone())?;
    check_length(&running, tokens.len())?;
    if state.queue.waiting() >= MAX_HTTP_WAITING {
        return Err(ApiError::new(
            Kind::Busy,
            format!("{MAX_HTTP_WAITING} prompts wait already: ask again in a moment"),
        ));
    }
    let number = state.answers.get() + 1;
    state.answers.set(number);
    let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let format = ReplyFormat::new(shape, number, created, model_name(&running.model));
    let feed = Rc::new(Feed::default());
    let order = Order { shape, tokens, settings, waiting: state.queue.wait() };
    let executor = state
        .executor
        .upgrade()
        .ok_or_else(|| ApiError::new(Kind::Unavailable, "this node is ending: ask another"))?;
    let source: Task<()> =
        executor.spawn(stream_answer(state.clone(), running, order, feed.clone()));
    if !asked.stream {
        let (text, answered) = feed.whole().await?;
        drop(source);
        return Ok((Out::of(format.whole(&text, &answered)), "application/json"));
    }
    let late = async {
        Timer::after(FIRST_NEWS).await;
        Ok(())
    };
    feed.begun().or(late).await?;
    let pieces = Pieces { feed, format, usage: asked.usage, _source: source, stage: Stage::Head };
    Ok((Out::Pieces(pieces), "text/event-stream"))
}

/// The model's name for clients, from its file name.
pub(super) fn model_name(file: &str) -> &str {
    file.strip_suffix(".gguf").unwrap_or(file)
}

/// A prompt for the node.
struct Order {
    shape: Shape,
    tokens: Vec<TokenId>,
    settings: Settings,
    /// Its place in the queue.
    waiting: Waiting,
}

/// The settings for this answer: the node's `usual` ones with the request's changes.
fn settings(usual: &Settings, requested: &RequestSettings) -> Result<Settings, ApiError> {
    let mut settings = usual.clone();
    let given: [(&'static str, &str, Option<String>); 6] = [
        ("max_tokens", "max-tokens", requested.max_tokens.map(|value| value.to_string())),
        ("temperature", "temperature", requested.temperature.map(|value| value.to_string())),
        ("top_k", "top-k", requested.top_k.map(|value| value.to_string())),
        ("top_p", "top-p", requested.top_p.map(|value| value.to_string())),
        ("seed", "seed", requested.seed.map(|value| value.to_string())),
        (
            "repeat_penalty",
            "repeat-penalty",
            requested.repeat_penalty.map(|value| value.to_string()),
        ),
    ];
    for (param, name, value) in given {
        if let Some(value) = value {
            settings.set(name, &value).map_err(|reason| ApiError::of(param, reason))?;
        }
    }
    if let Some(stops) = &requested.stop {
        settings.stop =
            console::stops(stops.clone()).map_err(|reason| ApiError::of("stop", reason))?;
    }
    Ok(settings)
}

/// The prompt's tokens. The node's own system text applies if the client gives none.
fn tokens(
    state: &State,
    running: &Running,
    prompt: Prompt,
    usual: Option<String>,
) -> Result<Vec<TokenId>, ApiError> {
    let tokenizer = running.tokenizer;
    let invalid = |param: &'static str| move |error: String| ApiError::of(param, error);
    match prompt {
        Prompt::Text(text) if text.is_empty() => {
            Err(ApiError::of("prompt", "the prompt is empty: give some text"))
        }
        Prompt::Text(text) => {
            tokenizer.encode_prompt(&text).map_err(|error| invalid("prompt")(error.to_string()))
        }
        Prompt::Tokens(ids) => {
            let most = tokenizer.vocab_size();
            if ids.is_empty() || ids.iter().any(|id| id.0 as usize >= most) {
                return Err(ApiError::of(
                    "prompt",
                    format!("token ids from 0 to {} are needed, at least one", most - 1),
                ));
            }
            let bos = tokenizer.bos();
            Ok(bos
                .into_iter()
                .filter(|bos| ids.first() != Some(bos))
                .chain(ids.iter().copied())
                .collect())
        }
        Prompt::Chat { system, turns, last } => {
            let system = console::system(system.or(usual)).map_err(invalid("messages"))?;
            let recall = state.recall.borrow();
            let said = running.form.conversation(
                tokenizer,
                system.as_deref(),
                &turns,
                &last,
                (&recall, running.context),
            );
            said.map_err(|error| match error {
                FormError::TooLong(_) => {
                    ApiError::of("messages", error.to_string()).coded("context_length_exceeded")
                }
                error => ApiError::of("messages", form_words(&error)),
            })
        }
    }
}

/// What is wrong with a conversation, in the API's terms.
fn form_words(error: &FormError) -> String {
    match error {
        FormError::NoTurns(token) => {
            format!("this model's vocabulary has no {token}: it cannot chat; ask /v1/completions")
        }
        other => other.to_string(),
    }
}

/// Refuses at once a prompt that the node would refuse in its turn.
fn check_length(running: &Running, tokens: usize) -> Result<(), ApiError> {
    if tokens < running.context {
        return Ok(());
    }
    let message = format!(
        "the prompt has {tokens} tokens, and the context takes {} with the answer: shorten it",
        running.context
    );
    Err(ApiError::new(Kind::Invalid, message).coded("context_length_exceeded"))
}

fn refused(refusal: &Refusal) -> ApiError {
    let kind = match refusal {
        Refusal::Empty | Refusal::TooLong { .. } | Refusal::SlabTooSmall { .. } => Kind::Invalid,
        Refusal::QueueFull => Kind::Busy,
        Refusal::SlabBusy => Kind::Unavailable,
        Refusal::Engine(_) => Kind::Internal,
    };
    ApiError::new(kind, refusal.to_string())
}

/// A client's console at the host. Dropping it stops its answer.
struct AttachedConsole {
    host: Rc<Host>,
    id: ConsoleId,
}

impl AttachedConsole {
    fn take(host: &Rc<Host>) -> (AttachedConsole, Receiver<ConsoleEvent>) {
        let (id, events) = host.attach();
        (AttachedConsole { host: host.clone(), id }, events)
    }
}

impl Drop for AttachedConsole {
    fn drop(&mut self) {
        self.host.detach(self.id);
    }
}

/// Waits for a turn at the node, and sends the client a keep-alive now and then.
async fn permit(waiting: Waiting, feed: &Feed) -> Permit {
    let mut waiting = pin!(waiting);
    loop {
        let idle = async {
            Timer::after(Duration::from_millis(HTTP_KEEP_ALIVE_MS)).await;
            None
        };
        match async { Some(waiting.as_mut().await) }.or(idle).await {
            Some(permit) => return permit,
            None => feed.idle(),
        }
    }
}

/// Asks the node and feeds its replies to the client.
async fn stream_answer(state: Rc<State>, running: Rc<Running>, order: Order, feed: Rc<Feed>) {
    let Order { shape, tokens, settings, waiting } = order;
    let _permit = permit(waiting, &feed).await;
    let (console, events) = AttachedConsole::take(&state.host);
    let mut answer = Answer::new(running.tokenizer).until(&settings.stop);
    state.host.ask(&running, console.id, ASK, tokens.clone(), settings, false);
    let end = loop {
        let idle = async {
            Timer::after(Duration::from_millis(HTTP_KEEP_ALIVE_MS)).await;
            None
        };
        match async { Some(events.recv().await) }.or(idle).await {
            None => feed.idle(),
            Some(Ok(ConsoleEvent::Reply(_, Reply::Progress(progress)))) => feed.progress(progress),
            Some(Ok(ConsoleEvent::Reply(_, Reply::Token(token)))) => feed.text(&answer.push(token)),
            Some(Ok(ConsoleEvent::Reply(_, Reply::Done(figures)))) => break Ok(figures),
            Some(Ok(ConsoleEvent::Reply(_, Reply::Failed(refusal)))) => {
                break Err(refused(&refusal));
            }
            Some(Ok(ConsoleEvent::Ending)) => state.host.stop(console.id),
            Some(Ok(_)) => {}
            Some(Err(_)) => {
                break Err(ApiError::new(Kind::Unavailable, "this node is ending: ask another"));
            }
        }
    };
    if let Ok(figures) = &end {
        feed.text(&answer.end());
        if shape == Shape::Chat {
            remember(&state, &running, &tokens, &answer, figures);
        }
    }
    feed.end(
        end.map(|figures| Answered {
            new_from: new_from(&running, &tokens, figures.known),
            figures,
        }),
    );
}

/// The first words without known state; none if at most the prompt's last token is new.
fn new_from(running: &Running, prompt: &[TokenId], known: usize) -> Option<String> {
    let new = prompt.get(known..).filter(|new| new.len() > 1)?;
    Some(running.tokenizer.decode(&new[..new.len().min(NEW_TOKENS)]))
}

/// Remembers an answer for the conversation's next turn.
fn remember(
    state: &State,
    running: &Running,
    prompt: &[TokenId],
    answer: &Answer<'_>,
    figures: &Figures,
) {
    if figures.stop != StopReason::Stopped
        && let Ok(kept) = answer.kept(running.tokenizer, &running.form)
    {
        let text = running.form.answer(answer.text());
        state.recall.borrow_mut().remember(prompt, text, kept);
    }
}
