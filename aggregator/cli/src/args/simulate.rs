//! Flags of `simulate`.

use std::path::PathBuf;
use std::time::Duration;

use autoscaler_simulation::{Shape, Signal};
use clap::builder::PossibleValuesParser;
use clap::{Args, builder::TypedValueParser as _};

use super::{ColorWhen, TextOrJson, duration};

/// Settings that are compared at most.
const SETTINGS_MAX: usize = 8;

/// Flags of `simulate`.
#[derive(Args, Clone, Debug)]
pub struct SimulateArgs {
    /// Course of the load, where there is no --file: between --low and --high.
    #[arg(value_name = "SHAPE", default_value = "step", value_parser = shape(), conflicts_with = "file")]
    pub shape: Shape,

    /// Lowest requests per second of a SHAPE, all pods together.
    #[arg(long, value_name = "NUMBER", default_value_t = 20.0, value_parser = rate)]
    pub low: f64,

    /// Highest requests per second of a SHAPE, all pods together.
    #[arg(long, value_name = "NUMBER", default_value_t = 100.0, value_parser = rate)]
    pub high: f64,

    /// Recorded requests per second of all pods together; - is stdin. Either CSV with two columns,
    /// time (seconds or RFC 3339) and value, or the JSON of Prometheus' `/api/v1/query_range`.
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// HPA to try, a manifest as YAML or JSON of autoscaling/v2 with metrics of requests.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["target", "min", "max"])]
    pub hpa: Option<PathBuf>,

    /// Without --hpa: target of requests per second and pod.
    #[arg(long, value_name = "NUMBER", default_value_t = 10.0, value_parser = rate)]
    pub target: f64,

    /// Without --hpa: minReplicas.
    #[arg(long, value_name = "PODS", default_value_t = 1)]
    pub min: u32,

    /// Without --hpa: maxReplicas.
    #[arg(long, value_name = "PODS", default_value_t = 100)]
    pub max: u32,

    /// Requests per second that a pod can serve. Default: 1.2 times the target per pod.
    #[arg(long, value_name = "NUMBER", value_parser = rate)]
    pub capacity: Option<f64>,

    /// Replicas at the start. Default: as many as the first value of the load needs.
    #[arg(long, value_name = "PODS")]
    pub replicas: Option<u32>,

    /// One of the settings that are compared, up to 8: `meshmeter`, `prometheus`, or
    /// NAME:KEY=VALUE,... with the keys `signal` (meshmeter or prometheus), `delay`, `window`,
    /// `every` (of the signal), `sync`, `ready` (until a pod is ready), `up`, `down`
    /// (stabilization windows), all times, and `tolerance`, a number.
    /// Default: meshmeter and prometheus.
    #[arg(long = "setting", value_name = "SETTING", value_parser = setting)]
    pub settings: Vec<SettingArg>,

    /// Form of the answer.
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    pub output: TextOrJson,

    /// When to colour.
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: ColorWhen,
}

/// One setting of the comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct SettingArg {
    pub name: String,
    pub signal: Signal,
    pub sync: Duration,
    pub time_to_ready: Duration,
    /// Stabilization windows and tolerance; `None`: those of the HPA.
    pub up: Option<Duration>,
    pub down: Option<Duration>,
    pub tolerance: Option<f64>,
}

// === impl SimulateArgs ===

impl SimulateArgs {
    /// What is compared.
    pub fn settings(&self) -> Result<Vec<SettingArg>, String> {
        if self.settings.is_empty() {
            return Ok(vec![
                SettingArg::new("meshmeter", Signal::MESHMETER),
                SettingArg::new("prometheus", Signal::PROMETHEUS),
            ]);
        }
        if self.settings.len() > SETTINGS_MAX {
            let given = self.settings.len();
            return Err(format!(
                "--setting is given {given} times, at most {SETTINGS_MAX}"
            ));
        }
        Ok(self.settings.clone())
    }
}

// === impl SettingArg ===

impl SettingArg {
    /// The stock settings of the controller, and pods that take 30 s.
    fn new(name: &str, signal: Signal) -> Self {
        Self {
            name: name.to_owned(),
            signal,
            sync: Duration::from_secs(15),
            time_to_ready: Duration::from_secs(30),
            up: None,
            down: None,
            tolerance: None,
        }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "signal" => self.signal = signal(value)?,
            "delay" => self.signal.delay = duration(value)?,
            "window" => self.signal.window = duration(value)?,
            "every" => self.signal.every = duration(value)?,
            "sync" => self.sync = duration(value)?,
            "ready" => self.time_to_ready = duration(value)?,
            "up" => self.up = Some(duration(value)?),
            "down" => self.down = Some(duration(value)?),
            "tolerance" => self.tolerance = Some(rate(value)?),
            other => {
                return Err(format!(
                    "{other:?} is no key: signal, delay, window, every, sync, ready, up, down, tolerance"
                ));
            }
        }
        Ok(())
    }
}

fn shape() -> impl clap::builder::TypedValueParser<Value = Shape> {
    PossibleValuesParser::new(Shape::ALL.map(Shape::as_str))
        .try_map(|name| Shape::parse(&name).ok_or("no such shape"))
}

fn rate(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    number
        .filter(|number| number.is_finite() && *number >= 0.0)
        .ok_or_else(|| format!("{text:?} is no number of 0 or more"))
}

fn signal(name: &str) -> Result<Signal, String> {
    match name {
        "meshmeter" => Ok(Signal::MESHMETER),
        "prometheus" => Ok(Signal::PROMETHEUS),
        other => Err(format!("{other:?} is no signal: meshmeter or prometheus")),
    }
}

/// A setting, in order: the keys after `signal` change what it stands for.
fn setting(text: &str) -> Result<SettingArg, String> {
    let (name, keys) = text.split_once(':').unwrap_or((text, ""));
    if name.is_empty() {
        return Err("the setting has no name: NAME:KEY=VALUE,...".to_owned());
    }
    let preset = signal(name);
    if keys.is_empty() {
        preset.clone()?;
    }
    let mut setting = SettingArg::new(name, preset.unwrap_or(Signal::MESHMETER));
    for pair in keys.split(',').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| format!("{pair:?} is not KEY=VALUE"))?;
        setting.set(key, value)?;
    }
    Ok(setting)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys change what the name or `signal` stands for; what is wrong is named.
    #[test]
    fn settings_are_read_key_by_key() {
        let slow =
            setting("slow:signal=prometheus,delay=20s,ready=1m,tolerance=0.05,down=90").unwrap();
        let expected = SettingArg {
            signal: Signal {
                delay: Duration::from_secs(20),
                ..Signal::PROMETHEUS
            },
            time_to_ready: Duration::from_mins(1),
            tolerance: Some(0.05),
            down: Some(Duration::from_secs(90)),
            ..SettingArg::new("slow", Signal::PROMETHEUS)
        };
        assert_eq!(slow, expected);
        assert_eq!(setting("prometheus").unwrap().signal, Signal::PROMETHEUS);
        for (text, problem) in [
            ("", "no name"),
            ("other", "\"other\" is no signal"),
            ("a:signal=x", "\"x\" is no signal"),
            ("a:delay", "\"delay\" is not KEY=VALUE"),
            ("a:wait=1s", "\"wait\" is no key"),
            ("a:delay=x", "\"x\" is no time"),
            ("a:tolerance=-1", "\"-1\" is no number"),
        ] {
            let error = setting(text).unwrap_err();
            assert!(error.contains(problem), "{text:?}: {error}");
        }
    }
}
