//! The name by which the program was called.

use std::ffi::OsStr;
use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Command;

use crate::args::Shell;

/// How the program was called.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Program {
    /// `meshmeter`.
    Meshmeter,
    /// `kubectl meshmeter`: kubectl runs `kubectl-meshmeter`.
    Plugin,
}

/// Prints the completions of `command`.
pub(crate) fn completion(shell: Shell, mut command: Command) -> ExitCode {
    let name = command.get_name().to_owned();
    let mut text = Vec::new();
    let generate = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    clap_complete::generate(generate, &mut command, name, &mut text);
    // A closed stdout is no error.
    let _ = std::io::stdout().write_all(&text);
    ExitCode::SUCCESS
}

// === impl Program ===

impl Program {
    /// By the name of the file that was started.
    pub fn of(argument: Option<&OsStr>) -> Self {
        let name = argument.map(Path::new).and_then(Path::file_stem);
        match name {
            Some(name) if name == "kubectl-meshmeter" => Self::Plugin,
            _ => Self::Meshmeter,
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Meshmeter => "meshmeter",
            Self::Plugin => "kubectl meshmeter",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the file's name, wherever it lies, and by nothing else.
    #[test]
    fn is_called_by_a_name() {
        for (argument, expected) in [
            ("meshmeter", Program::Meshmeter),
            ("/usr/local/bin/kubectl-meshmeter", Program::Plugin),
            ("kubectl-meshmeter.exe", Program::Plugin),
            ("/kubectl-meshmeter/meshmeter", Program::Meshmeter),
            ("kubectl-meshmeters", Program::Meshmeter),
        ] {
            assert_eq!(Program::of(Some(argument.as_ref())), expected, "{argument}");
        }
        assert_eq!(Program::of(None), Program::Meshmeter);
    }
}
