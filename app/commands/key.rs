//! `potluck key`: generates a swarm key, in every form that a board accepts.

use std::io::{self, IsTerminal};

use clap::Args;
use qrcode::render::unicode::Dense1x2;
use qrcode::types::QrError;
use qrcode::{EcLevel, QrCode};
use thiserror::Error;

use crate::config::SwarmKey;
use crate::fronts::{Event, OutputError, print, print_line};
use crate::start::draw_key;

/// Arguments of `potluck key`.
#[derive(Args)]
pub(super) struct KeyArgs {
    /// Print the QR code even if the output is not a terminal
    #[arg(long, conflicts_with = "json")]
    qr: bool,
    /// One JSON object instead of text
    #[arg(short, long)]
    pub json: bool,
}

/// Why no key was generated.
#[derive(Debug, Error)]
pub(super) enum DrawError {
    #[error("this machine has no source of randomness ({0}): generate the key on another")]
    Random(String),
    #[error("the QR code cannot be made: {0}")]
    Qr(#[from] QrError),
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Generates a key and prints it. All other lines are comments, so that the output can be used as a
/// file for `--key-file`.
pub(super) fn run(args: &KeyArgs) -> Result<(), DrawError> {
    let key = draw_key().map_err(|error| DrawError::Random(error.to_string()))?;
    let hex = SwarmKey::hex(&key);
    if args.json {
        return Ok(print_line(Event::Key { key: &hex, words: &SwarmKey::words(&key) }.line())?);
    }
    let mut text = format!(
        "# A swarm key: set it, in quotation marks, as key in [swarm] of every board's potluck.toml.\n{hex}\n"
    );
    text += "# The same key in words, for typing:\n";
    let words = SwarmKey::words(&key);
    let words: Vec<&str> = words.split(' ').collect();
    words.chunks(6).for_each(|line| text += &format!("#   {}\n", line.join(" ")));
    if args.qr || io::stdout().is_terminal() {
        text += &qr_code(&hex)?;
    }
    Ok(print(text)?)
}

/// The key as a QR code of half blocks, light on dark as terminals are. In capitals, for which QR
/// codes have a compact encoding.
fn qr_code(hex: &str) -> Result<String, QrError> {
    let code = QrCode::with_error_correction_level(hex.to_uppercase(), EcLevel::L)?;
    let drawn =
        code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    Ok(drawn.lines().map(|line| format!("# {line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A code wider than a terminal would be wrapped, and no phone could read it.
    #[test]
    fn the_code_fits_a_narrow_terminal() {
        let drawn = qr_code(&"7f".repeat(32)).unwrap();
        let widths: Vec<usize> = drawn.lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0] && *width < 60), "{widths:?}");
        assert!(widths.len() < 24, "{} lines", widths.len());
    }
}
