use super::{Protocol, Version};
use crate::write_response::WriteResponse;

fn status(code: u16, written: Option<u32>) -> WriteResponse {
    WriteResponse::Status {
        code,
        retry_after: None,
        body: String::new(),
        written,
    }
}

fn asked(version: Version) -> Protocol {
    Protocol::new(version)
}

/// 415, and 2xx without the headers: that request again in 1.0, all after it too, and 2.0 again
/// after some minutes.
#[test]
fn two_answers_mean_an_older_version() {
    for answer in [status(415, None), WriteResponse::NotUnderstood] {
        let protocol = asked(Version::V2);
        assert!(protocol.observe(Version::V2, &answer, 0.0));
        assert_eq!(protocol.version(1.0), Version::V1);
        // Another shard's request was on its way.
        assert!(protocol.observe(Version::V2, &answer, 1.0));
        assert!(!protocol.observe(Version::V1, &status(204, None), 2.0));
        assert_eq!(protocol.version(599.0), Version::V1);
        assert_eq!(protocol.version(600.0), Version::V2, "upgraded meanwhile?");
        assert!(protocol.observe(Version::V2, &answer, 600.0));
        assert_eq!(protocol.version(601.0), Version::V1);
        assert_eq!(protocol.version(1_200.0), Version::V2);
        assert!(!protocol.observe(Version::V2, &status(204, Some(1)), 1_200.0));
        assert_eq!(protocol.version(9e9), Version::V2);
    }
}

/// No other answer does: neither the first one nor a later one.
#[test]
fn no_other_answer_means_an_older_version() {
    for code in [400, 401, 404, 409, 413, 422, 429, 500, 503] {
        for before in [None, Some(status(204, Some(1)))] {
            let protocol = asked(Version::V2);
            if let Some(before) = before {
                protocol.observe(Version::V2, &before, 0.0);
            }
            assert!(
                !protocol.observe(Version::V2, &status(code, None), 0.0),
                "{code}"
            );
            assert_eq!(protocol.version(0.0), Version::V2, "{code}");
        }
    }
}

/// A receiver that says how much it wrote knows 2.0, whatever it refuses.
#[test]
fn who_says_what_was_written_knows_the_version() {
    let protocol = asked(Version::V2);
    for _ in 0..10 {
        assert!(!protocol.observe(Version::V2, &status(400, Some(0)), 0.0));
        assert_eq!(protocol.version(0.0), Version::V2);
    }
}

/// One that refuses each request without a word is asked in 1.0 once; what it says to that decides.
#[test]
fn an_old_receiver_that_refuses_everything_is_found_out() {
    for (answer, then) in [(204, Version::V1), (400, Version::V2)] {
        let protocol = asked(Version::V2);
        for _ in 0..3 {
            assert_eq!(protocol.version(0.0), Version::V2);
            assert!(!protocol.observe(Version::V2, &status(400, None), 0.0));
        }
        assert_eq!(protocol.version(0.0), Version::V1);
        assert!(!protocol.observe(Version::V1, &status(answer, None), 0.0));
        assert_eq!(protocol.version(0.0), then);
    }
}

#[test]
fn version_1_is_never_left() {
    let protocol = asked(Version::V1);
    assert!(!protocol.observe(Version::V1, &status(415, None), 0.0));
    assert_eq!(protocol.version(9e9), Version::V1);
}
