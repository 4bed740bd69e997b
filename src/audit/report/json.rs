//! A report for programs.

use schemars::generate::SchemaSettings;

use super::Report;

/// One object, and a line's end. Its form is [`schema`].
#[must_use]
pub fn json(report: &Report) -> String {
    // Text that is shown is UTF-8 and every key is text, so that this cannot fail.
    let text = serde_json::to_string_pretty(report);
    text.unwrap_or_else(|error| format!("{{\"error\": \"{error}\"}}")) + "\n"
}

/// The JSON schema of a report, draft 2020-12.
#[must_use]
pub fn schema() -> serde_json::Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    settings.into_generator().into_root_schema_for::<Report>().to_value()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::report::testing::report;

    #[test]
    fn every_listener_and_every_finding_has_its_number_in_port() {
        let read: serde_json::Value = serde_json::from_str(&json(&report())).unwrap();
        assert_eq!(read["version"], 1);
        assert_eq!(read["host"]["name"], "test");
        for list in ["listeners", "findings"] {
            let entries = read[list].as_array().unwrap();
            assert_eq!(entries.len(), 3);
            assert!(entries.iter().all(|entry| entry["port"].is_u64()), "{list}");
        }
        assert_eq!(read["listeners"][1]["service"], "redis");
        assert!(read.get("baseline").is_none());
    }

    #[test]
    fn the_schema_that_is_checked_in_is_that_of_the_program() {
        let text = include_str!("../../../config/audit-schema.json");
        let kept: serde_json::Value = serde_json::from_str(text).unwrap();
        let same = kept == schema();
        assert!(same, "run: portcullis audit --schema > config/audit-schema.json");
    }
}
