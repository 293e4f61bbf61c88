//! The command line of the only binary, `potluck`.

fn main() -> std::process::ExitCode {
    potluck::commands::main()
}
