//! Nonces that are refused: a request is sent again, which has had no effect (RFC 8555 §6.5).

use instant_acme::Problem;

/// Requests that were refused for their nonce are sent again so often, beside what the library
/// does.
pub(super) const NONCES: usize = 6;

/// Whether a request was refused for nothing but its nonce.
pub(super) fn is_bad_nonce(problem: &Problem) -> bool {
    problem.r#type.as_deref().is_some_and(|name| name.ends_with(":badNonce"))
}

/// Sends a request again while its nonce is refused.
macro_rules! with_nonce {
    ($request:expr) => {{
        let mut tries = 0;
        loop {
            match $request.await {
                Err(Error::Api(problem)) if is_bad_nonce(&problem) && tries < NONCES => tries += 1,
                result => break result,
            }
        }
    }};
}

pub(super) use with_nonce;
