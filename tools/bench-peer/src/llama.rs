//! A minimal wrapper of llama.cpp for comparisons: one model and one context.

use std::error::Error;
use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;

use llama_cpp_sys_2 as sys;

unsafe extern "C" {
    /// In ggml-cpu.h, which the crate's bindings omit. Null if the threads cannot be created.
    fn ggml_threadpool_new(params: *mut sys::ggml_threadpool_params) -> *mut sys::ggml_threadpool;
}

/// The most tokens in a pass that keeps all logits: with Gemma 3's vocabulary they take 67 MB.
pub const LOGITS_TOKENS: usize = 64;

/// How keys and values are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum KvType {
    F32,
    F16,
    #[value(name = "q8_0")]
    Q8_0,
}

/// The options of a run. Everything else is llama.cpp's default.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Tokens that the context holds.
    pub longest: usize,
    /// Threads, which are created once and kept, as in llama.cpp's own benchmark.
    pub threads: u32,
    /// Whether weights may be kept in another order than the file's.
    pub repack: bool,
    /// The KV state.
    pub kv: KvType,
    /// Keeps sliding layers' KV state for the whole text, so that [`Llama::rewind`] can go back
    /// further than the window. llama.cpp's own programs keep the window only.
    pub keeps_all: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { longest: 2_048, threads: 1, repack: true, kv: KvType::F16, keeps_all: false }
    }
}

/// A model with one context.
pub struct Llama {
    model: *mut sys::llama_model,
    context: *mut sys::llama_context,
    vocab: usize,
}

/// Passes on only llama.cpp's errors: its other messages are for its own users.
pub unsafe extern "C" fn log(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    if level == sys::GGML_LOG_LEVEL_ERROR && !text.is_null() {
        // SAFETY: llama.cpp passes a string that ends in zero.
        eprint!("llama.cpp: {}", unsafe { CStr::from_ptr(text) }.to_string_lossy());
    }
}

impl Llama {
    /// Loads `path`.
    pub fn load(path: &Path, settings: &Settings) -> Result<Llama, Box<dyn Error>> {
        let name = CString::new(path.as_os_str().as_encoded_bytes())?;
        // SAFETY: calls of the C interface as its header has them; every pointer is live for the
        // call, and null is checked for.
        unsafe {
            sys::llama_log_set(Some(log), std::ptr::null_mut());
            sys::llama_backend_init();
            let mut params = sys::llama_model_default_params();
            params.use_extra_bufts = settings.repack;
            let model = sys::llama_model_load_from_file(name.as_ptr(), params);
            if model.is_null() {
                return Err(format!("llama.cpp cannot load {}", path.display()).into());
            }
            let mut params = sys::llama_context_default_params();
            params.n_ctx = u32::try_from(settings.longest)?.next_multiple_of(256);
            params.n_threads = i32::try_from(settings.threads)?;
            params.n_threads_batch = params.n_threads;
            params.swa_full = settings.keeps_all;
            params.type_k = match settings.kv {
                KvType::F32 => sys::GGML_TYPE_F32,
                KvType::F16 => sys::GGML_TYPE_F16,
                KvType::Q8_0 => sys::GGML_TYPE_Q8_0,
            };
            params.type_v = params.type_k;
            let context = sys::llama_init_from_model(model, params);
            if context.is_null() {
                sys::llama_model_free(model);
                return Err("llama.cpp cannot create a context".into());
            }
            let vocab = sys::llama_vocab_n_tokens(sys::llama_model_get_vocab(model)) as usize;
            let llama = Llama { model, context, vocab };
            let mut pool = sys::ggml_threadpool_params_default(params.n_threads);
            let pool = ggml_threadpool_new(&mut pool);
            if pool.is_null() {
                return Err("llama.cpp cannot create threads".into());
            }
            sys::llama_attach_threadpool(context, pool, pool);
            Ok(llama)
        }
    }

    /// Rows of the embedding.
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// What llama.cpp was compiled to use.
    pub fn features() -> String {
        // SAFETY: a string that ends in zero and is never freed.
        unsafe { CStr::from_ptr(sys::llama_print_system_info()) }.to_string_lossy().into_owned()
    }

    /// Forgets every token.
    pub fn clear(&mut self) {
        // SAFETY: the context is live.
        unsafe { sys::llama_memory_clear(sys::llama_get_memory(self.context), false) }
    }

    /// Forgets the tokens from position `to` on.
    pub fn rewind(&mut self, to: usize) -> Result<(), Box<dyn Error>> {
        let to = i32::try_from(to)?;
        // SAFETY: the context is live.
        let done = unsafe { sys::llama_memory_seq_rm(sys::llama_get_memory(self.context), 0, to, -1) };
        if done { Ok(()) } else { Err(format!("llama.cpp cannot go back to position {to}").into()) }
    }

    /// The whole state as the library saves it.
    pub fn save(&mut self) -> Result<Vec<u8>, Box<dyn Error>> {
        // SAFETY: the context is live, and no more than the buffer's length is written.
        unsafe {
            let mut bytes = vec![0; sys::llama_state_get_size(self.context)];
            let count = sys::llama_state_get_data(self.context, bytes.as_mut_ptr(), bytes.len());
            bytes.truncate(count);
            if count == 0 { Err("llama.cpp saves nothing".into()) } else { Ok(bytes) }
        }
    }

    /// Loads a saved state, which replaces the current one.
    pub fn restore(&mut self, saved: &[u8]) -> Result<(), Box<dyn Error>> {
        // SAFETY: the context is live, and no more than the slice is read. The bytes are those that
        // `save` has just made.
        let read = unsafe { sys::llama_state_set_data(self.context, saved.as_ptr(), saved.len()) };
        if read == saved.len() { Ok(()) } else { Err(format!("llama.cpp reads {read} of {} bytes", saved.len()).into()) }
    }

    /// Appends `tokens`, and waits for the logits of the last.
    pub fn forward(&mut self, tokens: &mut [i32]) -> Result<(), Box<dyn Error>> {
        self.decode(tokens, &mut [])
    }

    /// Appends `tokens`; returns the logits after the last.
    pub fn last_logits(&mut self, tokens: &[i32]) -> Result<Vec<f32>, Box<dyn Error>> {
        self.decode(&mut tokens.to_vec(), &mut [])?;
        Ok(self.row(-1)?.to_vec())
    }

    /// Appends `tokens`, at most [`LOGITS_TOKENS`] per pass; returns the logits after each: tokens
    /// × vocabulary.
    pub fn all_logits(&mut self, tokens: &[i32]) -> Result<Vec<f32>, Box<dyn Error>> {
        let mut out = Vec::with_capacity(tokens.len() * self.vocab);
        for part in tokens.chunks(LOGITS_TOKENS) {
            self.decode(&mut part.to_vec(), &mut vec![1; part.len()])?;
            for at in 0..part.len() {
                out.extend_from_slice(self.row(i32::try_from(at)?)?);
            }
        }
        Ok(out)
    }

    /// One pass. `wanted` marks the tokens whose logits are kept; if there are none, the last
    /// token's are.
    fn decode(&mut self, tokens: &mut [i32], wanted: &mut [i8]) -> Result<(), Box<dyn Error>> {
        assert!(wanted.is_empty() || wanted.len() == tokens.len());
        // SAFETY: the batch points into `tokens` and `wanted`, which outlive the call.
        let code = unsafe {
            let mut batch = sys::llama_batch_get_one(tokens.as_mut_ptr(), i32::try_from(tokens.len())?);
            if !wanted.is_empty() {
                batch.logits = wanted.as_mut_ptr();
            }
            let code = sys::llama_decode(self.context, batch);
            sys::llama_synchronize(self.context);
            code
        };
        if code == 0 { Ok(()) } else { Err(format!("llama_decode says {code}").into()) }
    }

    /// The logits after token `at` of the last pass; −1 is its last token.
    fn row(&self, at: i32) -> Result<&[f32], Box<dyn Error>> {
        // SAFETY: null or one logit for each row of the vocabulary, live until the next pass, which
        // needs exclusive access to `self`.
        unsafe {
            let logits = sys::llama_get_logits_ith(self.context, at);
            if logits.is_null() {
                return Err(format!("llama.cpp has no logits of token {at}").into());
            }
            Ok(std::slice::from_raw_parts(logits, self.vocab))
        }
    }
}

impl Drop for Llama {
    fn drop(&mut self) {
        // SAFETY: both are live, and nothing uses them afterwards. The threads last as long as the
        // process.
        unsafe {
            sys::llama_free(self.context);
            sys::llama_model_free(self.model);
        }
    }
}
