//! The labels whose values are this program's own: closed sets, which no stranger can add to.

/// A closed set of values of a label.
pub trait Label: Copy + 'static {
    /// Every value, in the order of [`Label::index`].
    const ALL: &'static [Self];
    /// The position in [`Label::ALL`].
    fn index(self) -> usize;
    /// The text of the label.
    fn text(self) -> &'static str;
}

/// Declares an enum with a label text for each variant.
macro_rules! labels {
    (
        $(#[$doc:meta])*
        $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)*];

            fn index(self) -> usize {
                self as usize
            }

            fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

labels! {
    /// The kind of a listener.
    Listener {
        /// Plain HTTP.
        Http = "http",
        /// TLS.
        Https = "https",
    }
}

labels! {
    /// Why a TLS handshake came to nothing.
    HandshakeFailure {
        /// `tls_handshake_timeout` passed.
        Timeout = "timeout",
        /// No certificate for the name that was asked for.
        NoCertificate = "no_certificate",
        /// No version, cipher, group, signature scheme or ALPN protocol in common.
        NothingInCommon = "nothing_in_common",
        /// The client sent an alert.
        Alert = "alert",
        /// The client's own certificate is missing, or not good here.
        ClientCertificate = "client_certificate",
        /// What came was not TLS (plain HTTP, say), or broke its rules.
        Malformed = "malformed",
        /// The connection closed or broke.
        Io = "io",
        /// Anything else.
        Other = "other",
    }
}

labels! {
    /// A key of `[limits]`.
    Limit {
        /// `request_header_timeout`.
        RequestHeaderTimeout = "request_header_timeout",
        /// `request_body_idle_timeout`.
        RequestBodyIdleTimeout = "request_body_idle_timeout",
        /// `request_body_rate`.
        RequestBodyRate = "request_body_rate",
        /// `idle_timeout`.
        IdleTimeout = "idle_timeout",
        /// `tls_handshake_timeout`.
        TlsHandshakeTimeout = "tls_handshake_timeout",
        /// `upstream_timeout`.
        UpstreamTimeout = "upstream_timeout",
        /// `hold`.
        Hold = "hold",
        /// `header_size`.
        HeaderSize = "header_size",
        /// `header_count`.
        HeaderCount = "header_count",
        /// `target_size`.
        TargetSize = "target_size",
        /// `body_size`.
        BodySize = "body_size",
        /// `connections`.
        Connections = "connections",
        /// `connections_per_client`.
        ConnectionsPerClient = "connections_per_client",
    }
}

labels! {
    /// What came of an attempt to get a certificate by ACME.
    AcmeOutcome {
        /// A certificate.
        Issued = "issued",
        /// No authority was reached.
        Unreachable = "unreachable",
        /// The authorities would not do it.
        Refused = "refused",
        /// Too much was asked of an authority, or would have been.
        Limited = "limited",
        /// A name could not be proved.
        Unproved = "unproved",
        /// The storage does not work.
        Storage = "storage",
    }
}

labels! {
    /// The status of an answer, by class.
    StatusClass {
        /// 100-199.
        Informational = "1xx",
        /// 200-299.
        Success = "2xx",
        /// 300-399.
        Redirection = "3xx",
        /// 400-499 but 499.
        ClientError = "4xx",
        /// 500-599.
        ServerError = "5xx",
        /// The client went away before the answer.
        ClientGone = "499",
        /// A number outside of the standard (RFC 9110 §15).
        Other = "other",
    }
}

impl StatusClass {
    /// The class of `status`.
    #[must_use]
    pub fn of(status: u16) -> Self {
        match status {
            499 => Self::ClientGone,
            100..=199 => Self::Informational,
            200..=299 => Self::Success,
            300..=399 => Self::Redirection,
            400..=498 => Self::ClientError,
            500..=599 => Self::ServerError,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_one_class() {
        for (status, class) in [
            (100, "1xx"),
            (101, "1xx"),
            (200, "2xx"),
            (308, "3xx"),
            (400, "4xx"),
            (498, "4xx"),
            (499, "499"),
            (500, "5xx"),
            (599, "5xx"),
            (0, "other"),
            (99, "other"),
            (600, "other"),
            (u16::MAX, "other"),
        ] {
            assert_eq!(StatusClass::of(status).text(), class, "{status}");
        }
    }

    #[test]
    fn an_index_is_the_place_in_the_list() {
        fn check<L: Label>() {
            let indices: Vec<usize> = L::ALL.iter().map(|label| label.index()).collect();
            assert_eq!(indices, (0..L::ALL.len()).collect::<Vec<_>>());
        }
        check::<Listener>();
        check::<HandshakeFailure>();
        check::<Limit>();
        check::<AcmeOutcome>();
        check::<StatusClass>();
    }
}
