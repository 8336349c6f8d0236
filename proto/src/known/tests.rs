//! The tables agree with the proto file, and what they do not list is refused by name.

use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorSet};

use super::*;

fn frame() -> v1::SidecarFrame {
    let series = v1::Series {
        cluster: "app".to_owned(),
        requests: Some(7),
        ..Default::default()
    };
    let report = v1::Report {
        seq: 1,
        series: vec![series],
        ..Default::default()
    };
    v1::SidecarFrame {
        frame: Some(v1::sidecar_frame::Frame::Report(report)),
    }
}

/// Descriptor of the message `name`, also if it is the entry of a map.
fn descriptor<'a>(all: &'a [DescriptorProto], name: &str) -> &'a DescriptorProto {
    all.iter()
        .flat_map(|message| std::iter::once(message).chain(&message.nested_type))
        .find(|message| message.name() == name)
        .unwrap()
}

fn assert_agrees(known: &Known, all: &[DescriptorProto]) {
    let message = descriptor(all, known.name);
    let mut want: Vec<(u32, &str, Option<&str>)> = message
        .field
        .iter()
        .map(|field| {
            // Type 11 is a message; the name's last part identifies it within our one package.
            let inner = (field.r#type() as i32 == 11)
                .then(|| field.type_name().rsplit('.').next().unwrap());
            (u32::try_from(field.number()).unwrap(), field.name(), inner)
        })
        .collect();
    want.sort_unstable();
    let got: Vec<_> = known
        .fields
        .iter()
        .map(|(number, name, inner)| (*number, *name, inner.map(|i| i.name)))
        .collect();
    assert_eq!(got, want, "fields of {}", known.name);
    for inner in known.fields.iter().filter_map(|(.., inner)| *inner) {
        assert_agrees(inner, all);
    }
}

#[test]
fn tables_agree_with_the_proto_file() {
    let set = FileDescriptorSet::decode(crate::DESCRIPTORS).unwrap();
    let all = &set.file[0].message_type;
    assert_agrees(v1::SidecarFrame::KNOWN, all);
    assert_agrees(v1::AggregatorFrame::KNOWN, all);
}

#[test]
fn a_frame_of_this_version_passes() {
    assert_eq!(check::<v1::SidecarFrame>(&frame().encode_to_vec()), Ok(()));
}

#[test]
fn an_unknown_field_is_named_with_its_path() {
    // Field 42, varint 1, at the end of the innermost message.
    let series = [
        v1::Series::default().encode_to_vec(),
        vec![0xd0, 0x02, 0x01],
    ]
    .concat();
    let report = [vec![0x22, u8::try_from(series.len()).unwrap()], series].concat();
    let frame = [vec![0x12, u8::try_from(report.len()).unwrap()], report].concat();
    let refusal = check::<v1::SidecarFrame>(&frame).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "SidecarFrame.report.series: unknown field 42; this version knows protocol 2"
    );
}

#[test]
fn garbage_is_malformed() {
    let refusal = check::<v1::SidecarFrame>(b"\x12\xffgarbage").unwrap_err();
    assert_eq!(refusal.to_string(), "SidecarFrame: not a protobuf message");
}

proptest::proptest! {
    /// Whatever arrives, the check ends without a panic, and what it passes at the top holds our
    /// fields only.
    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..256)) {
        let _ = check::<v1::SidecarFrame>(&bytes);
    }
}
