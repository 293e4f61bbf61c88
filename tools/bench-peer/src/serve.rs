//! llama.cpp as a predictor for another program: lines of token ids in, logits out.

use std::error::Error;
use std::io::{self, BufRead, Write};

use crate::llama::{Llama, Settings};

use crate::ServeArgs;

/// Answers each line `FIRST all|last ID,ID,...` of standard input. The tokens take the positions
/// from FIRST on, after those of earlier lines; tokens that were there before are dropped. The
/// answer is the logits after every token or after the last: rows of the vocabulary's size in
/// little-endian f32.
pub fn serve(args: &ServeArgs) -> Result<(), Box<dyn Error>> {
    let settings =
        Settings { longest: args.context, threads: args.threads, kv: args.kv, keeps_all: args.keep_all, ..Settings::default() };
    let mut llama = Llama::load(&args.model, &settings)?;
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let line = line?;
        let [first, wanted, ids] = line.split(' ').collect::<Vec<_>>()[..] else {
            return Err(format!("not a request: {line}").into());
        };
        let ids: Vec<i32> = ids.split(',').map(str::parse).collect::<Result<_, _>>()?;
        match first.parse::<usize>()? {
            0 => llama.clear(),
            first => llama.rewind(first)?,
        }
        let logits = if wanted == "all" { llama.all_logits(&ids)? } else { llama.last_logits(&ids)? };
        let bytes: Vec<u8> = logits.iter().flat_map(|value| value.to_le_bytes()).collect();
        out.write_all(&bytes)?;
        out.flush()?;
    }
    Ok(())
}
