//! The configuration of each proxy: the same features for all.
//!
//! Everybody keeps what a user has on by default, writes an access log to a file, tells the origin
//! of the client by `X-Forwarded-*`, keeps its connections to the origin alive, and has one worker.
//! Whatever a proxy does beyond that by itself (Portcullis: request ids and metrics; nginx: request
//! bodies buffered before they are forwarded) stays on.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::Result;
use crate::peer::Peer;

/// What a configuration is filled in with.
pub(crate) struct Site<'a> {
    /// Belongs to this proxy alone; logs, sockets and temporary files go there.
    pub(crate) directory: &'a Path,
    /// Where to listen with TLS.
    pub(crate) listen: SocketAddr,
    /// A second free address, for metrics.
    pub(crate) metrics: SocketAddr,
    /// Where the application is.
    pub(crate) origin: SocketAddr,
    /// Holds `cert.pem`, `cert.key` and `both.pem`.
    pub(crate) certificate: &'a Path,
    /// The program would stay root unless told otherwise.
    pub(crate) root: bool,
}

/// Writes the configuration and returns the arguments that make the program serve it in the
/// foreground.
pub(crate) fn write(peer: Peer, site: &Site<'_>) -> Result<Vec<String>> {
    let (name, text) = match peer {
        Peer::Portcullis => ("portcullis.toml", portcullis(site)),
        Peer::Nginx => ("nginx.conf", nginx(site)),
        Peer::Haproxy => ("haproxy.cfg", haproxy(site)),
        Peer::Caddy => ("Caddyfile", caddy(site)),
    };
    let file = site.directory.join(name);
    fs::write(&file, text)?;
    let file = file.display().to_string();
    let arguments: &[&str] = match peer {
        Peer::Portcullis => &["run", "-c", &file],
        Peer::Nginx => &["-e", "stderr", "-c", &file],
        Peer::Haproxy => &["-db", "-f", &file],
        Peer::Caddy => &["run", "--adapter", "caddyfile", "--config", &file],
    };
    Ok(arguments.iter().map(|&argument| argument.to_owned()).collect())
}

fn portcullis(site: &Site<'_>) -> String {
    let Site { listen, metrics, origin, .. } = site;
    let (directory, certificate) = (site.directory.display(), site.certificate.display());
    let user = if site.root { "user = \"nobody\"" } else { "" };
    format!(
        r#"
[server]
http = []
https = "{listen}"
workers = 1
{user}

[log]
access = "{directory}/access.log"

[admin]
socket = "{directory}/control.sock"
metrics = "{metrics}"

[acme]
storage = "{directory}/storage"

[limits]
connections_per_client = 20000

[[site]]
host = "localhost"
tls = {{ cert = "{certificate}/cert.pem", key = "{certificate}/cert.key" }}
to = "{origin}"
"#
    )
}

fn nginx(site: &Site<'_>) -> String {
    let Site { listen, origin, .. } = site;
    let (directory, certificate) = (site.directory.display(), site.certificate.display());
    let user = if site.root { "user root;" } else { "" };
    format!(
        r#"
daemon off;
{user}
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections 10000; }}
http {{
    access_log {directory}/access.log combined;
    client_body_temp_path {directory}/client_body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    client_max_body_size 100m;
    keepalive_requests 1000000;
    upstream origin {{
        server {origin};
        keepalive 256;
        keepalive_requests 1000000;
    }}
    server {{
        listen {listen} ssl http2;
        server_name localhost;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_certificate {certificate}/cert.pem;
        ssl_certificate_key {certificate}/cert.key;
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
        }}
    }}
}}
"#
    )
}

/// HAProxy cannot write a log file; its standard output is one.
fn haproxy(site: &Site<'_>) -> String {
    let Site { listen, origin, .. } = site;
    let certificate = site.certificate.display();
    format!(
        r"
global
    nbthread 1
    maxconn 8000
    log stdout format raw local0

defaults
    mode http
    log global
    option httplog
    option dontlognull
    option forwardfor
    http-reuse always
    timeout connect 5s
    timeout client 75s
    timeout server 60s

frontend https
    bind {listen} ssl crt {certificate}/both.pem alpn h2,http/1.1
    http-request set-header X-Forwarded-Proto https
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    default_backend origin

backend origin
    server origin {origin}
"
    )
}

fn caddy(site: &Site<'_>) -> String {
    let Site { listen, origin, .. } = site;
    let (directory, certificate) = (site.directory.display(), site.certificate.display());
    let (address, port) = (listen.ip(), listen.port());
    format!(
        r"
{{
    admin off
    auto_https off
    storage file_system {directory}/storage
    servers {{
        protocols h1 h2
    }}
}}
https://localhost:{port} {{
    bind {address}
    tls {certificate}/cert.pem {certificate}/cert.key
    log {{
        output file {directory}/access.log {{
            roll_disabled
        }}
    }}
    reverse_proxy {origin} {{
        transport http {{
            keepalive_idle_conns_per_host 256
        }}
    }}
}}
"
    )
}
