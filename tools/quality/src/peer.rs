//! llama.cpp in a separate process.

use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use potluck::id::TokenId;

use crate::{Common, Failure};

/// `bench-peer serve`. It ends with its standard input.
pub struct Peer {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    vocab: usize,
}

impl Peer {
    /// Starts it on `file`, whose vocabulary has `vocab` tokens. `options` are the rest of its
    /// command line.
    pub fn start(common: &Common, file: &Path, vocab: usize, context: usize, options: &[&str]) -> Result<Peer, Failure> {
        let program: &Path = common.peer.as_deref().ok_or("llama.cpp needs --peer, the program of tools/bench-peer")?;
        let mut child = Command::new(program)
            .args(["serve", "--threads", &common.threads.to_string(), "--context", &context.to_string()])
            .args(options)
            .arg("--model")
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().ok_or("no pipe from the peer")?);
        Ok(Peer { child, requests, answers, vocab })
    }

    /// The logits after the last of `tokens`, which are at the positions `first ..`.
    pub fn last(&mut self, tokens: &[TokenId], first: usize) -> Result<Vec<f32>, Failure> {
        self.ask(tokens, first, "last")?;
        self.answer(1)
    }

    /// Asks for the logits after the "last" of `tokens`, or after "all".
    pub fn ask(&mut self, tokens: &[TokenId], first: usize, wanted: &str) -> Result<(), Failure> {
        let ids: Vec<String> = tokens.iter().map(|token| token.0.to_string()).collect();
        let requests = self.requests.as_mut().ok_or("the peer has been stopped")?;
        writeln!(requests, "{first} {wanted} {}", ids.join(","))?;
        Ok(requests.flush()?)
    }

    /// The answer to the request: `rows` of the vocabulary's size.
    pub fn answer(&mut self, rows: usize) -> Result<Vec<f32>, Failure> {
        let mut bytes = vec![0; rows * self.vocab * 4];
        self.answers.read_exact(&mut bytes).map_err(|_| "the peer ended early; see its output above")?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.requests.take());
        // Nobody needs its exit status: it has printed any error on standard error.
        let _ = self.child.wait();
    }
}
