use clap::Parser as _;

use super::examples::{self, PluginArgs};
use super::*;

/// What the document quotes.
const SNAPSHOTS: [&str; 3] = [
    include_str!("../../tests/snapshots/top/workloads.txt"),
    include_str!("../../tests/snapshots/check/broken/metric-misspelt.txt"),
    include_str!("../../tests/snapshots/simulate/default.txt"),
];

/// Whoever reads the help can run what it shows, in the words of how the program was called.
#[test]
fn examples_are_commands() {
    let plugin = examples::plugin();
    plugin.clone().debug_assert();
    let mut seen = 0;
    for below in plugin.get_subcommands() {
        let help = below.get_after_help();
        let help = help.map(ToString::to_string).unwrap_or_default();
        let lines: Vec<_> = help.lines().skip(1).collect();
        assert!(!lines.is_empty(), "{} has no example", below.get_name());
        for line in lines.iter().filter(|line| !line.starts_with("  # ")) {
            let words = line.trim().strip_prefix("kubectl meshmeter ").unwrap();
            let words = std::iter::once("x").chain(words.split_whitespace());
            let parsed = PluginArgs::try_parse_from(words);
            assert!(parsed.is_ok(), "{line}: {parsed:?}");
            seen += 1;
        }
    }
    assert!(seen >= 12, "{seen}");
}

/// `hpa NAME` and what kubectl's users write as well.
#[test]
fn an_hpa_has_a_name() {
    let name = |words: &[&str]| {
        let hpa = words.iter().map(|word| (*word).to_owned()).collect();
        HpaArgs { hpa }.name().map(str::to_owned)
    };
    for words in [
        &["hpa", "jazz"][..],
        &["hpa/jazz"],
        &["horizontalpodautoscalers.autoscaling", "jazz"],
    ] {
        assert_eq!(name(words), Ok("jazz".to_owned()), "{words:?}");
    }
    for words in [
        &["deployment", "jazz"][..],
        &["jazz"],
        &["hpa"],
        &["hpa", "../x"],
        &["hpa", "a?b"],
    ] {
        assert!(name(words).is_err(), "{words:?}");
    }
}

#[test]
fn reads_durations() {
    for (text, seconds) in [
        ("0", 0),
        ("90", 90),
        ("90s", 90),
        ("15m", 900),
        ("1h30m", 5400),
    ] {
        assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
    }
    assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
    for text in [
        "",
        "s",
        "1d",
        "-1s",
        "1.5h",
        "99999999999h",
        "4000000000h4000000000h",
    ] {
        let outcome = duration(text);
        assert!(
            outcome.is_err() || text.starts_with('4'),
            "{text}: {outcome:?}"
        );
    }
}

/// Commands in the document are commands, and what it says they print is what they print.
#[test]
fn the_document_shows_what_there_is() {
    let document = include_str!("../../../../docs/CLI.md");
    let blocks = document.split("```").skip(1).step_by(2);
    let mut seen = 0;
    for block in blocks {
        let (language, text) = block.split_once('\n').unwrap();
        if language == "text" {
            let is_printed = SNAPSHOTS.contains(&text);
            assert!(is_printed, "nobody prints\n{text}");
            seen += 1;
        }
        let commands = text.lines().filter_map(|line| {
            let line = line.strip_prefix("kubectl ").unwrap_or(line);
            line.split(" > ").next()?.strip_prefix("meshmeter ")
        });
        for line in commands.filter(|_| language == "sh") {
            let words = std::iter::once("x").chain(line.split_whitespace());
            let parsed = PluginArgs::try_parse_from(words);
            assert!(parsed.is_ok(), "{line}: {parsed:?}");
            seen += 1;
        }
    }
    assert!(seen >= 17, "{seen}");
}
