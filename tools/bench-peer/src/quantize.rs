//! Converts a GGUF with llama.cpp's own quantiser, to the mixes of types that published files have.

use std::error::Error;
use std::ffi::CString;
use std::path::Path;

use llama_cpp_sys_2 as sys;

use crate::QuantizeArgs;

/// A file type, by the name in llama.cpp's quantiser. Each is a mix: a tensor whose rows do not
/// divide into a type's blocks gets another type.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
#[allow(non_camel_case_types, reason = "llama.cpp's names")]
pub enum FileType {
    F16,
    Bf16,
    Q8_0,
    Q6_K,
    Q5_K_M,
    Q5_1,
    Q5_0,
    Q4_K_M,
    Q4_1,
    Q4_0,
    #[value(name = "iq4_nl")]
    Iq4Nl,
    #[value(name = "iq4_xs")]
    Iq4Xs,
    Q3_K_M,
    Q2_K,
}

impl FileType {
    fn number(self) -> sys::llama_ftype {
        match self {
            FileType::F16 => sys::LLAMA_FTYPE_MOSTLY_F16,
            FileType::Bf16 => sys::LLAMA_FTYPE_MOSTLY_BF16,
            FileType::Q8_0 => sys::LLAMA_FTYPE_MOSTLY_Q8_0,
            FileType::Q6_K => sys::LLAMA_FTYPE_MOSTLY_Q6_K,
            FileType::Q5_K_M => sys::LLAMA_FTYPE_MOSTLY_Q5_K_M,
            FileType::Q5_1 => sys::LLAMA_FTYPE_MOSTLY_Q5_1,
            FileType::Q5_0 => sys::LLAMA_FTYPE_MOSTLY_Q5_0,
            FileType::Q4_K_M => sys::LLAMA_FTYPE_MOSTLY_Q4_K_M,
            FileType::Q4_1 => sys::LLAMA_FTYPE_MOSTLY_Q4_1,
            FileType::Q4_0 => sys::LLAMA_FTYPE_MOSTLY_Q4_0,
            FileType::Iq4Nl => sys::LLAMA_FTYPE_MOSTLY_IQ4_NL,
            FileType::Iq4Xs => sys::LLAMA_FTYPE_MOSTLY_IQ4_XS,
            FileType::Q3_K_M => sys::LLAMA_FTYPE_MOSTLY_Q3_K_M,
            FileType::Q2_K => sys::LLAMA_FTYPE_MOSTLY_Q2_K,
        }
    }
}

/// Converts `args.from` to `args.out`.
pub fn quantize(args: &QuantizeArgs) -> Result<(), Box<dyn Error>> {
    let name = |path: &Path| CString::new(path.as_os_str().as_encoded_bytes());
    let (from, out) = (name(&args.from)?, name(&args.out)?);
    // SAFETY: a call of the C interface as its header has it; the strings and the parameters
    // outlive it.
    let code = unsafe {
        sys::llama_log_set(Some(crate::llama::log), std::ptr::null_mut());
        sys::llama_backend_init();
        let mut params = sys::llama_model_quantize_default_params();
        params.nthread = i32::try_from(args.threads)?;
        params.ftype = args.r#type.number();
        sys::llama_model_quantize(from.as_ptr(), out.as_ptr(), &params)
    };
    if code == 0 { Ok(()) } else { Err(format!("llama.cpp cannot convert to {}", args.out.display()).into()) }
}
