//! Host names of AWS' services.

/// Suffixes of public host names, by partition: AWS with its US government regions, China, the
/// European Sovereign Cloud; each with its dual-stack (IPv6) suffix second.
const SUFFIXES: [&str; 6] = [
    ".amazonaws.com",
    ".api.aws",
    ".amazonaws.com.cn",
    ".api.amazonwebservices.com.cn",
    ".amazonaws.eu",
    ".api.amazonwebservices.eu",
];

/// The region in `host`, if it is `<service>.<region>.<AWS>` with one of `services` (with `-fips`
/// where that is meant).
pub fn region<'a>(host: &'a str, services: &[&str]) -> Option<&'a str> {
    let (service, rest) = host.split_once('.')?;
    let region = SUFFIXES.iter().find_map(|end| rest.strip_suffix(end))?;
    let is_region = !region.is_empty() && !region.contains('.');
    (services.contains(&service) && is_region).then_some(region)
}

#[cfg(test)]
mod tests {
    use super::region;

    #[test]
    fn names_tell_their_region() {
        for (host, expected) in [
            ("aps-workspaces.eu-west-1.amazonaws.com", Some("eu-west-1")),
            (
                "aps-workspaces-fips.us-east-1.amazonaws.com",
                Some("us-east-1"),
            ),
            (
                "aps-workspaces.us-gov-west-1.amazonaws.com",
                Some("us-gov-west-1"),
            ),
            ("aps-workspaces.eu-west-1.api.aws", Some("eu-west-1")),
            ("aps-workspaces-fips.us-east-1.api.aws", Some("us-east-1")),
            (
                "aps-workspaces.cn-north-1.amazonaws.com.cn",
                Some("cn-north-1"),
            ),
            (
                "aps-workspaces.cn-north-1.api.amazonwebservices.com.cn",
                Some("cn-north-1"),
            ),
            (
                "aps-workspaces.eusc-de-east-1.amazonaws.eu",
                Some("eusc-de-east-1"),
            ),
            (
                "aps-workspaces.eusc-de-east-1.api.amazonwebservices.eu",
                Some("eusc-de-east-1"),
            ),
            ("vpce-1.aps-workspaces.eu-west-1.vpce.amazonaws.com", None),
            ("other.eu-west-1.amazonaws.com", None),
            ("aps-workspaces.amazonaws.com", None),
            ("aps-workspaces.eu-west-1.amazonaws.com.evil.example", None),
        ] {
            assert_eq!(
                region(host, &["aps-workspaces", "aps-workspaces-fips"]),
                expected,
                "{host}"
            );
        }
    }
}
