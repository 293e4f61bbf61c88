//! `potluck ask`: one prompt, answered on this machine alone.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use clap::Args;
use clap::error::ErrorKind;

use crate::answers::{Answer, StopWatch};
use crate::config::{self, Origin};
use crate::console::Settings;
use crate::drive::{Driver, DriverEvent, Engine};
use crate::fronts::{self, Event, FiguresReport, Form, Printer, eprint, for_good, print_line};
use crate::node::{Ask, AskId, Input, Node, Reply};
use crate::start::{
    ASK, Cores, Kept, Loaded, NodeSettings, Options, SetupError, alone, answers, load, model,
    precision, within_memory,
};

use super::cli::Cli;
use super::fail::Fail;
use super::prompt::Source;
use super::{effective_settings, usage};

#[derive(Args)]
pub(super) struct AskArgs {
    #[command(flatten)]
    options: Options<ASK>,
    /// Put the text into the model's chat template, or Gemma's if its file has none; the default
    /// for a model with a template
    #[arg(long)]
    chat: bool,
    /// Complete the text as it is, even if the model has a chat template
    #[arg(long, conflicts_with = "chat")]
    raw: bool,
    /// Print one JSON object instead of text: the answer, its tokens, its figures and why it ended
    #[arg(short, long)]
    pub json: bool,
    /// Read the prompt from FILE; - is standard input
    #[arg(short, long, value_name = "FILE", conflicts_with = "text")]
    file: Option<PathBuf>,
    /// The prompt, in one word or several; read from standard input if it is -, or if it is missing
    /// and input is piped in
    text: Vec<String>,
}

/// Answers one prompt and ends.
pub(super) fn run(args: AskArgs) -> Result<(), Fail> {
    let Some(source) = Source::of(&args.text, args.file) else {
        let reason = "no prompt: give one, or a file with --file FILE, or pipe one in";
        usage::refuse::<Cli>("ask", ErrorKind::MissingRequiredArgument, reason);
    };
    let text = source.prompt()?;
    let effective = effective_settings(&args.options)?;
    let (config, model) = (&effective.config, model(&effective)?);
    let asking = answers(config)?;
    let kept = Kept::at(config.node.state.as_deref());
    let mut loaded = load(&model, config.model.tokenizer.as_deref(), precision(config), &kept)?;
    loaded.compute_on(&Cores::new(&config.model).map_err(SetupError::from)?)?;
    loaded.halve(config.model.halves, &kept, &mut |line| eprint(format_args!("· {line}\n")));
    let (node, notes) = within_memory(&loaded, alone(config, &loaded))?;
    let about = loaded.notes.iter().cloned().chain(loaded.tokenizer.marker_note(&text));
    about.chain(notes).for_each(|line| eprint(format_args!("· {line}\n")));
    let is_chat = args.chat || (loaded.form.is_chat_model() && !args.raw);
    if !is_chat && config.origin(config::key("answers", "system")) == Origin::Option {
        let reason = "--system applies only to chats, and this completes the text: add --chat";
        usage::refuse::<Cli>("ask", ErrorKind::ArgumentConflict, reason);
    }
    answer(loaded, &node, asking, &text, is_chat, args.json)
}

/// The id of the only prompt.
const ONLY: AskId = AskId(0);

fn answer(
    loaded: Loaded,
    node: &NodeSettings,
    asking: Settings,
    text: &str,
    chat: bool,
    json: bool,
) -> Result<(), Fail> {
    let Loaded { tokenizer, form, .. } = &loaded;
    let tokens = if chat {
        form.first(tokenizer, asking.system.as_deref(), text)?
    } else {
        tokenizer.encode_prompt(text)?
    };
    let config = loaded.node_config(node)?;
    let lock = node.lock;
    let Loaded { model, tokenizer, files, cpu, .. } = loaded;
    let start = Instant::now();
    let node = Node::new(config).map_err(fronts::Fail::from)?;
    let engine = Engine::start(model, cpu, None).map_err(fronts::Fail::from)?;
    let (driver, events) = Driver::new(node, start, engine, None);
    let driver = Rc::new(driver);
    driver.read_model(lock.then_some(files), None).map_err(fronts::Fail::from)?;
    let tokenizer = for_good(tokenizer);
    let Settings { max_tokens, sampling, stop, .. } = asking;
    let mut whole = Answer::new(tokenizer).until(&stop);
    let mut printer = Printer::to_streams(Form::Text);
    if !json {
        printer.begin(ONLY, Some(Answer::new(tokenizer).until(&stop)));
    }
    let watch = StopWatch::over(tokenizer, &stop);
    driver.handle(Input::Ask(Ask {
        id: ONLY,
        tokens,
        max_tokens,
        sampling,
        private: false,
        watch,
    }));
    driver.run_until(async {
        while let Ok(event) = events.recv().await {
            match event {
                DriverEvent::Note(_, line) => printer.note('·', &line),
                DriverEvent::Reset(_) | DriverEvent::Reboot => {}
                DriverEvent::Reply(_, Reply::Failed(reason)) => {
                    return Err(Fail::NoAnswer(reason.to_string()));
                }
                DriverEvent::Reply(ask, Reply::Progress(progress)) => {
                    printer.progress(ask, &progress)
                }
                DriverEvent::Reply(_, Reply::Token(token)) if json => drop(whole.push(token)),
                DriverEvent::Reply(ask, Reply::Done(figures)) if json => {
                    drop(printer);
                    whole.end();
                    let event = Event::Done {
                        id: ask.0,
                        text: whole.text(),
                        tokens: whole.tokens(),
                        figures: FiguresReport::of(&figures),
                    };
                    return Ok(print_line(event.line())?);
                }
                DriverEvent::Reply(ask, reply) => {
                    let answered = printer.reply(ask, &reply).is_some();
                    printer.check()?;
                    if answered {
                        return Ok(());
                    }
                }
                DriverEvent::EngineEnded => break,
                DriverEvent::Changed(changed) => return Err(fronts::Fail::from(changed).into()),
            }
        }
        Err(fronts::Fail::Engine.into())
    })
}
