//! How each server is started as a reverse proxy of its own, in a folder of its own.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::harness::strict::Heard;
use crate::harness::wire::RawAnswer;
use crate::harness::{eventually, proxy};

/// A running server; it is stopped by its pid.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    _folder: TempDir,
}

impl Server {
    /// Starts the server of this name in front of an application.
    pub fn start(name: &str, app: &str) -> Self {
        let folder = proxy::folder();
        let path = folder.path().display().to_string();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (text, arguments) = configuration(name);
        let text = text.replace("FOLDER", &path).replace("APP", app);
        let text = text.replace("HOST", "127.0.0.1").replace("PORT", &port.to_string());
        let app_port = app.rsplit(':').next().unwrap();
        let file = folder.path().join("server.conf");
        std::fs::write(&file, text.replace("TARGET", app_port)).unwrap();
        let mut command = Command::new(name);
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").args(arguments).arg(&file);
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        eventually("a server of another make", || TcpStream::connect(address).is_ok());
        Self { address, child, _folder: folder }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        let _ = kill_process(pid, Signal::TERM);
        let _ = self.child.wait();
    }
}

/// The file, and the arguments before its name. Each forwards the target as it came, as far as it
/// can be told to.
fn configuration(name: &str) -> (&'static str, &'static [&'static str]) {
    match name {
        "nginx" => (NGINX, &["-e", "stderr", "-c"]),
        "haproxy" => (HAPROXY, &["-db", "-f"]),
        "apache2" => (APACHE, &["-DFOREGROUND", "-f"]),
        "lighttpd" => (LIGHTTPD, &["-D", "-f"]),
        other => panic!("no reader is called {other}"),
    }
}

const NGINX: &str = "
daemon off;
pid FOLDER/nginx.pid;
error_log /dev/null;
events {}
http {
    access_log off;
    client_body_temp_path FOLDER/body;
    proxy_temp_path FOLDER/proxy;
    fastcgi_temp_path FOLDER/fastcgi;
    uwsgi_temp_path FOLDER/uwsgi;
    scgi_temp_path FOLDER/scgi;
    keepalive_requests 1000000;
    large_client_header_buffers 4 64k;
    server {
        listen HOST:PORT;
        location / {
            proxy_http_version 1.1;
            proxy_pass http://APP;
        }
    }
}
";

const HAPROXY: &str = "
global
    tune.bufsize 65536
    tune.http.maxhdr 400
defaults
    mode http
    option http-ignore-probes
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen reader
    bind HOST:PORT
    server app APP
";

const APACHE: &str = "
ServerName reader
PidFile FOLDER/apache.pid
ErrorLog /dev/null
Listen HOST:PORT
DefaultRuntimeDir FOLDER
Mutex file:FOLDER
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
User nobody
Group nogroup
HttpProtocolOptions Strict
MaxKeepAliveRequests 0
LimitRequestFieldSize 65000
LimitRequestLine 65000
LimitRequestFields 400
AllowEncodedSlashes NoDecode
MergeSlashes Off
ProxyRequests Off
ProxyPass / http://APP/ nocanon
";

const LIGHTTPD: &str = "
server.document-root = \"FOLDER\"
server.bind = \"HOST\"
server.port = PORT
server.errorlog = \"/dev/null\"
server.upload-dirs = ( \"FOLDER\" )
server.max-keep-alive-requests = 65535
server.max-request-field-size = 65000
server.http-parseopts = ( \"url-normalize\" => \"disable\" )
server.modules = ( \"mod_proxy\" )
proxy.server = ( \"\" => ( ( \"host\" => \"127.0.0.1\", \"port\" => TARGET ) ) )
";

/// Why a server may answer a request itself: what RFC 9110 leaves to each, and no other reading.
pub fn excuse(name: &str, request: &Heard, answer: &RawAnswer) -> Option<&'static str> {
    let is_plain = |byte: u8| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_');
    let framing = ["content-length", "transfer-encoding"];
    let has_body = framing.iter().any(|name| !request.values(name).is_empty());
    match (name, answer.status()) {
        // It is a server's own to answer (RFC 9110 §9.3.7); nginx knows no such target.
        ("nginx", 400) if request.target == "*" => Some("OPTIONS * is not known to it"),
        (_, 200) if request.target == "*" => Some("OPTIONS * is answered by itself"),
        ("nginx", 400 | 405) if !request.method.bytes().all(is_plain) => {
            Some("methods are A to Z, - and _ to it")
        }
        // Its prefixes match any number of slashes.
        ("apache2", 200) if answer.field("x-told") == Some(&one_slash(request)) => {
            Some("slashes in front are merged")
        }
        // Such content has no meaning, and a server may refuse it (RFC 9110 §9.3.1, §9.3.2).
        ("lighttpd", 400) if has_body && matches!(&*request.method, "GET" | "HEAD") => {
            Some("GET and HEAD have no body to it")
        }
        // RFC 9110 §9.1.
        (_, 501) => Some("a method that it does not implement"),
        _ => None,
    }
}

/// What is told of a request when slashes in front of its path are one.
fn one_slash(request: &Heard) -> String {
    let target = request.target.trim_start_matches('/');
    format!("{} /{target} {}", request.method, request.body.len())
}
