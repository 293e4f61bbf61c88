//! Parses the command line. Errors show the usage of the command that was given, and the values
//! that it accepts.

use std::ffi::OsString;
use std::ops::RangeInclusive;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory, FromArgMatches};

/// Parses `args`, which start with the program's name. Exits if they ask for help, and with code 2
/// if they are invalid.
pub(super) fn read<T: CommandFactory + FromArgMatches>(args: impl Iterator<Item = OsString>) -> T {
    let args: Vec<OsString> = args.collect();
    parse(T::command(), &args).unwrap_or_else(|error| error.exit())
}

/// Refuses arguments that the parser accepted: exit code 2.
pub(super) fn refuse<T: CommandFactory>(command: &str, kind: ErrorKind, reason: &str) -> ! {
    let mut whole = T::command();
    whole.build();
    whole
        .find_subcommand_mut(command)
        .map_or_else(|| clap::Error::raw(kind, reason), |used| used.error(kind, reason))
        .exit()
}

fn parse<T: FromArgMatches>(mut whole: Command, args: &[OsString]) -> Result<T, clap::Error> {
    let parsed = whole
        .try_get_matches_from_mut(args)
        .and_then(|mut matches| T::from_arg_matches_mut(&mut matches));
    parsed.map_err(|error| with_usage(error, whole, args))
}

/// The error, with the usage of the command in which it was made.
fn with_usage(mut error: clap::Error, mut whole: Command, args: &[OsString]) -> clap::Error {
    whole.build();
    let mut used = &mut whole;
    for word in args.iter().skip(1) {
        let Some(name) = used.find_subcommand(word).map(|found| found.get_name().to_string())
        else {
            break;
        };
        used = used
            .find_subcommand_mut(&name)
            .unwrap_or_else(|| unreachable!("{name} was just found"));
    }
    if error.use_stderr() && error.get(ContextKind::Usage).is_none() {
        error.insert(ContextKind::Usage, ContextValue::StyledStr(used.render_usage()));
    }
    error.format(used)
}

/// Parses a whole number in `range`.
pub(super) fn whole<N>(
    range: RangeInclusive<N>,
) -> impl Fn(&str) -> Result<N, String> + Clone + Send + Sync + 'static
where
    N: std::str::FromStr + PartialOrd + std::fmt::Display + Clone + Send + Sync + 'static,
{
    move |text| {
        let taken = text.parse().ok().filter(|number| range.contains(number));
        taken.ok_or_else(|| {
            format!("a whole number from {} to {} is needed", range.start(), range.end())
        })
    }
}
