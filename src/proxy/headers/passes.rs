//! How often a request has come by already: an application that leads back here, through whatever
//! else, would have it go round for ever.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The field of RFC 8586, which no intermediary may remove. It is not `Via`, for which web servers
/// stop to compress.
pub const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");

/// What every server of this program is called there.
pub const NAME: HeaderValue = HeaderValue::from_static("portcullis");

/// A request that has passed so many servers of this program goes no further. More than one is no
/// loop yet: there are chains of proxies, and applications that ask their own site in the name of a
/// client and repeat all fields.
pub const MOST: usize = 8;

/// How many servers of this program a request has passed, as far as it says.
#[must_use]
pub fn count(headers: &HeaderMap) -> usize {
    let lines = headers.get_all(CDN_LOOP).iter();
    let entries = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    entries.filter(|entry| is_ours(entry)).count()
}

/// Parameters may follow (RFC 8586 §2).
fn is_ours(entry: &[u8]) -> bool {
    let name = entry.split(|&byte| byte == b';').next().unwrap_or_default();
    name.trim_ascii() == NAME.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_program_counts_and_in_every_line() {
        for (lines, wanted) in [
            (&[][..], 0),
            (&["cloudflare"], 0),
            (&["portcullis"], 1),
            (&["portcullis-other, x-portcullis, PORTCULLIS"], 0),
            (&["cloudflare; loops=1, portcullis", "portcullis;a=b ,fastly", ""], 2),
            (&["portcullis,portcullis,\tportcullis"], 3),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(CDN_LOOP, HeaderValue::from_static(line));
            }
            assert_eq!(count(&headers), wanted, "{lines:?}");
        }
    }
}
