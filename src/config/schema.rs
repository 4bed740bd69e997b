//! The JSON schema of the file, for editors.

use std::borrow::Cow;

use ipnet::IpNet;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::duration::Period;
use super::file::{File, HstsTable, TlsTable};
use super::kinds::{
    AskUrl, Authentication, BodySize, ChallengeWord, Count, Directory, Email, FilePath, HmacKey,
    Hsts, KeyId, Level, MaxAge, Metrics, NameServer, OldestTls, Parameter, Profile, Protocol,
    Staging, Tls, TsigName, TsigSecret, User, Word, Workers, Zone,
};
use super::read::{Field, OneOrMany, Sections, Text};
use super::size::Size;
use super::target::Target;
use super::{AccessLog, KeyType, Listen, LogFormat, Redirect, Sandbox, TsigAlgorithm};
use crate::proxy::headers::host::HostPattern;
use crate::proxy::route::PathPrefix;

/// The schema of the configuration file: JSON Schema, draft 7, which the TOML editors know.
#[must_use]
pub fn schema() -> serde_json::Value {
    SchemaSettings::draft07().into_generator().into_root_schema_for::<File>().to_value()
}

macro_rules! schema_of {
    ($($kind:ty => $schema:tt)*) => {$(
        impl JsonSchema for $kind {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($kind).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

const SIZE: &str = r"^[0-9]+([KkMmGgTt][Ii]?)?[Bb]?$|\$\{";
const PERIOD: &str = r"^([0-9]+(ms|s|m|h|d|y))+$|\$\{";

schema_of! {
    Size => {
        "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "pattern": SIZE }]
    }
    BodySize => {
        "anyOf": [
            { "const": "off" },
            { "type": "integer", "minimum": 1 },
            { "type": "string", "pattern": SIZE },
        ]
    }
    Period => { "type": "string", "pattern": PERIOD }
    MaxAge => { "type": "string", "pattern": PERIOD }
    Authentication => { "enum": ["require", "request"] }
    OldestTls => { "enum": ["1.2", "1.3"] }
    Protocol => { "enum": ["h2", "http/1.1"] }
    Count => { "type": "integer", "minimum": 0 }
    Workers => {
        "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": 1, "maximum": 1024 }]
    }
    Listen => { "type": "string", "description": Listen::ALLOWED }
    HostPattern => { "type": "string", "description": HostPattern::ALLOWED }
    PathPrefix => { "type": "string", "pattern": r"^/|\$\{" }
    Target => { "type": "string", "description": Target::ALLOWED }
    Redirect => {
        "anyOf": [
            { "enum": ["https", "off"] },
            { "type": "string", "pattern": r"^[Hh][Tt][Tt][Pp][Ss]?://|\$\{" },
        ]
    }
    AccessLog => {
        "anyOf": [{ "enum": ["stdout", "off"] }, { "type": "string", "pattern": r"[/.]|\$\{" }]
    }
    LogFormat => { "enum": ["combined", "json"] }
    Sandbox => { "enum": ["on", "off", "require"] }
    Level => { "enum": ["error", "warn", "info", "debug", "trace", "off"] }
    Parameter => { "type": "string", "minLength": 1 }
    Metrics => { "type": "string", "description": Metrics::ALLOWED }
    User => { "type": "string", "minLength": 1 }
    Email => { "type": "string", "pattern": r"@|\$\{" }
    Directory => { "type": "string", "pattern": r"^https://|\$\{" }
    AskUrl => { "type": "string", "pattern": r"^[Hh][Tt][Tt][Pp][Ss]?://|\$\{" }
    FilePath => { "type": "string", "minLength": 1 }
    KeyType => { "enum": ["p256", "p384", "rsa2048", "rsa4096"] }
    ChallengeWord => { "enum": ["auto", "http-01", "tls-alpn-01", "dns-01"] }
    Staging => { "enum": ["off", "first"] }
    Profile => { "type": "string", "minLength": 1, "maxLength": 64 }
    KeyId => { "type": "string", "minLength": 1 }
    NameServer => { "type": "string", "description": NameServer::ALLOWED }
    Word => { "type": "string", "description": Word::ALLOWED }
    Zone => { "type": "string", "minLength": 1, "maxLength": 253 }
    TsigName => { "type": "string", "minLength": 1, "maxLength": 253 }
    TsigAlgorithm => { "enum": ["hmac-sha256", "hmac-sha384", "hmac-sha512"] }
    TsigSecret => { "type": "string", "pattern": r"^[A-Za-z0-9+/]+=*$|\$\{" }
    HmacKey => { "type": "string", "pattern": r"^[A-Za-z0-9_-]+=*$|\$\{" }
}

impl JsonSchema for Tls {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Tls".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<TlsTable>();
        json_schema!({ "anyOf": [{ "enum": ["auto", "local"] }, table] })
    }
}

impl JsonSchema for Hsts {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Hsts".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<HstsTable>();
        let period = json_schema!({ "type": "string", "pattern": PERIOD });
        json_schema!({ "anyOf": [{ "enum": ["off", "ramp"] }, period, table] })
    }
}

/// A network is foreign to the schema's crate, so that its list is described here.
pub(super) struct Network;

schema_of! { Network => { "type": "string", "description": <IpNet as Text>::ALLOWED } }

/// What stands in for a kind in the schema.
pub(super) trait Described {
    type As: JsonSchema;
}

impl Described for IpNet {
    type As = Network;
}

macro_rules! described_as_itself {
    ($($kind:ty)*) => { $( impl Described for $kind { type As = Self; } )* };
}

described_as_itself! { ChallengeWord Protocol Listen HostPattern Target Parameter NameServer Word }

impl<T: Described> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany_{}", T::As::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T::As>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

impl<S: JsonSchema> JsonSchema for Sections<S> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Sections_{}", S::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let items = generator.subschema_for::<S>();
        json_schema!({ "type": "array", "items": items, "minItems": 1 })
    }
}

impl<T: JsonSchema> JsonSchema for Field<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_that_is_checked_in_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/schema.json");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let there: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        assert_eq!(
            there,
            schema(),
            "write it anew: portcullis check --schema > config/schema.json"
        );
    }

    #[test]
    fn it_refuses_what_the_file_may_not_have() {
        let schema = schema();
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["required"], serde_json::json!(["site"]));
        let limits = schema.pointer("/definitions/Limits").unwrap();
        assert_eq!(limits["additionalProperties"], false);
        assert_eq!(limits["required"], serde_json::Value::Null, "no limit has to be written");
        assert_eq!(limits["properties"]["hold"]["default"], "3s");
    }
}
