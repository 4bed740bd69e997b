//! Certificates that get and renew themselves, by an ACME server of another make.

mod issue;
mod renew;
mod trouble;
mod kill;
mod challenges;
mod dns;
mod hook;
mod reload;
mod between;
mod verbs;
mod on_demand;
mod revoke;
mod damage;
mod preflight;
mod renewal_info;

use std::path::Path;
use std::time::Duration;

use crate::harness::pebble::Pebble;
use crate::harness::{
    Client, LONG_PATIENCE, Origin, Proxy, Site, eventually, eventually_within, tools,
};

/// A name that no public authority would sign.
const NAME: &str = "shop.test";

fn app() -> Origin {
    Origin::start()
}

fn site(origin: &Origin) -> Site {
    Site::named(NAME).to(origin)
}

/// A client that trusts this root alone.
fn trusting(proxy: &Proxy, root: &str) -> Client {
    Client::plain(proxy.https(), NAME).trusting(root.to_owned(), NAME)
}

/// Waits until the proxy shows a certificate of this authority.
#[track_caller]
fn expect_issued(proxy: &Proxy, pebble: &Pebble) {
    let client = trusting(proxy, &pebble.issuer());
    eventually_within(LONG_PATIENCE, "a certificate of the authority", || {
        client.try_connect().is_ok()
    });
}

/// A folder that several proxies use one after the other, or at once.
fn storage() -> tempfile::TempDir {
    crate::harness::proxy::folder()
}

fn kept_in(path: &Path) -> String {
    format!("storage = '{}'", path.display())
}

/// Long enough for several turns of a certificate.
const TURNS: Duration = Duration::from_secs(120);

/// What `status` says, and that a person is needed.
#[track_caller]
fn expect_call(proxy: &Proxy, words: &str) {
    let file = proxy.path("portcullis.toml");
    eventually("a call for a person", || {
        let status = tools::portcullis(&["status", "-c", file.to_str().unwrap()]);
        tools::stdout(&status).contains(words) && status.status.code() == Some(1)
    });
}
