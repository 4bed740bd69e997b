//! What the operator writes: every section with its keys, the kind of each and its description.
//!
//! This is the one list of keys. Reading, the words "unknown key" and the JSON schema come from it;
//! the defaults named here are held against the built-in ones by a test.

use ipnet::IpNet;
use schemars::JsonSchema;
use toml::de::DeTable;

use super::duration::Period;
use super::kinds::{
    AskUrl, Authentication, BodySize, ChallengeWord, Count, Directory, Email, FilePath, HmacKey,
    Hsts, KeyId, Level, MaxAge, Metrics, NameServer, OldestTls, Parameter, Profile, Protocol,
    Staging, Tls, TsigName, TsigSecret, User, Word, Workers, Zone,
};
use super::read::{Field, Node, OneOrMany, Reader, Section, Sections, Value, read_section};
use super::size::Size;
use super::target::Target;
use super::{AccessLog, KeyType, Listen, LogFormat, Redirect, Sandbox, TsigAlgorithm};
use crate::proxy::headers::host::HostPattern;
use crate::proxy::route::PathPrefix;

/// Declares a section: a struct with a [`Field`] for every key, how it is read, and its schema.
macro_rules! section {
    (
        $(#[$about:meta])*
        $section:ident($shown:literal) {
            $( $(#[$note:meta])* $key:ident: $kind:ty, )*
        }
    ) => {
        #[derive(Debug, Default, JsonSchema)]
        #[schemars(deny_unknown_fields)]
        $(#[$about])*
        pub(super) struct $section {
            $( $(#[$note])* #[schemars(default)] pub $key: Field<$kind>, )*
        }

        impl Section for $section {
            const NAME: &'static str = $shown;
            const KEYS: &'static [&'static str] = &[$(stringify!($key)),*];

            fn read_keys(table: &DeTable<'_>, reader: &mut Reader<'_, '_>) -> Self {
                reader.judge_keys::<Self>(table);
                Self { $( $key: reader.field(table, stringify!($key)), )* }
            }
        }

        impl Value for $section {
            fn read(node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Option<Self> {
                read_section(node, reader)
            }
        }
    };
}

/// Every section with its keys, in the order in which a misplaced key is looked for.
pub(super) const KNOWN: &[(&str, &[&str])] = &[
    (Server::NAME, Server::KEYS),
    (Limits::NAME, Limits::KEYS),
    (Log::NAME, Log::KEYS),
    (Admin::NAME, Admin::KEYS),
    (Acme::NAME, Acme::KEYS),
    (Authority::NAME, Authority::KEYS),
    (Eab::NAME, Eab::KEYS),
    (Dns::NAME, Dns::KEYS),
    (Tsig::NAME, Tsig::KEYS),
    (Site::NAME, Site::KEYS),
    (Route::NAME, Route::KEYS),
    (TlsTable::NAME, TlsTable::KEYS),
    (OnDemand::NAME, OnDemand::KEYS),
    (HstsTable::NAME, HstsTable::KEYS),
    (File::NAME, File::KEYS),
];

section! {
    /// The configuration of Portcullis.
    #[schemars(extend("required" = ["site"]))]
    File("") {
        /// Where and as whom the program stands.
        server: Server,
        /// Ceilings on what a peer may cost.
        limits: Limits,
        /// The access log and the program's own words.
        log: Log,
        /// How the operator talks to the running program.
        admin: Admin,
        /// Automatic certificates.
        acme: Acme,
        /// One site: names, a certificate, and where its requests go.
        site: Sections<Site>,
    }
}

section! {
    /// Where and as whom the program stands.
    Server("[server]") {
        /// Addresses for plain HTTP; `[]` for none.
        #[schemars(extend("default" = ":80"))]
        http: OneOrMany<Listen>,
        /// Addresses for HTTPS; `[]` for none.
        #[schemars(extend("default" = ":443"))]
        https: OneOrMany<Listen>,
        /// Worker threads; `"auto"` is one per CPU that this process may use.
        #[schemars(extend("default" = "auto"))]
        workers: Workers,
        /// Whom to become after binding when started as root.
        #[schemars(extend("default" = "portcullis"))]
        user: User,
        /// Whether the running program shuts itself in: files, ports and system calls.
        #[schemars(extend("default" = "on"))]
        sandbox: Sandbox,
        /// How long open work may last after a stop was asked for.
        #[schemars(extend("default" = "30s"))]
        grace: Period,
        /// Networks whose `X-Forwarded-*` fields and PROXY headers are believed.
        #[schemars(extend("default" = []))]
        trusted_proxies: OneOrMany<IpNet>,
        /// Whether connections from trusted proxies begin with a PROXY protocol header.
        #[schemars(extend("default" = false))]
        proxy_protocol: bool,
        /// Whether a `Via` field is added to what is forwarded.
        #[schemars(extend("default" = false))]
        via: bool,
        /// Whether the secrets of TLS sessions are written to the file that `SSLKEYLOGFILE` names.
        #[schemars(extend("default" = false))]
        key_log: bool,
        /// Whether authorities that give an OCSP address are asked for what is stapled.
        #[schemars(extend("default" = true))]
        ocsp: bool,
    }
}

section! {
    /// Ceilings on what a peer may cost.
    Limits("[limits]") {
        /// The longest time for a request head.
        #[schemars(extend("default" = "10s"))]
        request_header_timeout: Period,
        /// The longest silence within a request body.
        #[schemars(extend("default" = "60s"))]
        request_body_idle_timeout: Period,
        /// The slowest request body, in bytes a second after the first ten; `"off"` for no limit.
        #[schemars(extend("default" = "1KiB"))]
        request_body_rate: BodySize,
        /// The longest silence between two requests, within a tunnel, or of a reader that takes
        /// nothing.
        #[schemars(extend("default" = "75s"))]
        idle_timeout: Period,
        /// The longest time for a TLS handshake.
        #[schemars(extend("default" = "10s"))]
        tls_handshake_timeout: Period,
        /// The longest wait for an application: for the first byte of its answer, and within it.
        #[schemars(extend("default" = "60s"))]
        upstream_timeout: Period,
        /// How long a request waits for an application that refuses connections.
        #[schemars(extend("default" = "3s"))]
        hold: Period,
        /// The largest request head, the request line counted.
        #[schemars(extend("default" = "32KiB"))]
        header_size: Size,
        /// The most fields of a request head.
        #[schemars(extend("default" = 100))]
        header_count: Count,
        /// The longest request target: path and query.
        #[schemars(extend("default" = "8KiB"))]
        target_size: Size,
        /// The largest request body; `"off"` for no limit.
        #[schemars(extend("default" = "100MiB"))]
        body_size: BodySize,
        /// The most open connections.
        #[schemars(extend("default" = 20000))]
        connections: Count,
        /// The most open connections of one client address (IPv6: of one /64).
        #[schemars(extend("default" = 1000))]
        connections_per_client: Count,
    }
}

section! {
    /// The access log and the program's own words.
    Log("[log]") {
        /// Where a line per request goes: `"stdout"`, `"off"` or a file.
        #[schemars(extend("default" = "stdout"))]
        access: AccessLog,
        /// How that line is written.
        #[schemars(extend("default" = "combined"))]
        format: LogFormat,
        /// The least severe of the program's own messages that is written.
        #[schemars(extend("default" = "info"))]
        level: Level,
        /// Query parameters whose values are masked in the access log.
        #[schemars(extend("default" = []))]
        mask: OneOrMany<Parameter>,
    }
}

section! {
    /// How the operator talks to the running program.
    Admin("[admin]") {
        /// The control socket.
        #[schemars(extend("default" = "/run/portcullis/control.sock"))]
        socket: FilePath,
        /// Where Prometheus may scrape; `"off"` for nowhere.
        #[schemars(extend("default" = "off"))]
        metrics: Metrics,
    }
}

section! {
    /// Automatic certificates.
    Acme("[acme]") {
        /// Told to the authority for warnings.
        email: Email,
        /// The directory URL of the authority.
        #[schemars(extend("default" = "https://acme-v02.api.letsencrypt.org/directory"))]
        directory: Directory,
        /// PEM file of roots to trust for the directory itself, for a private authority.
        ca: FilePath,
        /// Where keys, certificates and the local authority are kept.
        #[schemars(extend("default" = "/var/lib/portcullis"))]
        storage: FilePath,
        /// The kind of key that certificates are for.
        #[schemars(extend("default" = "p256"))]
        key_type: KeyType,
        /// The profile to ask for, where the authority offers it.
        profile: Profile,
        /// How names are proved, in this order; `"auto"` is whatever can work.
        #[schemars(extend("default" = "auto"))]
        challenges: OneOrMany<ChallengeWord>,
        /// Whether a name that never succeeded is tried at the staging directory first.
        #[schemars(extend("default" = "off"))]
        staging: Staging,
        /// How many certificates a minute may be begun for names of `on_demand` sites, in all.
        #[schemars(extend("default" = 10))]
        on_demand_rate: Count,
        /// What binds the account to one that the authority knows already.
        eab: Eab,
        /// Authorities, asked in this order, the next when one fails.
        authority: Sections<Authority>,
        /// How dns-01 writes to the DNS.
        dns: Dns,
    }
}

section! {
    /// An authority, asked when those before it fail.
    #[schemars(extend("required" = ["directory"]))]
    Authority("[[acme.authority]]") {
        /// The directory URL of the authority.
        directory: Directory,
        /// PEM file of roots to trust for the directory itself, for a private authority.
        ca: FilePath,
        /// What binds the account to one that the authority knows already.
        eab: Eab,
        /// The profile to ask for, where the authority offers it.
        profile: Profile,
        /// Its directory for trials, for `staging = "first"`.
        staging_directory: Directory,
    }
}

section! {
    /// What binds an account to one that the authority knows already (RFC 8555 §7.3.4).
    #[schemars(extend("required" = ["kid", "key"]))]
    Eab("`eab`") {
        /// The identifier of the key, as the authority gave it.
        kid: KeyId,
        /// The HMAC key, base64url, as the authority gave it.
        key: HmacKey,
    }
}

section! {
    /// How dns-01 writes to the DNS: by a name server (RFC 2136) or by a program.
    #[schemars(extend("oneOf" = [{ "required": ["server", "tsig"] }, { "required": ["exec"] }]))]
    Dns("[acme.dns]") {
        /// The address of a name server; it must take updates of the zone.
        server: NameServer,
        /// The key that updates are signed with.
        tsig: Tsig,
        /// A program that writes the record, instead of a server, and its arguments.
        exec: OneOrMany<Word>,
        /// The zone; without it any name can be proved, in whichever zone it is.
        zone: Zone,
        /// Name servers that are asked whether the record is seen; the system's when left out.
        resolvers: OneOrMany<NameServer>,
        /// The longest wait for a record to be seen, and the longest run of the program.
        #[schemars(extend("default" = "2m"))]
        propagation: Period,
    }
}

section! {
    /// A key that updates of a zone are signed with (RFC 8945).
    #[schemars(extend("required" = ["name", "secret"]))]
    Tsig("`tsig`") {
        /// Its name, as the name server knows it.
        name: TsigName,
        /// What it is for.
        #[schemars(extend("default" = "hmac-sha256"))]
        algorithm: TsigAlgorithm,
        /// The secret, base64.
        secret: TsigSecret,
    }
}

section! {
    /// One site: names, a certificate, and where its requests go.
    #[schemars(extend("required" = ["host"]))]
    Site("[[site]]") {
        /// The names: exact, `*.` and a name for one label more, or `*` for any other name.
        host: OneOrMany<HostPattern>,
        /// Where the certificate comes from.
        #[schemars(extend("default" = "auto"))]
        tls: Tls,
        /// As in `[acme]`, for this site.
        key_type: KeyType,
        /// PEM: the authorities whose certificates clients may show.
        client_ca: FilePath,
        /// Whether clients must show a certificate or may; with `client_ca` the default is that
        /// they must.
        client_auth: Authentication,
        /// PEM: what the authorities of `client_ca` have revoked.
        client_crl: FilePath,
        /// The oldest version of TLS that is spoken.
        #[schemars(extend("default" = "1.2"))]
        tls_min: OldestTls,
        /// What is spoken over TLS.
        #[schemars(extend("default" = ["h2", "http/1.1"]))]
        alpn: OneOrMany<Protocol>,
        /// For how long browsers insist on HTTPS (`Strict-Transport-Security`).
        #[schemars(extend("default" = "off"))]
        hsts: Hsts,
        /// What a plain HTTP request gets: `"https"`, `"off"`, or a URL for everything.
        #[schemars(extend("default" = "https"))]
        redirect: Redirect,
        /// The applications for whatever no route takes.
        to: OneOrMany<Target>,
        /// As in `[limits]`, for this site.
        upstream_timeout: Period,
        /// As in `[limits]`, for this site.
        hold: Period,
        /// Requests under one path prefix.
        route: Sections<Route>,
    }
}

section! {
    /// Requests under one path prefix and where they go.
    #[schemars(extend("required" = ["path", "to"]))]
    Route("[[site.route]]") {
        /// The prefix; it matches whole path segments, and the longest wins.
        path: PathPrefix,
        /// The applications.
        to: OneOrMany<Target>,
        /// As in `[limits]`, for this route.
        upstream_timeout: Period,
        /// As in `[limits]`, for this route.
        hold: Period,
    }
}

section! {
    /// A certificate and its key from files, or certificates for names that clients ask for.
    #[schemars(extend("oneOf" = [{ "required": ["cert", "key"] }, { "required": ["on_demand"] }]))]
    TlsTable("`tls`") {
        /// PEM: the chain, the site's own certificate first.
        cert: FilePath,
        /// PEM: the private key (PKCS#8, SEC1 or PKCS#1), readable by its owner only.
        key: FilePath,
        /// Certificates by ACME for single names, when a client first asks for one; for wildcards
        /// and `*`.
        on_demand: OnDemand,
    }
}

section! {
    /// Who decides for which names certificates are got when clients ask for them.
    #[schemars(extend("required" = ["ask"]))]
    OnDemand("`on_demand`") {
        /// Asked by GET with `domain=NAME`: 200 is yes, everything else no.
        ask: AskUrl,
    }
}

section! {
    /// For how long browsers insist on HTTPS, and on what.
    HstsTable("`hsts`") {
        /// For how long.
        max_age: MaxAge,
        /// In steps, from five minutes to a year, instead of `max_age`.
        ramp: bool,
        /// Every name below the site's names too.
        include_subdomains: bool,
        /// To stand in the list that browsers are delivered with.
        preload: bool,
    }
}
