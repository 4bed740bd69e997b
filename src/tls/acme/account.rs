//! Accounts: one for each directory, made once, whatever happens on the way.
//!
//! The key is kept before the authority hears of it. A second request with the same key returns the
//! account of the first (RFC 8555 §7.3), so that no kill makes two.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use instant_acme::Account;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::failure::{Failure, Kind};
use super::jose::AccountKey;
use super::names::directory_stem;
use super::transport::Transport;
use super::vault::{Held, Vault};
use crate::config::Eab;

/// How often a nonce that was refused is replaced (RFC 8555 §6.5).
const NONCES: usize = 10;

/// How long another process may take to make the account.
const WAITS: usize = 60;
const WAIT: Duration = Duration::from_millis(500);

/// An account in the vault.
#[derive(Serialize, Deserialize)]
struct Entry {
    directory: String,
    /// PKCS#8, base64url.
    key: String,
    /// Its URL, once the authority has told it.
    id: Option<String>,
}

/// Whom an account is with, and what it is told.
#[derive(Clone, Copy, Debug)]
pub struct Whom<'a> {
    /// The directory.
    pub directory: &'a str,
    /// The way there.
    pub transport: &'a Transport,
    /// An address for warnings.
    pub email: Option<&'a str>,
    /// What binds a new account to one that the authority knows.
    pub eab: Option<&'a Eab>,
}

/// Opens the account with a directory, and makes it where there is none.
///
/// # Errors
/// When the storage or the authority does not let it.
pub async fn open(vault: &dyn Vault, whom: Whom<'_>) -> Result<Account, Failure> {
    let name = entry(whom.directory);
    let held = lock(vault, &name).await?;
    let (key, mut kept) = read_or_make(vault, &name, whom, &held)?;
    // What is whole is not written again: a full storage keeps nobody from revoking.
    let id = match kept.id.take() {
        Some(id) => id,
        None => {
            let id = register(&key, whom).await?;
            kept.id = Some(id.clone());
            put(vault, &name, &kept, &held)?;
            id
        }
    };
    drop(held);
    let builder = Account::builder_with_http(Box::new(whom.transport.clone()));
    let key = PrivatePkcs8KeyDer::from(key.pkcs8().to_vec());
    Ok(builder.from_parts(id, key, whom.directory.to_owned()).await?)
}

/// Whether there is an account with a directory: the key that a certificate is revoked with.
///
/// # Errors
/// When the storage cannot be read.
pub fn is_kept(vault: &dyn Vault, directory: &str) -> Result<bool, Failure> {
    let kept = vault.get(&entry(directory))?;
    Ok(kept.is_some_and(|text| serde_json::from_slice::<Entry>(&text).is_ok()))
}

/// The authority has no such account: it is asked for it again with the same key next time.
///
/// # Errors
/// When the storage does not let it.
pub async fn forget(vault: &dyn Vault, directory: &str) -> Result<(), Failure> {
    let name = entry(directory);
    let held = lock(vault, &name).await?;
    let Some(text) = vault.get(&name)? else { return Ok(()) };
    let Ok(mut kept) = serde_json::from_slice::<Entry>(&text) else { return Ok(()) };
    kept.id = None;
    put(vault, &name, &kept, &held)
}

/// The entry of the account with a directory.
#[must_use]
pub fn entry(directory: &str) -> String {
    format!("account@{}.json", directory_stem(directory))
}

/// Whether the text of an entry has an account in it.
#[must_use]
pub fn is_whole(text: &[u8]) -> bool {
    let kept = serde_json::from_slice::<Entry>(text).ok();
    let key = kept.and_then(|kept| URL_SAFE_NO_PAD.decode(&kept.key).ok());
    key.is_some_and(|key| AccountKey::parse(&key).is_some())
}

async fn lock(vault: &dyn Vault, name: &str) -> Result<Held, Failure> {
    for _ in 0..WAITS {
        if let Some(held) = vault.lock(name)? {
            return Ok(held);
        }
        tokio::time::sleep(WAIT).await;
    }
    let words = format!("another process has held {} for too long", vault.place(name));
    Err(Failure::new(Kind::Storage, words))
}

fn read_or_make(
    vault: &dyn Vault,
    name: &str,
    whom: Whom<'_>,
    held: &Held,
) -> Result<(AccountKey, Entry), Failure> {
    if let Some(text) = vault.get(name)? {
        let kept = serde_json::from_slice::<Entry>(&text).ok();
        let parsed = kept.and_then(|kept| {
            let key = URL_SAFE_NO_PAD.decode(&kept.key).ok()?;
            Some((AccountKey::parse(&key)?, kept))
        });
        if let Some(parsed) = parsed {
            return Ok(parsed);
        }
        let place = vault.place(name);
        tracing::error!("{place} is damaged: it is set aside, and a new account is made");
        vault.set_aside(name, held)?;
    }
    let none = || Failure::new(Kind::Storage, "this system has no randomness for a key");
    let key = AccountKey::generate().ok_or_else(none)?;
    let kept = Entry {
        directory: whom.directory.to_owned(),
        key: URL_SAFE_NO_PAD.encode(key.pkcs8()),
        id: None,
    };
    put(vault, name, &kept, held)?;
    Ok((key, kept))
}

fn put(vault: &dyn Vault, name: &str, kept: &Entry, held: &Held) -> Result<(), Failure> {
    let text = serde_json::to_vec_pretty(kept).unwrap_or_default();
    Ok(vault.put(name, &text, held)?)
}

/// Asks for the account of this key; its URL.
async fn register(key: &AccountKey, whom: Whom<'_>) -> Result<String, Failure> {
    let strange =
        |what: &str| Failure::new(Kind::Unreachable, format!("{}: {what}", whom.directory));
    let directory = whom.transport.send(request(Method::GET, whom.directory, Vec::new())?).await?;
    let directory: Value = serde_json::from_slice(directory.body()).unwrap_or_default();
    let url = |name: &str| directory.get(name).and_then(Value::as_str).map(str::to_owned);
    let (Some(new_nonce), Some(new_account)) = (url("newNonce"), url("newAccount")) else {
        return Err(strange("this is no directory of an ACME server"));
    };
    if let Some(terms) = directory.pointer("/meta/termsOfService").and_then(Value::as_str) {
        let terms: String = terms.chars().filter(|c| !c.is_control()).take(300).collect();
        tracing::info!("making an account at {} under its terms: {terms}", whom.directory);
    }
    let mut last = None;
    for _ in 0..NONCES {
        let fresh = whom.transport.send(request(Method::HEAD, &new_nonce, Vec::new())?).await?;
        let nonce = fresh.headers().get("replay-nonce").and_then(|value| value.to_str().ok());
        let nonce = nonce.ok_or_else(|| strange("its newNonce gives no nonce"))?;
        let body = key
            .new_account((&new_account, nonce), whom.email, whom.eab)
            .ok_or_else(|| Failure::new(Kind::Storage, "the account's key does not sign"))?;
        let answer = whom.transport.send(request(Method::POST, &new_account, body)?).await?;
        if matches!(answer.status(), StatusCode::OK | StatusCode::CREATED) {
            let id = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            return id.map(str::to_owned).ok_or_else(|| strange("its account has no URL"));
        }
        let problem = serde_json::from_slice::<instant_acme::Problem>(answer.body());
        let problem = problem.map_err(|_| strange("its answer is no ACME"))?;
        let failure = Failure::of_request(&problem);
        let is_nonce = problem.r#type.is_some_and(|name| name.ends_with(":badNonce"));
        if !is_nonce {
            return Err(failure);
        }
        last = Some(failure);
    }
    Err(last.unwrap_or_else(|| strange("it refuses every nonce")))
}

fn request(method: Method, url: &str, body: Vec<u8>) -> Result<Request<Bytes>, Failure> {
    let mut request = Request::builder().method(method).uri(url);
    if !body.is_empty() {
        request = request.header(header::CONTENT_TYPE, "application/jose+json");
    }
    request
        .body(Bytes::from(body))
        .map_err(|_| Failure::new(Kind::Unreachable, "the directory names a URL that is none"))
}
