//! `potluck read-template`: reads a chat template within bounds, for the process that started it
//! (`start/template.rs`).

use std::io::{self, Read};

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::answers::Pattern;
use crate::fronts::{OutputError, print};
use crate::limits::{MAX_TEMPLATE_BYTES, MAX_TEMPLATE_MEMORY_BYTES, MAX_TEMPLATE_SECONDS};

/// Reads a template from standard input and prints its pattern as JSON.
pub(super) fn run() -> Result<(), OutputError> {
    let bounds = [
        (Resource::Data, MAX_TEMPLATE_MEMORY_BYTES),
        (Resource::Cpu, MAX_TEMPLATE_SECONDS),
        (Resource::Core, 0),
    ];
    for (resource, most) in bounds {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
            .map_err(io::Error::from)?;
    }
    let mut source = Vec::new();
    io::stdin().take(MAX_TEMPLATE_BYTES as u64 + 1).read_to_end(&mut source)?;
    let source = String::from_utf8_lossy(&source);
    let read = Pattern::of(&source);
    print(
        serde_json::to_string(&read)
            .unwrap_or_else(|error| unreachable!("texts are plain data: {error}")),
    )
}
