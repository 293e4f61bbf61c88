//! The chat template of a Hugging Face directory: a separate file (`chat_template.jinja`) or, in
//! older directories, a text or a list of named texts in tokenizer_config.json.

use std::path::Path;

use serde_json::Value;

use crate::limits::MAX_TEMPLATE_BYTES;
use crate::model::fault::{Fault, FileError};
use crate::model::map::regular;
use crate::model::safetensors::read_json;

/// The model's chat template. `None` if the directory has none, or one that exceeds the size limit,
/// which is noted.
pub(super) fn chat_template(
    dir: &Path,
    notes: &mut Vec<String>,
) -> Result<Option<String>, FileError> {
    let (own, shared) = (dir.join("chat_template.jinja"), dir.join("tokenizer_config.json"));
    let (name, found) = if own.exists() {
        ("chat_template.jinja", own_file(&own)?)
    } else if shared.exists() {
        ("tokenizer_config.json", named(read_json(&shared)?.get("chat_template")))
    } else {
        return Ok(None);
    };
    match found {
        Some(Template::Text(text)) if text.len() <= MAX_TEMPLATE_BYTES => {
            Ok(Some(text).filter(|text| !text.trim().is_empty()))
        }
        Some(Template::Text(text)) => Ok(left_out(name, text.len() as u64, notes)),
        Some(Template::TooLong(bytes)) => Ok(left_out(name, bytes, notes)),
        None => Ok(None),
    }
}

enum Template {
    Text(String),
    TooLong(u64),
}

fn left_out(name: &str, bytes: u64, notes: &mut Vec<String>) -> Option<String> {
    notes.push(format!(
        "the chat template of {name} has {bytes} bytes, over {MAX_TEMPLATE_BYTES}: it was omitted"
    ));
    None
}

fn own_file(path: &Path) -> Result<Option<Template>, FileError> {
    let length = regular(path)?.len();
    if length > MAX_TEMPLATE_BYTES as u64 {
        return Ok(Some(Template::TooLong(length)));
    }
    let bytes = std::fs::read(path).map_err(|error| FileError::new(path, Fault::Open(error)))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| FileError::new(path, Fault::Damaged("it is not UTF-8 text".to_owned())))?;
    Ok(Some(Template::Text(text)))
}

/// The template itself or, if there are several, the default one.
fn named(value: Option<&Value>) -> Option<Template> {
    let text = match value? {
        Value::Array(all) => {
            let default =
                all.iter().find(|each| each.get("name").and_then(Value::as_str) == Some("default"));
            default?.get("template")?.as_str()?
        }
        one => one.as_str()?,
    };
    Some(Template::Text(text.to_owned()))
}
