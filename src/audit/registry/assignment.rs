//! What IANA says of a port.

use std::ops::RangeInclusive;

use serde::Serialize;

use super::protocol::{Protocol, Protocols};

/// Made by `generate.py` beside it, which says what its columns are.
const TABLE: &str = include_str!("iana.tsv");

/// A line of IANA's registry (RFC 6335): one service on one port, or a few ports in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The ports.
    pub ports: RangeInclusive<u16>,
    /// On which protocols.
    pub protocols: Protocols,
    /// Whether anybody has it.
    pub state: State,
    /// The name of the service, as `getservbyname` takes it; empty where there is none.
    pub service: &'static str,
    /// IANA's words; may be empty.
    pub description: &'static str,
    /// The documents that define it: `RFC9110`, with a space between two.
    pub references: &'static str,
    /// What the registry says besides, such as known unauthorised use; mostly empty.
    pub remark: &'static str,
}

/// Whether a port number has been given to anybody (RFC 6335 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// A service has it.
    Assigned,
    /// IANA keeps it and gives it to nobody.
    Reserved,
    /// Nobody has it.
    Unassigned,
}

/// All of the registry, in the order of the numbers.
#[must_use]
pub(super) fn table() -> Vec<Assignment> {
    read(TABLE)
}

/// The date of the registry's newest entry, `2025-11-14`.
#[must_use]
pub(super) fn newest() -> &'static str {
    let mark = "# newest: ";
    TABLE.lines().find_map(|line| line.strip_prefix(mark)).unwrap_or_default()
}

/// A line that is not understood is left out; a test sees that there is none.
fn read(text: &'static str) -> Vec<Assignment> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(line).collect()
}

fn line(line: &'static str) -> Option<Assignment> {
    let mut fields = line.split('\t');
    let ports = fields.next()?.parse().ok()?..=fields.next()?.parse().ok()?;
    let protocols = match fields.next()? {
        "" => Protocols::ALL,
        list => list.split(',').filter_map(Protocol::named).collect(),
    };
    let mut next = || fields.next().unwrap_or_default();
    let (service, description, references, remark) = (next(), next(), next(), next());
    let state = if service.is_empty() { nameless(description) } else { State::Assigned };
    Some(Assignment { ports, protocols, state, service, description, references, remark })
}

/// What a line without a service means: `any private mail system` is a use, without a name.
fn nameless(description: &str) -> State {
    const GONE: [&str; 7] =
        ["unassigned", "(unassigned", "de-", "removed", "deprecated", "decom", "possibly"];
    let begins = |word: &str| {
        description.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word))
    };
    match description {
        _ if begins("reserved") => State::Reserved,
        _ if GONE.into_iter().any(begins) => State::Unassigned,
        _ => State::Assigned,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Command, Output};

    use super::*;

    #[test]
    fn every_line_of_the_table_is_understood() {
        let lines = TABLE.lines().filter(|line| !line.starts_with('#')).count();
        let table = table();
        assert_eq!(table.len(), lines);
        assert!(lines > 7000, "{lines}");
        assert!(table.is_sorted_by_key(|assignment| *assignment.ports.start()));
        for assignment in &table {
            assert!(assignment.ports.start() <= assignment.ports.end(), "{assignment:?}");
            assert_ne!(assignment.protocols, Protocols::NONE, "{assignment:?}");
            let named = !assignment.service.is_empty() || !assignment.description.is_empty();
            assert!(named, "{assignment:?}");
        }
        assert_eq!(newest().len(), "2025-11-14".len());
    }

    #[test]
    fn every_port_below_the_dynamic_ones_has_a_line() {
        let mut next = 0;
        for assignment in table() {
            assert!(*assignment.ports.start() <= next, "nothing is said of {next}");
            next = next.max(assignment.ports.end() + 1);
        }
        assert_eq!(next, 49152);
    }

    #[test]
    fn reserved_and_unassigned_are_told_apart() {
        let state = |text| line(text).unwrap().state;
        assert_eq!(state("0\t0\ttcp,udp\t\tReserved"), State::Reserved);
        assert_eq!(state("15\t15\ttcp\t\tUnassigned [was netstat]"), State::Unassigned);
        assert_eq!(state("585\t585\t\t\tDe-registered"), State::Unassigned);
        assert_eq!(state("24\t24\ttcp\t\tany private mail system"), State::Assigned);
        assert_eq!(state("512\t512\tudp\tcomsat"), State::Assigned);
    }

    fn generate(arguments: &[&str]) -> Option<Output> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/audit/registry/generate.py");
        Command::new("python3").arg(script).args(arguments).output().ok()
    }

    /// What the generator makes of a file with this text.
    fn generated(csv: &str, arguments: &[&str]) -> Option<Output> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("registry.csv");
        std::fs::write(&file, csv).unwrap();
        let output = generate(&[arguments, &[file.to_str().unwrap()]].concat());
        if output.is_none() {
            eprintln!("skipped: python3 is not installed");
        }
        output
    }

    #[test]
    fn the_generator_reads_the_file_that_iana_publishes() {
        let csv = "\
Service Name,Port Number,Transport Protocol,Description,Assignee,Contact,Registration Date,\
Modification Date,Reference,Service Code,Unauthorized Use Reported,Assignment Notes
,0,tcp,Reserved,[Jon_Postel],[Jon_Postel],,,[RFC6335],,,
telnet,23,tcp,Telnet,,,,2026-02-03,[RFC854],,,Defined TXT keys: u=<username>
telnet,23,udp,Telnet,,,,,[RFC854],,,Defined TXT keys: u=<username>
finger,79,tcp,\"Finger,
 of old\",,,1999-01-01,,,,Unauthorized use by some,
,225-241,,Reserved,,,,,,,,
nameonly,,tcp,A service without a port,,,,,,,,
late,49999,tcp,Dynamic,,,,,,,,
";
        let Some(output) = generated(csv, &[]) else { return };
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("# ")).collect();
        let expected = [
            "0\t0\ttcp\t\tReserved\tRFC6335",
            "23\t23\ttcp,udp\ttelnet\tTelnet\tRFC854",
            "79\t79\ttcp\tfinger\tFinger, of old\t\tUnauthorized use by some",
            "225\t241\t\t\tReserved",
        ];
        assert_eq!(lines, expected);
        assert!(text.contains("\n# newest: 2026-02-03\n"), "{text}");
        let table = read(text.leak());
        assert_eq!(table.len(), expected.len());
        assert_eq!(table[3].ports, 225..=241);
        assert_eq!(table[3].protocols, Protocols::ALL);
    }

    #[test]
    fn the_generator_reads_the_reduced_file_and_asks_for_its_date() {
        let csv = "\
port,transport,service,description,reference,unauthorized_use,notes
22,tcp,ssh,The Secure Shell (SSH) Protocol,[RFC4251],,
22,sctp,ssh,SSH,[RFC9260],,
";
        let Some(dated) = generated(csv, &["--newest", "2025-11-14"]) else { return };
        let text = String::from_utf8(dated.stdout).unwrap();
        let ssh = "\n22\t22\ttcp\tssh\tThe Secure Shell (SSH) Protocol\tRFC4251\n\
                   22\t22\tsctp\tssh\tSSH\tRFC9260\n";
        assert!(text.ends_with(ssh), "{text}");
        let undated = generated(csv, &[]).unwrap();
        assert!(!undated.status.success());
        assert!(String::from_utf8_lossy(&undated.stderr).contains("give --newest"));
        let wrong = generated("a,b\n1,2\n", &["--newest", "2025-11-14"]).unwrap();
        assert!(!wrong.status.success());
    }
}
