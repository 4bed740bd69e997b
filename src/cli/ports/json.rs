//! The answer as one JSON object. The README says what its fields are.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use super::here::Here;
use crate::audit::registry::{
    Assignment, Entry, Found, Knowledge, Missed, Protocol, Protocols, Range, Registry, State, Taken,
};
use crate::audit::sockets::{Listening, user_name};

/// Grows when a field changes its meaning or goes; not when one is added.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Answer<'a> {
    version: u32,
    query: Option<&'a str>,
    registry: Source,
    taken: &'a [Taken],
    missed: &'a [Missed],
    mentions: usize,
    listening_error: Option<String>,
    ports: Vec<Port<'a>>,
}

#[derive(Serialize)]
struct Source {
    name: &'static str,
    newest: &'static str,
}

#[derive(Serialize)]
struct Port<'a> {
    port: u16,
    range: Range,
    state: State,
    service: Option<&'a str>,
    protocols: Protocols,
    assignments: Vec<Iana<'a>>,
    knowledge: &'a [&'a Knowledge],
    listening: Option<Vec<Socket<'a>>>,
}

#[derive(Serialize)]
struct Iana<'a> {
    first: u16,
    last: u16,
    protocols: Protocols,
    state: State,
    service: &'a str,
    description: &'a str,
    references: Vec<&'a str>,
    remark: &'a str,
}

#[derive(Serialize)]
struct Socket<'a> {
    protocol: Protocol,
    address: std::net::IpAddr,
    uid: u32,
    user: String,
    pid: Option<u32>,
    command: Option<&'a str>,
    executable: Option<&'a Path>,
    unit: Option<&'a str>,
}

/// Writes the answer to standard output.
pub(super) fn write(query: Option<&str>, found: &Found<'_>, here: &Here) {
    let mut out = io::BufWriter::new(io::stdout().lock());
    // Whoever closed the pipe has seen enough.
    let _ = serde_json::to_writer_pretty(&mut out, &answer(query, found, here));
    let _ = writeln!(out);
}

fn answer<'a>(query: Option<&'a str>, found: &'a Found<'_>, here: &'a Here) -> Answer<'a> {
    Answer {
        version: VERSION,
        query,
        registry: Source {
            name: "IANA Service Name and Transport Protocol Port Number Registry",
            newest: Registry::newest(),
        },
        taken: &found.taken,
        missed: &found.missed,
        mentions: found.mentions,
        listening_error: here.error(),
        ports: found.entries.iter().map(|entry| port(entry, here)).collect(),
    }
}

fn port<'a>(entry: &'a Entry<'_>, here: &'a Here) -> Port<'a> {
    let looked = entry.protocols.has(Protocol::Tcp) && here.error().is_none();
    Port {
        port: entry.port,
        range: entry.range(),
        state: entry.state(),
        service: entry.service(),
        protocols: entry.protocols,
        assignments: entry.assignments.iter().map(|one| iana(one)).collect(),
        knowledge: &entry.knowledge,
        listening: looked.then(|| here.on(entry.port).iter().map(socket).collect()),
    }
}

fn iana(assignment: &Assignment) -> Iana<'_> {
    Iana {
        first: *assignment.ports.start(),
        last: *assignment.ports.end(),
        protocols: assignment.protocols,
        state: assignment.state,
        service: assignment.service,
        description: assignment.description,
        references: assignment.references.split_whitespace().collect(),
        remark: assignment.remark,
    }
}

fn socket(listening: &Listening) -> Socket<'_> {
    let process = listening.process.as_ref();
    Socket {
        protocol: Protocol::Tcp,
        address: listening.address.ip(),
        uid: listening.uid,
        user: user_name(listening.uid),
        pid: process.map(|process| process.pid),
        command: process.map(|process| process.comm.as_str()),
        executable: process.and_then(|process| process.exe.as_deref()),
        unit: process.and_then(|process| process.place.unit.as_deref()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::here::tests::socket;
    use super::*;
    use crate::audit::registry::Query;

    fn told(question: &str, here: &Here) -> Value {
        let registry = Registry::read();
        let found = registry.find(&Query::parse(question).unwrap(), false);
        serde_json::to_value(answer(Some(question), &found, here)).unwrap()
    }

    #[test]
    fn the_object_has_every_field() {
        let here = Here::of(Ok(vec![socket("0.0.0.0:23", true)]), true);
        let told = told("telent", &here);
        assert_eq!(told["version"], 1);
        assert_eq!(told["query"], "telent");
        assert_eq!(told["taken"], json!([{ "asked": "telent", "answered": "telnet" }]));
        assert_eq!(told["registry"]["newest"], Registry::newest());
        let port = &told["ports"][0];
        let fields: Vec<_> = port.as_object().unwrap().keys().map(String::as_str).collect();
        let expected = [
            "assignments",
            "knowledge",
            "listening",
            "port",
            "protocols",
            "range",
            "service",
            "state",
        ];
        assert_eq!(fields, expected);
        assert_eq!((&port["port"], &port["range"]), (&json!(23), &json!("well-known")));
        assert_eq!(
            port["assignments"],
            json!([{
                "first": 23, "last": 23, "protocols": ["tcp", "udp"], "state": "assigned",
                "service": "telnet", "description": "Telnet", "references": ["RFC854"], "remark": "",
            }])
        );
        let known = &port["knowledge"][0];
        assert_eq!(known["instead"], json!([{ "port": 22, "name": "SSH" }]));
        assert_eq!(known["holders"][0]["package"], "inetutils-telnetd");
        assert_eq!(
            port["listening"],
            json!([{
                "protocol": "tcp", "address": "0.0.0.0", "uid": 0, "user": "root", "pid": 612,
                "command": "sshd", "executable": "/usr/sbin/sshd", "unit": "ssh.service",
            }])
        );
    }

    #[test]
    fn what_could_not_be_seen_is_null() {
        let blind = Here::of(Err(io::ErrorKind::PermissionDenied.into()), false);
        let told_blind = told("22", &blind);
        assert!(told_blind["ports"][0]["listening"].is_null());
        assert!(told_blind["listening_error"].is_string());
        let here = Here::of(Ok(vec![socket("0.0.0.0:22", false)]), false);
        assert!(told("22", &here)["ports"][0]["listening"][0]["pid"].is_null());
        assert!(told("53/udp", &here)["ports"][0]["listening"].is_null());
        assert_eq!(told("23", &here)["ports"][0]["listening"], json!([]));
    }

    #[test]
    fn everything_that_matches_is_there_and_what_does_not_too() {
        let here = Here::of(Ok(Vec::new()), false);
        let ports = told("0-1023", &here)["ports"].as_array().unwrap().clone();
        assert!((0..1024).eq(ports.iter().map(|port| port["port"].as_u64().unwrap())));
        let missed = told("qqqzzzxxx", &here);
        assert_eq!(missed["ports"], json!([]));
        assert_eq!(missed["missed"][0]["asked"], "qqqzzzxxx");
    }
}
