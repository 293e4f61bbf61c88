//! Multi-line prompts on a pipe.

use super::*;

#[test]
fn lines_between_the_marks_are_one_prompt_on_a_pipe() {
    let args: Vec<String> =
        ["run", "--alone", "--max-tokens", "6", "--model"].map(str::to_string).to_vec();
    let args = || args.iter().cloned().chain([demo().display().to_string()]);
    let output =
        fed(args(), b"\"\"\"\nHello\n\nquit\n\"\"\"\nask \"\"\"Why\nreset\"\"\"\nversion\n");
    let (given, notes) = (done(&output), told(&output));
    assert_eq!(notes.lines().filter(|line| line.starts_with('[')).count(), 2, "{notes}");
    assert!(given.contains("potluck 0."), "the line after them is a command: {given}");
    // One is too long and one never ends: neither is asked, and the user is told.
    let line = format!("{}\n", "word ".repeat(9_000));
    let input = format!("\"\"\"\n{}\"\"\"\nHello\n\"\"\"\nand so on\n", line.repeat(5));
    let output = fed(args(), input.as_bytes());
    let notes = told(&output);
    assert_eq!(notes.lines().filter(|line| line.starts_with('[')).count(), 1, "{notes}");
    assert!(
        notes.contains("! a prompt may have 131072 bytes, and these lines have more"),
        "{notes}"
    );
    assert!(notes.contains("! the prompt that \"\"\" began has no end"), "{notes}");
}
