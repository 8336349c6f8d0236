//! Access logs of a sidecar.

use envoy_types::pb::envoy::config::accesslog::v3::AccessLog;
use envoy_types::pb::envoy::config::accesslog::v3::access_log::ConfigType;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::substitution_format_string::Format;
use envoy_types::pb::envoy::config::core::v3::{DataSource, SubstitutionFormatString};
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::FileAccessLog;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::file_access_log::AccessLogFormat;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};

use super::any;
use crate::resources::{self, LogField, LogFormat, Logging};

/// Of each listener of the workload, inbound and outbound.
pub(super) fn of(logging: Option<&Logging>) -> Vec<AccessLog> {
    let log = logging.and_then(|logging| logging.access_log.as_ref());
    let log = log.map(|resources::AccessLog::File(file)| {
        let format = file.format.as_ref().map(format);
        let config = FileAccessLog {
            path: file.path.clone(),
            access_log_format: format.map(AccessLogFormat::LogFormat),
        };
        AccessLog {
            name: "envoy.access_loggers.file".to_owned(),
            config_type: Some(ConfigType::TypedConfig(any(&config))),
            ..AccessLog::default()
        }
    });
    log.into_iter().collect()
}

fn format(format: &LogFormat) -> SubstitutionFormatString {
    let format = match format {
        LogFormat::Text(text) => Format::TextFormatSource(DataSource {
            specifier: Some(Specifier::InlineString(text.clone())),
            ..DataSource::default()
        }),
        LogFormat::Json(fields) => {
            let field = |field: &LogField| {
                let kind = Some(Kind::StringValue(field.value.clone()));
                (field.key.clone(), Value { kind })
            };
            Format::JsonFormat(Struct {
                fields: fields.iter().map(field).collect(),
            })
        }
    };
    SubstitutionFormatString {
        format: Some(format),
        ..SubstitutionFormatString::default()
    }
}
