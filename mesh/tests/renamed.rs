//! The program called by names of v0.1.0.

use std::process::Command;

/// Each old name ends the program at once, by exit code 2 and a sentence that has the new one.
#[test]
fn each_old_name_is_refused_by_the_new_one() {
    const VARIABLE: &str = "MESHMETER_INTERPOSER_ARG";
    for (line, old, new) in [
        ("origin --cluster", "origin", "control-plane"),
        ("origin --help", "origin", "control-plane"),
        ("interposer --upstream=http://x", "interposer", "xds-proxy"),
        (
            "injector --interposer-arg=--events",
            "--interposer-arg",
            "--xds-proxy-arg",
        ),
        (
            "inject --interposer-arg --events",
            "--interposer-arg",
            "--xds-proxy-arg",
        ),
        ("injector", VARIABLE, "MESHMETER_XDS_PROXY_ARG"),
        ("inject", VARIABLE, "MESHMETER_XDS_PROXY_ARG"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meshmeter-mesh"));
        command.args(line.split(' '));
        if old == VARIABLE {
            command.env(VARIABLE, "--events");
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}: {said}");
        let sentence = format!("{old} was renamed to {new} in v0.2.0\n");
        assert!(said.contains(&sentence), "{line}: {said}");
    }
}
