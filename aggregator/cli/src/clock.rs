//! The system's clock and time zone. All other code takes them as arguments.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The present, and where the asker is.
#[derive(Clone, Debug)]
pub struct Clock {
    pub now: Timestamp,
    pub zone: TimeZone,
}

/// Reads both.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads a clock"
)]
pub fn read() -> Clock {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Clock {
        now: at(since.unwrap_or(Duration::ZERO).as_millis()),
        zone: TimeZone::system(),
    }
}

/// The time so many milliseconds after 1970; the last that there is if it is beyond it.
pub(crate) fn at(unix_ms: impl TryInto<i64>) -> Timestamp {
    let ms = unix_ms.try_into().unwrap_or(i64::MAX);
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX)
}

// === impl Clock ===

impl Clock {
    /// The present in milliseconds since 1970.
    pub(crate) fn unix_ms(&self) -> u64 {
        u64::try_from(self.now.as_millisecond()).unwrap_or(0)
    }

    /// Time in the asker's zone, as `14:02:13`; with its date if that is not today's.
    pub(crate) fn time_of_day(&self, unix_ms: u64) -> String {
        let zoned = at(unix_ms).to_zoned(self.zone.clone());
        let is_today = zoned.date() == self.now.to_zoned(self.zone.clone()).date();
        let format = if is_today { "%H:%M:%S" } else { "%F %H:%M:%S" };
        zoned.strftime(format).to_string()
    }

    /// The zone's name, or its offset now if it has none.
    pub(crate) fn zone_name(&self) -> String {
        match self.zone.iana_name() {
            Some(name) => name.to_owned(),
            None => self
                .now
                .to_zoned(self.zone.clone())
                .strftime("%:z")
                .to_string(),
        }
    }
}
