//! Requests a second over time, from points.

use std::time::Duration;

use serde::Deserialize;

/// Points of a series at most: a month, one each 15 s.
const POINTS_MAX: usize = 200_000;
/// Longest series.
const LENGTH_MAX: Duration = Duration::from_hours(31 * 24);

/// Requests a second of all pods together, a line between each two points.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Seconds since the first point, and requests a second; at least two, times rise.
    points: Vec<(f64, f64)>,
}

/// Why a text is no series.
#[derive(Debug, thiserror::Error)]
pub enum SeriesError {
    #[error("it has {0} points, at least 2 are needed")]
    Short(usize),
    #[error("it has more than {POINTS_MAX} points")]
    Long,
    #[error("it lasts {0:.0} s, more than 31 days")]
    Lasting(f64),
    #[error("line {line}: {problem}")]
    Csv { line: u64, problem: String },
    #[error("it is no answer of Prometheus to a range query: {0}")]
    Json(#[from] serde_json::Error),
    #[error("Prometheus answered {status:?}: {error}")]
    Failed { status: String, error: String },
    #[error("Prometheus' answer is a {0:?}, not a \"matrix\": ask `/api/v1/query_range`")]
    NoMatrix(String),
    #[error("point {index}: {problem}")]
    Point { index: usize, problem: String },
}

#[derive(Deserialize)]
struct Response {
    status: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    data: Data,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    #[serde(default)]
    result_type: String,
    #[serde(default)]
    result: Vec<Matrix>,
}

#[derive(Deserialize)]
struct Matrix {
    values: Vec<(f64, String)>,
}

// === impl Series ===

impl Series {
    /// A series of points: seconds since any start, and requests a second.
    pub fn of_points(points: Vec<(f64, f64)>) -> Result<Self, SeriesError> {
        if points.len() < 2 {
            return Err(SeriesError::Short(points.len()));
        }
        if points.len() > POINTS_MAX {
            return Err(SeriesError::Long);
        }
        let start = points[0].0;
        let mut before = f64::NEG_INFINITY;
        for (index, (at, rate)) in points.iter().enumerate() {
            let refuse = |problem: String| Err(SeriesError::Point { index, problem });
            if !at.is_finite() || *at <= before {
                return refuse(format!("its time {at} is not after {before}"));
            }
            if !rate.is_finite() || *rate < 0.0 {
                return refuse(format!("{rate} is no number of requests a second"));
            }
            before = *at;
        }
        if before - start > LENGTH_MAX.as_secs_f64() {
            return Err(SeriesError::Lasting(before - start));
        }
        let points = points.into_iter().map(|(at, rate)| (at - start, rate));
        Ok(Self {
            points: points.collect(),
        })
    }

    /// Two columns: a time (Unix or any seconds, or RFC 3339) and requests a second. A first line
    /// whose value is no number is a heading.
    pub fn from_csv(text: &str) -> Result<Self, SeriesError> {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .trim(csv::Trim::All)
            .comment(Some(b'#'))
            .from_reader(text.as_bytes());
        let mut points = Vec::new();
        for (index, record) in reader.records().enumerate() {
            let record = record.map_err(|error| SeriesError::Csv {
                line: error.position().map_or(0, csv::Position::line),
                problem: error.to_string(),
            })?;
            let line = record.position().map_or(0, csv::Position::line);
            let refuse = |problem: String| SeriesError::Csv { line, problem };
            let [Some(at), Some(rate), None] = [record.get(0), record.get(1), record.get(2)] else {
                return Err(refuse(format!("{} columns, not two", record.len())));
            };
            match (seconds(at), rate.parse::<f64>()) {
                (Some(at), Ok(rate)) => points.push((at, rate)),
                _ if index == 0 => {}
                (None, _) => return Err(refuse(format!("{at:?} is no time"))),
                (_, Err(_)) => return Err(refuse(format!("{rate:?} is no number"))),
            }
            if points.len() > POINTS_MAX {
                return Err(SeriesError::Long);
            }
        }
        Self::of_points(points)
    }

    /// The answer of Prometheus to a range query of requests a second. Several series are added up
    /// where all of them have a value: a gap of one is no fall of the sum.
    pub fn from_prometheus(text: &str) -> Result<Self, SeriesError> {
        let Response {
            status,
            error,
            data,
        } = serde_json::from_str(text)?;
        if status != "success" {
            return Err(SeriesError::Failed { status, error });
        }
        if data.result_type != "matrix" {
            return Err(SeriesError::NoMatrix(data.result_type));
        }
        let mut sums: std::collections::BTreeMap<i64, (usize, f64)> =
            std::collections::BTreeMap::new();
        for (index, (at, value)) in data.result.iter().flat_map(|one| &one.values).enumerate() {
            let refuse = |problem: String| SeriesError::Point { index, problem };
            let rate: f64 = value
                .parse()
                .map_err(|_| refuse(format!("{value:?} is no number")))?;
            let (count, sum) = sums.entry(millis(*at)).or_default();
            // A NaN of Prometheus is no value.
            if rate.is_finite() {
                (*count, *sum) = (*count + 1, *sum + rate);
            }
        }
        let all = data.result.len();
        let points = sums.into_iter().filter(|(_, (count, _))| *count == all);
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970")]
        let points = points.map(|(at, (_, sum))| (at as f64 / 1000.0, sum));
        Self::of_points(points.collect())
    }

    /// Its length.
    pub fn length(&self) -> Duration {
        let end = self.points.last().map_or(0.0, |(at, _)| *at);
        Duration::from_secs_f64(end)
    }

    /// Requests a second at `at` since its start; the last value holds on.
    pub fn rate(&self, at: Duration) -> f64 {
        let at = at.as_secs_f64();
        let after = self.points.partition_point(|(point, _)| *point <= at);
        match (
            self.points.get(after.wrapping_sub(1)),
            self.points.get(after),
        ) {
            (Some((from, low)), Some((to, high))) => low + (high - low) * (at - from) / (to - from),
            (Some((_, last)), None) => *last,
            (None, _) => self.points[0].1,
        }
    }
}

fn seconds(text: &str) -> Option<f64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Some(seconds);
    }
    let timestamp: jiff::Timestamp = text.parse().ok()?;
    Some(timestamp.as_duration().as_secs_f64())
}

#[expect(clippy::cast_possible_truncation, reason = "casts of floats saturate")]
fn millis(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(series: &Series, seconds: &[u64]) -> Vec<f64> {
        let at = |second: &u64| series.rate(Duration::from_secs(*second));
        seconds.iter().map(at).collect()
    }

    /// The same series in each form, with a line between points.
    #[test]
    fn forms_are_read_alike() {
        let json = r#"{"status":"success","data":{"resultType":"matrix","result":[
            {"metric":{"pod":"a"},"values":[[100,"10"],[110,"20"],[115,"1"],[120,"NaN"],[130,"20"]]},
            {"metric":{"pod":"b"},"values":[[100,"0"],[110,"10"],[120,"7"],[130,"10"]]}]}}"#;
        for series in [
            Series::from_csv("time,rate\n100,10\n110, 30\n130,30\n"),
            Series::from_csv(
                "2026-11-30T00:00:00Z,10\n# a remark\n2026-11-30T00:00:10Z,30\n2026-11-30T01:00:30+01:00,30",
            ),
            Series::from_prometheus(json),
        ] {
            let series = series.unwrap();
            assert_eq!(series.length(), Duration::from_secs(30));
            let rates = at(&series, &[0, 5, 10, 20, 99]);
            assert_eq!(rates, [10.0, 20.0, 30.0, 30.0, 30.0]);
        }
    }

    /// Bad input is named by its place.
    #[test]
    fn bad_input_is_named() {
        for (csv, problem) in [
            ("1,2", "it has 1 points, at least 2 are needed"),
            ("1,2\nx,3", "line 2: \"x\" is no time"),
            ("1,2\n2,x", "line 2: \"x\" is no number"),
            ("1,2\n2", "line 2: "),
            ("1,2,3\n2,3,4", "line 1: 3 columns, not two"),
            ("1,2\n1,3", "point 1: its time 1 is not after 1"),
            ("1,2\n2,-1", "point 1: -1 is no number of requests a second"),
            ("0,1\n9999999,1", "it lasts 9999999 s, more than 31 days"),
        ] {
            let error = Series::from_csv(csv).unwrap_err().to_string();
            assert!(error.contains(problem), "{csv:?}: {error}");
        }
        for (json, problem) in [
            ("[]", "it is no answer of Prometheus"),
            (
                r#"{"status":"error","error":"bad"}"#,
                "answered \"error\": bad",
            ),
            (
                r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#,
                "query_range",
            ),
        ] {
            let error = Series::from_prometheus(json).unwrap_err().to_string();
            assert!(error.contains(problem), "{json:?}: {error}");
        }
    }
}
