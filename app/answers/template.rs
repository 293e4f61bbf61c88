//! Reads a model's chat template once, to learn what it puts around each text.
//!
//! A template is a program (Jinja) from the model's file. It runs on a few made-up conversations
//! whose texts are marks, and only the text around the marks is kept. So no text of a person or
//! a model passes through it, no such text can become a control token, and no conversation runs
//! it again.
//!
//! Bounded: the template's size, and its fuel, which pays for every step and every output
//! byte. A hostile template can still evade this or exhaust the stack, so read it in its own
//! process (`start::template`).

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind, context};
use serde::{Deserialize, Serialize};
use thiserror::Error as Fault;

use crate::limits::{MAX_TEMPLATE_BYTES, MAX_TEMPLATE_FUEL};

/// Encloses a mark. From the private use area, so that no template contains it.
const EDGE: char = '\u{f8ff}';
/// Surrounds a mark. A blank that no template contains: if it is gone, the template trims texts.
const BLANK: char = '\u{2003}';

/// What a template puts around texts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pattern {
    /// Before the person's first text, and after it, up to where the model speaks.
    pub(crate) first: [String; 2],
    /// The same with a system text: before it, between the two texts, and after the person's. Or
    /// why the template takes none.
    pub(crate) system: Result<[String; 3], String>,
    /// Between an answer and the person's next text, and after that text.
    pub(crate) next: [String; 2],
    /// Whether the person's texts are trimmed.
    pub(crate) trims: bool,
    /// Whether the model's answers are trimmed.
    pub(crate) trims_answers: bool,
    /// Whether a system text is trimmed.
    pub(crate) trims_system: bool,
}

/// Why a template cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, Fault, Serialize, Deserialize)]
pub enum TemplateFault {
    /// Longer than any published template.
    #[error("it has {0} bytes, at most {MAX_TEMPLATE_BYTES} are read")]
    TooLong(usize),
    /// Not a template, or one with unsupported features.
    #[error("{0}")]
    Broken(String),
    /// Out of fuel.
    #[error("its output for a short conversation is too long")]
    Endless,
    /// It does not output each text unchanged, once and in order.
    #[error("it does not put each text of a conversation where it belongs")]
    Unclear,
}

impl Pattern {
    /// The pattern of Gemma's published template.
    pub(crate) fn gemma() -> Pattern {
        let [user, model, blank] =
            ["<start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n", "\n\n"]
                .map(str::to_string);
        Pattern {
            first: [user.clone(), model.clone()],
            system: Ok([user.clone(), blank, model.clone()]),
            next: [format!("<end_of_turn>\n{user}"), model],
            trims: true,
            trims_answers: true,
            trims_system: false,
        }
    }

    /// The pattern of the template `source`.
    ///
    /// # Errors
    /// [`TemplateFault`], to log.
    pub fn of(source: &str) -> Result<Pattern, TemplateFault> {
        if source.len() > MAX_TEMPLATE_BYTES {
            return Err(TemplateFault::TooLong(source.len()));
        }
        let mut environment = Environment::new();
        environment.set_fuel(Some(MAX_TEMPLATE_FUEL));
        // As Hugging Face configures Jinja.
        let syntax =
            SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(fault)?;
        environment.set_syntax(syntax);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |reason: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, reason))
        });
        let template = environment.template_from_str(source).map_err(fault)?;
        let said = |roles: &[&str]| template.render(conversation(roles));
        let cut = |roles: &[&str]| {
            cut(&said(roles).map_err(fault)?, roles.len()).ok_or(TemplateFault::Unclear)
        };

        let one = cut(&["user"])?;
        let two = cut(&["user", "assistant", "user"])?;
        let three = cut(&["user", "assistant", "user", "assistant", "user"])?;
        let is_steady = three.texts[2] == two.texts[2] && three.texts[4..] == two.texts[2..];
        if !is_steady || two.texts[0] != one.texts[0] {
            return Err(TemplateFault::Unclear);
        }
        let (system, trims_system) = match said(&["system", "user"]) {
            Err(error) => (Err(reason(&error)), false),
            Ok(text) => match self::cut(&text, 2) {
                Some(cut) => (Ok(array(&cut.texts)), cut.trimmed[0]),
                None => (Err("it leaves the text out".to_string()), false),
            },
        };
        let length = |texts: &[String]| texts.iter().map(String::len).sum::<usize>();
        let system_length = system.as_ref().map_or(0, |texts: &[String; 3]| length(texts));
        if length(&one.texts) + length(&two.texts) + system_length > MAX_TEMPLATE_BYTES {
            return Err(TemplateFault::Endless);
        }
        let next = array(&two.texts[2..]);
        let [trims, trims_answers] = [two.trimmed[0], two.trimmed[1]];
        Ok(Pattern { first: array(&one.texts), system, next, trims, trims_answers, trims_system })
    }
}

/// A conversation of marks, in the shape that a template expects.
fn conversation(roles: &[&str]) -> Value {
    let message = |(at, role): (usize, &&str)| {
        let content = format!("{BLANK}{EDGE}{at}{EDGE}{BLANK}");
        Value::from_pairs([("role", Value::from(*role)), ("content", Value::from(content))])
    };
    let messages: Value = roles.iter().enumerate().map(message).collect();
    context! { messages, add_generation_prompt => true, bos_token => "<bos>", eos_token => "<eos>" }
}

/// The text around the marks, and for each mark whether its blanks are gone.
struct Cut {
    texts: Vec<String>,
    trimmed: Vec<bool>,
}

/// None if the marks do not appear unchanged, each once and in order.
fn cut(text: &str, marks: usize) -> Option<Cut> {
    let (mut texts, mut trimmed, mut rest) = (Vec::new(), Vec::new(), text);
    for at in 0..marks {
        let (before, behind) = rest.split_once(&format!("{EDGE}{at}{EDGE}"))?;
        let blanks = (before.strip_suffix(BLANK), behind.strip_prefix(BLANK));
        let (before, behind, is_trimmed) = match blanks {
            (Some(before), Some(behind)) => (before, behind, false),
            (None, None) => (before, behind, true),
            _ => return None,
        };
        texts.push(before.to_string());
        trimmed.push(is_trimmed);
        rest = behind;
    }
    texts.push(rest.to_string());
    let is_clean = texts.iter().all(|text| !text.contains([EDGE, BLANK]));
    is_clean.then_some(Cut { texts, trimmed })
}

/// The first texts.
fn array<const N: usize>(texts: &[String]) -> [String; N] {
    std::array::from_fn(|at| texts.get(at).cloned().unwrap_or_default())
}

fn fault(error: Error) -> TemplateFault {
    match error.kind() {
        ErrorKind::OutOfFuel => TemplateFault::Endless,
        _ => TemplateFault::Broken(reason(&error)),
    }
}

/// An error's message on one line of readable length.
fn reason(error: &Error) -> String {
    const MOST: usize = 160;
    let text = error.detail().map_or_else(|| error.to_string(), str::to_string);
    let text: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST).collect();
    match error.line() {
        Some(line) if error.kind() == ErrorKind::SyntaxError => format!("{text} (line {line})"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Like Gemma 3's: trims texts, puts the system text before the first turn, requires
    /// alternating roles.
    const GEMMA: &str = "{{ bos_token }}\n\
        {%- if messages[0]['role'] == 'system' -%}\n\
            {%- set head = messages[0]['content'] + '\n\n' -%}\n\
            {%- set turns = messages[1:] -%}\n\
        {%- else -%}\n\
            {%- set head = '' -%}\n\
            {%- set turns = messages -%}\n\
        {%- endif -%}\n\
        {%- for turn in turns -%}\n\
            {%- if (turn['role'] == 'user') != (loop.index0 % 2 == 0) -%}\n\
                {{ raise_exception('Roles must alternate') }}\n\
            {%- endif -%}\n\
            {%- set role = 'model' if turn['role'] == 'assistant' else turn['role'] -%}\n\
            {{ '<start_of_turn>' + role + '\n' + (head if loop.first else '') }}\n\
            {%- if turn['content'] is string -%}{{ turn['content'] | trim }}{%- endif -%}\n\
            {{ '<end_of_turn>\n' }}\n\
        {%- endfor -%}\n\
        {%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}\n";

    /// Like others: a separate system turn, no trimming, Python string methods, macros.
    const OTHERS: &str = "{%- macro say(role, text) %}<|{{ role.upper() }}|>{{ text }}<|end|>{% endmacro %}\
        {%- for m in messages %}{{ say(m.role, m.get('content', '')) }}{% if tools %}{{ tools | tojson }}{% endif %}{% endfor %}\
        {%- if add_generation_prompt %}<|ASSISTANT|>{% endif %}";

    #[test]
    fn gemmas_template_says_what_is_built_in() {
        let built_in = Pattern::gemma();
        let read = Pattern::of(GEMMA).unwrap();
        let bos = |text: &String| format!("<bos>{text}");
        assert_eq!(read.first, [bos(&built_in.first[0]), built_in.first[1].clone()]);
        let [before, between, behind] = built_in.system.unwrap();
        assert_eq!(read.system, Ok([bos(&before), between, behind]));
        assert_eq!(
            (read.next, read.trims, read.trims_answers, read.trims_system),
            (built_in.next, true, true, false)
        );
    }

    #[test]
    fn a_template_of_another_family_is_followed() {
        let read = Pattern::of(OTHERS).unwrap();
        assert_eq!(read.first, ["<|USER|>", "<|end|><|ASSISTANT|>"]);
        assert_eq!(read.system.unwrap(), ["<|SYSTEM|>", "<|end|><|USER|>", "<|end|><|ASSISTANT|>"]);
        assert_eq!(
            (read.next, read.trims, read.trims_answers),
            (["<|end|><|USER|>", "<|end|><|ASSISTANT|>"].map(str::to_string), false, false)
        );
    }

    #[test]
    fn a_template_may_trim_answers_alone() {
        let source = "{% for m in messages %}\
            {% if m.role == 'assistant' %}{{ m.content | trim }}</s>\
            {% else %}[INST]{{ m.content }}[/INST]{% endif %}{% endfor %}";
        let read = Pattern::of(source).unwrap();
        assert_eq!((read.trims, read.trims_answers), (false, true));
    }

    #[test]
    fn a_template_says_why_it_takes_no_system_text() {
        let refuses = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('No system role') }}{% endif %}\
            [{{ m.content | trim }}]{% endfor %}";
        assert_eq!(Pattern::of(refuses).unwrap().system, Err("No system role".to_string()));
        let leaves_out = "{% for m in messages %}{% if m.role != 'system' %}[{{ m.content }}]{% endif %}{% endfor %}";
        assert_eq!(
            Pattern::of(leaves_out).unwrap().system,
            Err("it leaves the text out".to_string())
        );
    }

    #[test]
    fn what_cannot_be_followed_is_said() {
        let said = |source: &str| Pattern::of(source).unwrap_err();
        assert_eq!(said("no text at all"), TemplateFault::Unclear);
        assert_eq!(
            said("{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}"),
            TemplateFault::Unclear
        );
        assert_eq!(
            said("{% for m in messages | reverse %}{{ m.content }}{% endfor %}"),
            TemplateFault::Unclear
        );
        assert_eq!(
            said("{% for m in messages %}{{ m.content.lstrip() }}{% endfor %}"),
            TemplateFault::Unclear
        );
        assert_eq!(
            said("{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"),
            TemplateFault::Unclear
        );
        for (source, part) in [
            ("{% for m in messages %}", "line 1"),
            ("{{ messages[0].content | nonsense }}", "nonsense"),
            ("{{ raise_exception('not like\nthis') }}", "not like this"),
            ("{{ [1] + 1 }}", "unsupported"),
        ] {
            let fault = said(source).to_string();
            assert!(fault.contains(part) && fault.lines().count() == 1, "{source}: {fault}");
        }
        assert_eq!(
            said(&" ".repeat(MAX_TEMPLATE_BYTES + 1)),
            TemplateFault::TooLong(MAX_TEMPLATE_BYTES + 1)
        );
    }

    #[test]
    fn a_template_that_would_grow_or_run_for_ever_is_given_up() {
        for source in [
            "{% set n = namespace(x='aaaaaaaa') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "{{ 'x' * 1000000000 }}",
            "{{ '%1000000000d' | format(1) }}",
            "{% macro m(x) %}{{ m(x ~ x) }}{{ m(x ~ x) }}{% endmacro %}{{ m('aaaa') }}",
        ] {
            assert_eq!(Pattern::of(source), Err(TemplateFault::Endless), "{source}");
        }
        assert!(
            Pattern::of("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}")
                .unwrap_err()
                .to_string()
                .contains("recursion")
        );
        assert!(Pattern::of(&("{{".to_string() + &"(".repeat(20_000))).is_err());
    }
}
