//! Access logs of a sidecar or gateway.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::accesslog::v3::AccessLog;
use envoy_types::pb::envoy::config::accesslog::v3::access_log::ConfigType;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::substitution_format_string::Format;
use envoy_types::pb::envoy::config::core::v3::{DataSource, SubstitutionFormatString};
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::FileAccessLog;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::file_access_log::AccessLogFormat;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Any, Value};
use prost::{Message, Name as _};

use super::any;
use crate::resources::{self, FileLog, LogField, LogFormat, Logging};

/// Of each listener of the workload, inbound and outbound.
pub(super) fn of(logging: Option<&Logging>) -> Vec<AccessLog> {
    let log = logging.and_then(|logging| logging.access_log.as_ref());
    let log = log.map(|resources::AccessLog::File(file)| AccessLog {
        name: "envoy.access_loggers.file".to_owned(),
        config_type: Some(ConfigType::TypedConfig(config(file))),
        ..AccessLog::default()
    });
    log.into_iter().collect()
}

fn config(file: &FileLog) -> Any {
    let path = file.path.clone();
    let text = match &file.format {
        Some(LogFormat::Json(fields)) => return json(path, fields),
        Some(LogFormat::Text(text)) => Some(text),
        None => None,
    };
    let format = text.map(|text| SubstitutionFormatString {
        format: Some(Format::TextFormatSource(DataSource {
            specifier: Some(Specifier::InlineString(text.clone())),
            ..DataSource::default()
        })),
        ..SubstitutionFormatString::default()
    });
    any(&FileAccessLog {
        path,
        access_log_format: format.map(AccessLogFormat::LogFormat),
    })
}

/// [`FileAccessLog`] with a JSON format. Its own type has a hash map, whose order would differ each
/// time: Envoy would get a new listener for nothing.
#[derive(Clone, PartialEq, Message)]
struct JsonLog {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(message, optional, tag = "5")]
    log_format: Option<JsonFormat>,
}

/// [`SubstitutionFormatString`].
#[derive(Clone, PartialEq, Message)]
struct JsonFormat {
    #[prost(message, optional, tag = "2")]
    json_format: Option<JsonFields>,
}

/// `google.protobuf.Struct`, in the order of its keys.
#[derive(Clone, PartialEq, Message)]
struct JsonFields {
    #[prost(btree_map = "string, message", tag = "1")]
    fields: BTreeMap<String, Value>,
}

fn json(path: String, fields: &[LogField]) -> Any {
    let field = |field: &LogField| {
        let kind = Some(Kind::StringValue(field.value.clone()));
        (field.key.clone(), Value { kind })
    };
    let fields = fields.iter().map(field).collect();
    let json_format = Some(JsonFields { fields });
    let log = JsonLog {
        path,
        log_format: Some(JsonFormat { json_format }),
    };
    Any {
        type_url: FileAccessLog::type_url(),
        value: log.encode_to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same bytes each time, and those of Envoy's own type.
    #[test]
    fn json_is_deterministic() {
        let keys = ["status", "path", "method", "duration", "bytes", "host"];
        let fields = keys.map(|key| LogField {
            key: key.to_owned(),
            value: format!("%{}%", key.to_uppercase()),
        });
        let log = |fields: &[LogField]| json("/dev/stdout".to_owned(), fields);
        let first = log(&fields);
        let mut reversed = fields.clone();
        reversed.reverse();
        assert_eq!(log(&reversed), first);
        let read = FileAccessLog::decode(&first.value[..]).unwrap();
        assert_eq!(read.path, "/dev/stdout");
        let Some(AccessLogFormat::LogFormat(format)) = read.access_log_format else {
            panic!("no format");
        };
        let Some(Format::JsonFormat(read)) = format.format else {
            panic!("no JSON");
        };
        assert_eq!(read.fields.len(), keys.len());
        let status = Some(Kind::StringValue("%STATUS%".to_owned()));
        assert_eq!(read.fields["status"].kind, status);
    }
}
