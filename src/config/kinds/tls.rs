//! Where a certificate comes from.

use crate::config::file::CertFiles;
use crate::config::problems::Problem;
use crate::config::read::{Node, Reader, Value, read_section};
use crate::config::words;

/// Where a certificate comes from.
#[derive(Debug)]
pub(in crate::config) enum Tls {
    Auto,
    Local,
    Files(CertFiles),
}

impl Tls {
    pub(in crate::config) const ALLOWED: &'static str =
        "\"auto\", \"local\", or { cert = \"chain.pem\", key = \"key.pem\" }";
}

impl Value for Tls {
    fn read(node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Option<Self> {
        let value = node.get_ref();
        if value.is_table() {
            return read_section(node, reader).map(Self::Files);
        }
        let Some(text) = value.as_str() else {
            reader.wrong_type(node, Self::ALLOWED, None);
            return None;
        };
        match &*reader.expand(text, &node.span())? {
            "auto" => Some(Self::Auto),
            "local" => Some(Self::Local),
            other => {
                let nearest = words::nearest(other, &["auto", "local"]);
                let help = nearest.map(|word| format!("did you mean `{word}`?"));
                let problem = Problem::error(format!("`{other}` is not a source of certificates"))
                    .found(format!("\"{other}\""))
                    .allowed(Self::ALLOWED);
                reader.report.add(&node.span(), problem.maybe_help(help));
                None
            }
        }
    }
}
