//! Names of v0.1.0 on the command line and in the environment: each ends the program with today's.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory, Error};

use crate::Args;

const SUBCOMMANDS: [(&str, &str); 2] = [("origin", "control-plane"), ("interposer", "xds-proxy")];
const FLAGS: [(&str, &str); 1] = [("--interposer-arg", "--xds-proxy-arg")];
const VARIABLES: [(&str, &str); 1] = [("MESHMETER_INTERPOSER_ARG", "MESHMETER_XDS_PROXY_ARG")];

/// Fails if `args` (the program's name first) or `is_set` of a variable name something by the name
/// it had in v0.1.0.
pub(crate) fn check(args: &[OsString], is_set: impl Fn(&str) -> bool) -> Result<(), Error> {
    let words: Vec<_> = args
        .iter()
        .skip(1)
        .map(|arg| arg.to_string_lossy())
        .collect();
    let subcommand = words.first().map(AsRef::as_ref).unwrap_or_default();
    let flags = || words.iter().take_while(|word| *word != "--");
    let by_subcommand = SUBCOMMANDS.iter().find(|(old, _)| subcommand == *old);
    let by_flag = FLAGS
        .iter()
        .find(|(old, _)| flags().any(|word| word.split('=').next() == Some(old)));
    // Other subcommands never read it, and a pod may have it for all its containers.
    let reads = ["injector", "inject"].contains(&subcommand);
    let by_variable = VARIABLES.iter().find(|(old, _)| reads && is_set(old));
    match by_subcommand.or(by_flag).or(by_variable) {
        None => Ok(()),
        Some((old, new)) => {
            let message = format!("{old} was renamed to {new} in v0.2.0");
            Err(Args::command().error(ErrorKind::UnknownArgument, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn what_only_looks_like_an_old_name_passes() {
        for (line, variable) in [
            ("mesh", ""),
            ("mesh control-plane --folder origin", ""),
            ("mesh injector --xds-proxy-arg=--interposer-arg=x", ""),
            ("mesh xds-proxy", "MESHMETER_INTERPOSER_ARG"),
            ("mesh injector", "MESHMETER_XDS_PROXY_ARG"),
        ] {
            let args: Vec<_> = line.split(' ').map(Into::into).collect();
            let outcome = check(&args, |name| variable == name);
            assert!(outcome.is_ok(), "{line}: {outcome:?}");
        }
    }
}
