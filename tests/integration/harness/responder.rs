//! OpenSSL as the responder of the test authority.

use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::proxy::collect;
use super::{eventually, pki, tools};

/// A running responder on 127.0.0.1. Dropping it ends it.
pub struct Responder {
    child: Child,
    _folder: TempDir,
}

impl Responder {
    /// Says of each of these certificates whether it is good, or was revoked, for an hour; `None`,
    /// with a word, where OpenSSL is not installed.
    #[track_caller]
    pub fn start(port: u16, known: &[(&pki::Pair, bool)]) -> Option<Self> {
        let openssl = tools::find("openssl")?;
        let folder = tempfile::Builder::new().prefix("portcullis-ocsp-").tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text);
        write("root.pem", &pki::root_pem()).unwrap();
        write("root.key", &pki::root_key_pem()).unwrap();
        let line = |(pair, is_good): &(&pki::Pair, bool)| {
            let state =
                if *is_good { "V\t351231235959Z\t" } else { "R\t351231235959Z\t260101000000Z" };
            format!("{state}\t{}\tunknown\t/CN=app.test\n", pki::serial(pair))
        };
        write("index.txt", &known.iter().map(line).collect::<String>()).unwrap();
        let mut command = Command::new(openssl.as_std().get_program());
        command.current_dir(folder.path()).args(["ocsp", "-index", "index.txt", "-nmin", "60"]);
        command.args(["-CA", "root.pem", "-rsigner", "root.pem", "-rkey", "root.key"]);
        command.args(["-port", &port.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let words = collect(child.stdout.take().unwrap());
        let responder = Self { child, _folder: folder };
        // It serves one client at a time: one that only knocks would be waited for.
        eventually("the responder to listen", || words.lock().unwrap().contains("ACCEPT"));
        Some(responder)
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
