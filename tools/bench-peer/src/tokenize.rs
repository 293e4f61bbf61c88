//! llama.cpp's tokens of texts, compared with potluck's if the lines have them.

use std::error::Error;
use std::ffi::CString;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use llama_cpp_sys_2 as sys;
use serde::Deserialize;
use serde_json::json;

use crate::TokenizeArgs;

/// The most differences that are printed; the rest are only counted.
const SHOWN: usize = 200;

/// One line of the input.
#[derive(Deserialize)]
struct Line {
    text: String,
    /// potluck's tokens of it, without `<bos>`.
    ids: Option<Vec<i32>>,
    /// Whether llama.cpp is known to split it differently (docs/inside/tokens.md): then it may.
    #[serde(default)]
    known: bool,
}

/// Reads lines `{"text": …}` and prints `{"ids": […]}` for each. For lines with ids, prints only
/// the differences, and fails if there are any.
pub fn tokenize(args: &TokenizeArgs) -> Result<(), Box<dyn Error>> {
    let vocabulary = Vocabulary::load(&args.model)?;
    let mut out = std::io::stdout().lock();
    let (mut compared, mut different, mut known) = (0, 0, [0, 0]);
    for line in BufReader::new(File::open(&args.texts)?).lines() {
        let line: Line = serde_json::from_str(&line?)?;
        let theirs = vocabulary.tokens(&line.text)?;
        let Some(ours) = line.ids else {
            writeln!(out, "{}", json!({ "ids": theirs }))?;
            continue;
        };
        if line.known {
            known[usize::from(ours != theirs)] += 1;
            continue;
        }
        compared += 1;
        if ours != theirs {
            different += 1;
            if different <= SHOWN {
                writeln!(out, "{}", json!({ "text": line.text, "ids": ours, "llama.cpp": theirs }))?;
            }
        }
    }
    if compared > 0 {
        eprintln!("{compared} texts, of which llama.cpp makes other tokens of {different}");
        let [same, other] = known;
        eprintln!("{} texts that it is known to cut otherwise, of which it does {other}", same + other);
    }
    if different > 0 { Err("the tokens differ".into()) } else { Ok(()) }
}

/// A model of which llama.cpp has loaded only the vocabulary.
struct Vocabulary {
    model: *mut sys::llama_model,
}

impl Vocabulary {
    fn load(path: &Path) -> Result<Vocabulary, Box<dyn Error>> {
        let name = CString::new(path.as_os_str().as_encoded_bytes())?;
        // SAFETY: calls of the C interface as its header has them; every pointer is live for the
        // call, and null is checked for.
        let model = unsafe {
            sys::llama_log_set(Some(silent), std::ptr::null_mut());
            sys::llama_backend_init();
            let mut params = sys::llama_model_default_params();
            params.vocab_only = true;
            sys::llama_model_load_from_file(name.as_ptr(), params)
        };
        if model.is_null() { Err(format!("llama.cpp cannot load {}", path.display()).into()) } else { Ok(Vocabulary { model }) }
    }

    /// The tokens of a text alone: no `<bos>`, and the names of control tokens are text.
    fn tokens(&self, text: &str) -> Result<Vec<i32>, Box<dyn Error>> {
        let length = i32::try_from(text.len())?;
        let mut tokens = vec![0; text.len() + 1];
        let room = i32::try_from(tokens.len())?;
        // SAFETY: the model is live, and both buffers have the given lengths.
        let count = unsafe {
            let vocab = sys::llama_model_get_vocab(self.model);
            sys::llama_tokenize(vocab, text.as_ptr().cast(), length, tokens.as_mut_ptr(), room, false, false)
        };
        tokens.truncate(usize::try_from(count).map_err(|_| format!("llama_tokenize says {count}"))?);
        Ok(tokens)
    }
}

impl Drop for Vocabulary {
    fn drop(&mut self) {
        // SAFETY: it is live, and nothing uses it afterwards.
        unsafe { sys::llama_model_free(self.model) }
    }
}

/// Discards llama.cpp's messages while it loads: they are for its own users.
unsafe extern "C" fn silent(_: sys::ggml_log_level, _: *const std::ffi::c_char, _: *mut std::ffi::c_void) {}
