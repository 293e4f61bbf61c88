//! The command line of the one binary, `potluck`.

fn main() -> std::process::ExitCode {
    potluck::commands::main()
}
