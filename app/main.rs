//! The command line of the one binary, `potluck`.

fn main() {}
