//! What is printed for our fixtures. `MESHMETER_WRITE_SNAPSHOTS=1` writes it anew, to be read.

use std::fs;

use mesh_convert::Channel;

use crate::client_tls::TLS;
use crate::schemas::read_strictly;
use crate::{EVERY_FIELD, GATEWAYS, converted};

#[test]
fn fixtures_are_printed_as_before() {
    let djapp = include_str!("../../../../tests/mesh/djapp.yaml");
    let shop = include_str!("../fixtures/shop.yaml");
    for (name, text, channel) in [
        ("djapp", djapp, Channel::Experimental),
        ("djapp-standard", djapp, Channel::Standard),
        ("shop", shop, Channel::Experimental),
        ("every-field", EVERY_FIELD, Channel::Experimental),
        ("every-field-standard", EVERY_FIELD, Channel::Standard),
        ("gateways", GATEWAYS, Channel::Experimental),
        ("tls", TLS, Channel::Standard),
    ] {
        let conversion = converted(text, channel);
        read_strictly(&conversion.documents, channel);
        let printed = mesh_convert::text(&conversion).unwrap();
        let documents = tests_manifests::documents(&printed).unwrap();
        assert_eq!(documents, conversion.documents, "{name}");
        let file = format!("{}/tests/golden/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("MESHMETER_WRITE_SNAPSHOTS").is_some() {
            fs::write(&file, &printed).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            expected == printed,
            "{name} is printed otherwise: MESHMETER_WRITE_SNAPSHOTS=1 writes it"
        );
    }
}
