//! From the text to the [`super::Config`].

use std::time::Duration;

use super::{AccessLog, Acme, Admin, Config, Limits, Listen, Log, LogFormat, Server};

impl Config {
    /// Stand-in.
    #[must_use]
    pub fn defaults() -> Config {
        Config {
            server: Server {
                http: vec![Listen::Any(80)],
                https: vec![Listen::Any(443)],
                workers: None,
                user: None,
                grace: Duration::from_secs(30),
                trusted_proxies: Vec::new(),
                proxy_protocol: false,
                via: false,
            },
            limits: Limits {
                request_header_timeout: Duration::from_secs(10),
                request_body_idle_timeout: Duration::from_secs(60),
                idle_timeout: Duration::from_secs(75),
                tls_handshake_timeout: Duration::from_secs(10),
                upstream_timeout: Duration::from_secs(60),
                hold: Duration::from_secs(3),
                header_size: 32 << 10,
                header_count: 100,
                target_size: 8 << 10,
                body_size: Some(100 << 20),
                connections: 20_000,
                connections_per_client: 1000,
            },
            log: Log {
                access: AccessLog::Stdout,
                format: LogFormat::Combined,
                level: tracing::level_filters::LevelFilter::INFO,
                mask: Vec::new(),
            },
            admin: Admin { socket: "/run/portcullis/control.sock".into(), metrics: None },
            acme: Acme {
                email: None,
                directory: String::new(),
                ca: None,
                storage: "/var/lib/portcullis".into(),
            },
            sites: Vec::new(),
        }
    }
}
