//! Examples below `--help`, in the words of how the program was called.

use std::fmt::Write as _;

use clap::{Command, CommandFactory, Parser};

use super::Operator;
use crate::Program;

/// What meshmeter sees, and why it scaled.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "kubectl-meshmeter",
    bin_name = "kubectl meshmeter",
    version,
    max_term_width = 100
)]
pub struct PluginArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: Operator,
}

/// What each command's help ends with: what follows the program's name, and what it does.
const EXAMPLES: [(&str, &[(&str, &str)]); 7] = [
    (
        "top",
        &[
            (
                "top pods",
                "the pods of the context's namespace, busiest first",
            ),
            ("top workloads -A --watch", "all workloads, live"),
            (
                "top pods -n prod -l app=jazz --sort-by age",
                "which value is the oldest",
            ),
            ("top services -n prod -o json", "for other tools"),
        ],
    ),
    (
        "explain",
        &[
            (
                "explain hpa jazz -n prod",
                "why it has as many replicas as it has",
            ),
            ("explain hpa jazz -n prod --at 14:02", "why it scaled then"),
            ("explain hpa/jazz -o json", "for other tools"),
        ],
    ),
    (
        "timeline",
        &[
            (
                "timeline hpa jazz -n prod --since 1h",
                "reads, decisions, ready pods, a chart",
            ),
            (
                "timeline hpa jazz -n prod --watch",
                "and on, until interrupted",
            ),
        ],
    ),
    (
        "check",
        &[
            ("check --pre", "before the installation"),
            ("check", "after it"),
            ("check --wait 120 -o json", "in a pipeline"),
        ],
    ),
    (
        "simulate",
        &[
            (
                "simulate",
                "a step in load, read through meshmeter and through Prometheus",
            ),
            (
                "simulate --file load.csv --hpa hpa.yaml",
                "a recorded load and an HPA of yours",
            ),
            (
                "simulate burst --setting meshmeter --setting slow:ready=2m --setting calm:up=30s",
                "what else could be changed",
            ),
        ],
    ),
    (
        "ui",
        &[
            ("ui", "all namespaces, if you may see them"),
            (
                "ui -n prod --no-open",
                "one namespace, and only print the link",
            ),
            (
                "ui --server https://127.0.0.1:7443 --insecure-skip-tls-verify",
                "an aggregator that runs without a cluster",
            ),
        ],
    ),
    (
        "completion",
        &[
            ("completion bash", "for /etc/bash_completion.d"),
            ("completion zsh", "for a folder of fpath"),
            ("completion fish", "for ~/.config/fish/completions"),
        ],
    ),
];

/// The command line of the plugin, with examples.
pub fn plugin() -> Command {
    with_examples(PluginArgs::command(), Program::Plugin)
}

/// Adds the examples to those of the operator's commands that `command` has.
pub fn with_examples(command: Command, program: Program) -> Command {
    EXAMPLES.iter().fold(command, |command, (name, examples)| {
        if command.find_subcommand(name).is_none() {
            return command;
        }
        let mut text = "Examples:".to_owned();
        for (line, meaning) in *examples {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n  # {meaning}\n  {program} {line}");
        }
        command.mut_subcommand(name, |below| below.after_help(text))
    })
}
