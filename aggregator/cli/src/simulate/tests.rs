use std::io::Write as _;

use clap::Parser;

use super::*;
use crate::testing::{hold, texts};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: SimulateArgs,
}

fn report_of(flags: &[&str]) -> Result<Report, String> {
    let cli = Cli::try_parse_from([&["simulate"], flags].concat());
    report(&cli.map_err(|error| error.to_string())?.args)
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

const HPA: &str = "
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: jazz}
spec:
  scaleTargetRef: {kind: Deployment, name: jazz}
  minReplicas: 2
  maxReplicas: 20
  metrics:
  - type: Pods
    pods: {metric: {name: appmesh_requests_per_second}, target: {type: AverageValue, averageValue: \"10\"}}
";

/// The default compares both ways of measuring; the later signal costs more.
#[test]
fn the_default_compares_signals() {
    let report = report_of(&[]).unwrap();
    let [ours, theirs] = report.settings.as_slice() else {
        panic!("{report:?}");
    };
    assert_eq!(
        (ours.setting.as_str(), theirs.setting.as_str()),
        ("meshmeter", "prometheus")
    );
    assert!(ours.outcome.over_capacity_requests < theirs.outcome.over_capacity_requests);
    hold("simulate/default", &texts(lines(&report, None)));
}

/// A recording and a manifest say the same as flags.
#[test]
fn files_say_what_flags_say() {
    let load = file("0,20\n300,20\n300.1,100\n1200,100\n1200.1,20\n1800,20\n");
    let hpa = file(HPA);
    let [load, hpa] = [&load, &hpa].map(|file| file.path().to_str().unwrap());
    let read = report_of(&["--file", load, "--hpa", hpa]).unwrap();
    let given = report_of(&["step", "--min=2", "--max=20"]).unwrap();
    for (read, given) in read.settings.iter().zip(&given.settings) {
        assert_eq!(read.outcome, given.outcome);
    }
    let json = serde_json::to_value(&read).unwrap();
    assert_eq!(json["settings"][1]["signalWindowMs"], 45_000);
    assert!(json["settings"][0]["scalings"][0]["at_ms"].is_u64());
}

/// Each input that cannot be used is named.
#[test]
fn bad_input_is_named() {
    let cpu = file(&HPA.replace("type: Pods", "type: Resource").replace("pods: {metric: {name: appmesh_requests_per_second}, target: {type: AverageValue, averageValue: \"10\"}}", "resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}"));
    let bad = file("1,2\nx,3");
    let [cpu, bad] = [&cpu, &bad].map(|file| file.path().to_str().unwrap());
    let nine = ["--setting=meshmeter"; 9];
    for (flags, problem) in [
        (&["--file", bad][..], "line 2: \"x\" is no time"),
        (&["--file", "/nonexistent"], "--file /nonexistent: "),
        (&["--hpa", bad], "--hpa "),
        (&["--hpa", cpu], "--capacity is needed"),
        (&["--hpa", cpu, "--capacity=1"], "cpu of the pods"),
        (&["--target=0"], "--target 0: more than 0"),
        (&["--min=3", "--max=2"], "--max 2 is less than --min 3"),
        (&nine, "--setting is given 9 times"),
        (&["--setting=a:sync=0"], "a: the time between two syncs"),
        (&["stairs"], "step"),
    ] {
        let error = report_of(flags).unwrap_err();
        assert!(error.contains(problem), "{flags:?}: {error}");
    }
}
