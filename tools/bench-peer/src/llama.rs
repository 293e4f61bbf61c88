//! llama.cpp, as little of it as a benchmark needs: one model, one context, greedy about nothing.

use std::error::Error;
use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;

use llama_cpp_sys_2 as sys;

unsafe extern "C" {
    /// In ggml-cpu.h, which the crate's bindings leave out. Null when the threads cannot be made.
    fn ggml_threadpool_new(params: *mut sys::ggml_threadpool_params) -> *mut sys::ggml_threadpool;
}

/// A model with one context that holds `longest` tokens.
pub struct Llama {
    model: *mut sys::llama_model,
    context: *mut sys::llama_context,
    vocab: usize,
}

/// What llama.cpp says is for its own users: only its errors are passed on.
unsafe extern "C" fn log(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    if level == sys::GGML_LOG_LEVEL_ERROR && !text.is_null() {
        // SAFETY: llama.cpp passes a string that ends in zero.
        eprint!("llama.cpp: {}", unsafe { CStr::from_ptr(text) }.to_string_lossy());
    }
}

impl Llama {
    /// Loads `path` with llama.cpp's own defaults, but for these: the KV state of sliding layers is kept for the window and not
    /// for the whole text, as its programs have it; `repack` decides whether weights may be kept in another order; the threads
    /// are made once and kept, as its own benchmark does.
    pub fn load(path: &Path, longest: usize, threads: u32, repack: bool) -> Result<Llama, Box<dyn Error>> {
        let name = CString::new(path.as_os_str().as_encoded_bytes())?;
        // SAFETY: calls of the C interface as its header has them; every pointer is live for the call, and null is looked for.
        unsafe {
            sys::llama_log_set(Some(log), std::ptr::null_mut());
            sys::llama_backend_init();
            let mut params = sys::llama_model_default_params();
            params.use_extra_bufts = repack;
            let model = sys::llama_model_load_from_file(name.as_ptr(), params);
            if model.is_null() {
                return Err(format!("llama.cpp cannot load {}", path.display()).into());
            }
            let mut params = sys::llama_context_default_params();
            params.n_ctx = u32::try_from(longest)?.next_multiple_of(256);
            params.n_threads = i32::try_from(threads)?;
            params.n_threads_batch = params.n_threads;
            params.swa_full = false;
            let context = sys::llama_init_from_model(model, params);
            if context.is_null() {
                return Err("llama.cpp makes no context".into());
            }
            let mut pool = sys::ggml_threadpool_params_default(params.n_threads);
            let pool = ggml_threadpool_new(&mut pool);
            if pool.is_null() {
                return Err("llama.cpp makes no threads".into());
            }
            sys::llama_attach_threadpool(context, pool, pool);
            let vocab = sys::llama_vocab_n_tokens(sys::llama_model_get_vocab(model)) as usize;
            Ok(Llama { model, context, vocab })
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

    /// Takes in `tokens` after those before, and waits for the logits of the last.
    pub fn forward(&mut self, tokens: &mut [i32]) -> Result<(), Box<dyn Error>> {
        // SAFETY: the batch points into `tokens`, which outlives the call.
        let code = unsafe {
            let batch = sys::llama_batch_get_one(tokens.as_mut_ptr(), tokens.len() as i32);
            let code = sys::llama_decode(self.context, batch);
            sys::llama_synchronize(self.context);
            code
        };
        if code == 0 { Ok(()) } else { Err(format!("llama_decode says {code}").into()) }
    }

    /// The logits after each of `tokens`: tokens × vocabulary.
    pub fn all_logits(&mut self, tokens: &[i32]) -> Result<Vec<f32>, Box<dyn Error>> {
        self.clear();
        let mut out = Vec::with_capacity(tokens.len() * self.vocab);
        for &token in tokens {
            self.forward(&mut [token])?;
            // SAFETY: after a pass the last token's logits are there, one for each row of the vocabulary.
            out.extend_from_slice(unsafe { std::slice::from_raw_parts(sys::llama_get_logits_ith(self.context, -1), self.vocab) });
        }
        Ok(out)
    }
}

impl Drop for Llama {
    fn drop(&mut self) {
        // SAFETY: both are live, and nothing uses them afterwards. The threads last as long as the process.
        unsafe {
            sys::llama_free(self.context);
            sys::llama_model_free(self.model);
        }
    }
}
