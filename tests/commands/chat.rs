//! Conversations with the binary: chat models and base models, good and hostile templates, pipes,
//! and a full context.

use super::*;

fn ask(model: &Path, more: &[&str]) -> Output {
    ended(
        potluck()
            .args(["ask", "  Why is the sky blue? ", "--max-tokens", "6", "--model"])
            .arg(model)
            .args(more)
            .spawn()
            .unwrap(),
    )
}

/// The line of figures, without its times.
fn figures(output: &Output) -> String {
    let said = told(output);
    let line = said
        .lines()
        .find(|line| line.starts_with('['))
        .unwrap_or_else(|| panic!("no figures: {said}"))
        .to_string();
    line.split_once("; TTFT").unwrap().0.to_string()
}

#[test]
fn a_model_with_a_chat_template_is_asked_in_it_and_a_base_model_completes() {
    let dir = tempfile::tempdir().unwrap();
    let chat = with_template(&dir, "chat.gguf", TEMPLATE);
    let given = |model: &Path, more: &[&str]| {
        let output = ask(model, more);
        (done(&output), figures(&output))
    };
    let (as_chat, raw) = (given(demo(), &["--chat"]), given(demo(), &[]));
    assert_ne!(as_chat, raw);
    assert_eq!(given(&chat, &[]), as_chat, "the file's template is Gemma's own");
    assert_eq!(given(&chat, &["--chat"]), as_chat);
    assert_eq!(given(&chat, &["--raw"]), raw);
    assert_eq!(given(demo(), &["--raw"]), raw);
    let told_before = given(&chat, &["--system", "Be kind."]);
    assert_ne!(told_before.1, as_chat.1, "a system text is part of the prompt");
    assert_eq!(given(demo(), &["--chat", "--system", "Be kind."]), told_before);
    assert!(
        misused(&["ask", "--model", "x", "Hi", "--raw", "--chat"]).contains("cannot be used with")
    );
    let refused = ask(demo(), &["--system", "Be kind."]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(text(&refused.stderr).contains("add --chat"), "{refused:?}");
}

#[test]
fn a_template_that_takes_no_system_text_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let template = "{%- for m in messages -%}{%- if m.role == 'system' -%}{{ raise_exception('System role not supported') }}{%- endif -%}\
        <start_of_turn>{{ m.content }}<end_of_turn>{%- endfor -%}";
    let model = with_template(&dir, "no-system.gguf", template);
    done(&ask(&model, &[]));
    let reason = refused(&ask(&model, &["--system", "Be kind."]));
    assert!(reason.contains("takes no system text: System role not supported"), "{reason}");
}

/// A template is a program in a file: none may stop a node, and each one that is not
/// followed is named.
#[test]
fn a_hostile_template_gives_way_to_gemmas_form_with_a_note() {
    let dir = tempfile::tempdir().unwrap();
    let as_chat = done(&ask(demo(), &["--chat"]));
    for (at, (template, part)) in [
        ("{{ 1 / 0", "line 1"),
        ("{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}", "each text"),
        (
            "{% set n = namespace(x='aaaaaaaa') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
            "is too long",
        ),
        // Evades the fuel limit; its process's limits end it.
        ("{{ [0] * 100000000 }}", "more memory, time or stack"),
        // A value that contains itself renders without end.
        ("{% set n = namespace() %}{% set n.n = n %}{{ n }}", "more memory, time or stack"),
        (&format!("{{{{ 1{} }}}}", "+1".repeat(30_000)), "is not followed"),
        (&"x".repeat(70_000), "at most 65536 are read"),
    ]
    .into_iter()
    .enumerate()
    {
        let model = with_template(&dir, &format!("{at}.gguf"), template);
        let output = ask(&model, &[]);
        assert_eq!(done(&output), as_chat, "{at}: {output:?}");
        let said = told(&output);
        let notes: Vec<&str> = said.lines().filter(|line| line.contains("the chat template in the model's file")).collect();
        assert_eq!(notes.len(), 1, "{at}: {said}");
        assert!(notes.iter().all(|note| note.contains(part) && note.contains("Gemma's form")), "{at}: {said}");
    }
}

fn node(model: &Path, more: &[&str]) -> Vec<String> {
    let args = ["run", "--alone", "--max-tokens", "6", "--model"].map(str::to_string);
    args.into_iter()
        .chain([model.display().to_string()])
        .chain(more.iter().map(|arg| (*arg).to_string()))
        .collect()
}

/// For each answer: tokens of the prompt, and how many of them came from its own slab.
fn prompts(notes: &str) -> Vec<[usize; 2]> {
    let number = |text: &str| text.trim().parse().unwrap();
    let lines = notes.lines().filter_map(|line| line.strip_prefix('['));
    lines
        .map(|line| {
            let (prompt, rest) = line.split_once(" prompt tokens: ").unwrap();
            [number(prompt), number(rest.split_once(" own slab").unwrap().0)]
        })
        .collect()
}

#[test]
fn turns_on_a_pipe_wait_for_one_another() {
    for end in ["", "quit\n"] {
        let output = fed(
            node(demo(), &[]),
            format!("chat Who are you?\nchat And who am I?\nchat Why?\n{end}").as_bytes(),
        );
        let notes = (done(&output), told(&output)).1;
        let turns = prompts(&notes);
        assert_eq!(turns.len(), 3, "{notes}");
        // Six tokens of an answer, the last of which was never computed.
        assert_eq!((turns[1][1], turns[2][1]), (turns[0][0] + 5, turns[1][0] + 5), "{notes}");
    }
}

#[test]
fn lines_are_turns_with_a_chat_model_and_texts_with_a_base_model() {
    let dir = tempfile::tempdir().unwrap();
    let chat = with_template(&dir, "chat.gguf", TEMPLATE);
    let said = |model: &Path, more: &[&str], input: &str| {
        let output = fed(node(model, more), input.as_bytes());
        done(&output);
        told(&output)
    };
    let notes = said(
        &chat,
        &[],
        "Who are you?\nAnd who am I?\nnew\nWho are you?\nask Who are you?\nraw Who are you?\n",
    );
    let turns = prompts(&notes);
    assert!(
        notes.contains("is ready with chat.gguf, a chat model: what you type is a conversation"),
        "{notes}"
    );
    assert!(turns[1][0] > turns[0][0] + 6, "the second line continues the first: {notes}");
    assert_eq!(
        (turns[2], turns[3]),
        ([turns[0][0], turns[0][0] - 1], [turns[0][0], turns[0][0] - 1]),
        "{notes}"
    );
    assert!(turns[4][0] < turns[0][0], "raw has no template: {notes}");
    let raw = said(&chat, &["--raw"], "Who are you?\nask Who are you?\n");
    assert!(raw.contains("told to complete what you type"), "{raw}");
    assert!(prompts(&raw).iter().all(|prompt| prompt[0] == turns[4][0]), "{raw}");
    let base = said(demo(), &[], "Who are you?\n");
    assert!(base.contains("a base model: it completes what you type"), "{base}");
    assert_eq!(prompts(&base)[0][0], turns[4][0], "{base}");
}

#[test]
fn what_the_model_is_told_before_is_set_shown_and_taken_back() {
    let input = "chat Hi\nsystem Be  kind.\nsystem\nchat Hi\nsystem off\nsystem\nchat Hi\n";
    let output = fed(node(demo(), &[]), input.as_bytes());
    let (given, notes) = (done(&output), told(&output));
    let turns = prompts(&notes);
    assert!(turns[1][0] > turns[0][0] && turns[2][0] == turns[0][0], "{notes}");
    assert!(given.contains("Be  kind.\n") && given.contains("no system text is set"), "{given}");
    let from_start = fed(node(demo(), &["--system", "Be  kind."]), b"chat Hi\n");
    done(&from_start);
    assert_eq!(prompts(&told(&from_start))[0][0], turns[1][0]);
}

#[test]
fn a_full_conversation_says_new_or_drops_its_oldest_turns() {
    let turn = "chat Tell me more of this, in as many words as you like.\n";
    let output = fed(node(demo(), &["--context", "96"]), turn.repeat(6).as_bytes());
    done(&output);
    let notes = told(&output);
    let full: Vec<&str> = notes
        .lines()
        .filter(|line| line.starts_with("! no answer: the conversation would have"))
        .collect();
    assert!(
        !full.is_empty() && full.iter().all(|line| line.contains("new begins another one")),
        "{notes}"
    );
    let input = turn.repeat(6) + "new\n" + turn;
    let output = fed(node(demo(), &["--context", "96"]), input.as_bytes());
    done(&output);
    assert!(prompts(&told(&output)).len() > 6 - full.len(), "new begins another one");
    for (more, input) in [
        (&["--context", "96", "--drop-oldest", "true"][..], turn.repeat(6)),
        (&["--context", "96"], "set drop-oldest on\n".to_string() + &turn.repeat(6)),
    ] {
        let output = fed(node(demo(), more), input.as_bytes());
        done(&output);
        let notes = told(&output);
        assert_eq!(prompts(&notes).len(), 6, "{notes}");
        assert!(
            notes.contains("· the context is full: the oldest ") && notes.contains("forgotten"),
            "{notes}"
        );
    }
}
