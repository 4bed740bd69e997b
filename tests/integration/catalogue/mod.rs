//! The attacks that are known, and what must come of each: one file a section, one function a row.
//!
//! A row is a class of attacks; its function plays each spelling of it that is known to have
//! worked somewhere. The app in front of which that happens is read by a reader that shares nothing
//! with the program ([`strict`](crate::harness::strict)), and whoever asks next must get an answer
//! of his own.

mod stage;

mod framing;
mod chunked;
mod desync;
mod syntax;
mod host_and_target;
mod fields;
mod paths;
mod downgrade;
mod floods;
mod slow_and_many;
mod strangers;
mod hostile_backends;
mod redirect_listener;
mod tls;
mod tunnels;
mod operations;

use std::collections::BTreeSet;

use stage::Row;

/// Every section and the rows that it must have.
const ROWS: &[(&str, &[Row], &[&str])] = &[
    (
        "framing",
        framing::ROWS,
        &[
            "CL.TE",
            "TE.CL",
            "TE obfuscated value",
            "TE list or repeat",
            "TE name tricks",
            "TE behind bare LF or CR",
            "TE in HTTP/1.0",
            "CL repeat or list",
            "CL syntax",
            "CL leading zeros",
            "GET, HEAD, OPTIONS with body",
            "no length on POST",
        ],
    ),
    (
        "chunked coding",
        chunked::ROWS,
        &[
            "bare LF",
            "extension with LF or CR",
            "spill",
            "size syntax",
            "size overflow",
            "huge extension",
            "trailers",
            "truncation",
        ],
    ),
    (
        "desync around the message",
        desync::ROWS,
        &[
            "0.CL",
            "CL.0",
            "pause-based",
            "Expect",
            "early final answer",
            "premature upgrade",
            "200 taken as upgrade",
            "h2c smuggling",
            "extra bytes after an answer",
        ],
    ),
    (
        "line and field syntax",
        syntax::ROWS,
        &[
            "line ends",
            "control characters",
            "folds",
            "field names",
            "methods",
            "versions",
            "white space in the request line",
            "leading CRLF",
            "limits",
        ],
    ),
    (
        "host and target",
        host_and_target::ROWS,
        &[
            "none, empty, two Hosts",
            "bad characters",
            "case, dot, port",
            "absolute-form against Host",
            "absolute-form oddities",
            ":authority against host",
            "HTTP/1.0 without Host",
        ],
    ),
    (
        "hop-by-hop, forwarding, aliases",
        fields::ROWS,
        &[
            "drop our field by Connection",
            "standard hop-by-hop",
            "spoofed forwarding",
            "alias spelling",
            "httpoxy",
            "internal control fields",
        ],
    ),
    ("paths", paths::ROWS, &["readings", "no path at all"]),
    (
        "HTTP/2 to HTTP/1",
        downgrade::ROWS,
        &[
            "control characters, names",
            "spaces around values",
            "connection fields and te",
            "content-length against DATA",
            "path",
            "method and scheme",
            "authority",
            "pseudo-field rules",
            "trailers",
            "cookies",
            "CONNECT",
        ],
    ),
    (
        "HTTP/2 floods and memory",
        floods::ROWS,
        &[
            "rapid reset",
            "MadeYouReset",
            "CONTINUATION flood",
            "HPACK bomb",
            "HTTP/2 bomb",
            "unique-header panic",
            "tunnels that nobody reads",
            "SETTINGS, PING, PRIORITY flood",
            "empty frames",
            "dribble, zero window, internal buffering",
            "0-length names",
            "padding, unknown and oversize frames, ids, GOAWAY",
        ],
    ),
    (
        "slow and many",
        slow_and_many::ROWS,
        &[
            "idle TCP, partial preface",
            "TLS stall",
            "slowloris head",
            "slow body",
            "slow read",
            "keep-alive idle, h2 idle",
            "descriptors exhausted",
            "limits per client",
            "handshake flood",
            "pipelining unread",
            "ranges",
            "hash flooding",
        ],
    ),
    (
        "hostile backends",
        hostile_backends::ROWS,
        &[
            "control characters",
            "lengths",
            "CL beside TE",
            "codings",
            "bad and cut bodies",
            "no HTTP",
            "bodies where none may be",
            "101 unasked",
            "interim answers",
            "heads beyond measure",
            "obs-fold, no colon",
            "reset, FIN",
            "never answers",
            "endless answer",
        ],
    ),
    (
        "redirect listener",
        redirect_listener::ROWS,
        &[
            "open redirect",
            "path tricks",
            "CRLF and control",
            "method and body",
            "ACME http-01",
            "other protocols",
            "TLS over Upgrade",
        ],
    ),
    (
        "TLS",
        tls::ROWS,
        &[
            "SNI against Host",
            "name spelling",
            "fragmented ClientHello",
            "resumption across sites",
            "client certificates fail closed",
            "ALPN",
            "versions, renegotiation",
            "0-RTT replay",
            "floods within the protocol",
            "plaintext on 443, TLS on 80",
            "upstream TLS",
        ],
    ),
    (
        "WebSocket and tunnels",
        tunnels::ROWS,
        &[
            "no tunnel before an agreement",
            "another version",
            "bytes sent ahead",
            "half-close",
            "idle timeout",
            "flat memory",
            "death of the backend",
            "reload",
            "extended CONNECT",
            "data after close",
        ],
    ),
    (
        "operations",
        operations::ROWS,
        &[
            "configuration reload race",
            "certificate hot reload",
            "log injection",
            "metrics cardinality",
            "control socket",
            "metrics page",
            "request loop",
            "privilege",
            "PROXY protocol, trusted peers",
            "full disk",
            "logs that nobody takes",
            "clock steps",
            "SIGTERM under load",
            "SIGKILL and restart",
            "memory refused",
        ],
    ),
];

/// What is declared is played, and nothing else is; the count is what a reader looks for.
#[test]
fn every_row_of_the_catalogue_has_its_cases() {
    let mut covered = 0;
    for (section, rows, declared) in ROWS {
        let declared: BTreeSet<&str> = declared.iter().copied().collect();
        let played: BTreeSet<&str> = rows.iter().map(|(name, _)| *name).collect();
        assert_eq!(played, declared, "{section}");
        println!("{section}: {} rows", declared.len());
        covered += declared.len();
    }
    println!("{covered} rows of the catalogue are covered");
}
