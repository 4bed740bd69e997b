//! What every system has at the same places: devices, time zones, name resolution, roots.

use std::path::{Path, PathBuf};

use super::needs::{Access, Extent, Place};

/// What is used whatever the configuration says.
pub(super) fn places(environment: &dyn Fn(&str) -> Option<PathBuf>) -> Vec<Place> {
    let mut places = vec![
        here("/dev/null", Access::Use),
        // Randomness comes from a call; where the kernel lacks it, from here.
        here("/dev/urandom", Access::Read),
        // The program's own rights, threads and mappings: for its proof and for a backtrace.
        here("/proc/self", Access::List),
        // The memory allocator asks before it gives memory back.
        here("/proc/sys/vm/overcommit_memory", Access::Read),
        // The name of a local authority says which host made it.
        here("/proc/sys/kernel/hostname", Access::Read),
        here("/etc/localtime", Access::Read),
    ];
    let zones = environment("TZDIR").into_iter();
    let zones = zones.chain(["/usr/share/zoneinfo", "/usr/lib/zoneinfo"].map(PathBuf::from));
    places.extend(zones.map(|path| here(path, Access::List)));
    // `TZ` may name a file.
    let zone = environment("TZ").and_then(|zone| {
        let zone = zone.to_string_lossy().trim_start_matches(':').to_owned();
        zone.starts_with('/').then(|| PathBuf::from(zone))
    });
    places.extend(zone.map(|path| here(path, Access::Read)));
    // Names of functions in a backtrace.
    places.extend(std::env::current_exe().ok().map(|path| here(path, Access::Read)));
    places
}

/// What the C library reads to find the address of a name, as the application that `key` names has.
/// The sockets of the services that it asks take no right to connect to.
pub(super) fn names(key: &str) -> Vec<Place> {
    let files = [
        "/etc/hosts",
        "/etc/host.conf",
        "/etc/nsswitch.conf",
        "/etc/gai.conf",
        "/etc/services",
        "/etc/protocols",
        "/etc/hostname",
        "/etc/ld.so.cache",
    ];
    let mut places: Vec<Place> = files.iter().map(|path| here(path, Access::Read)).collect();
    // A link on most systems, to a file that is replaced when the network changes.
    places.push(Place {
        path: RESOLV_CONF.into(),
        access: Access::Read,
        extent: Extent::Around,
        key: Some(format!("{key}: the list of name servers ({RESOLV_CONF})")),
        is_handed: false,
    });
    if !cfg!(target_env = "musl") {
        let libraries = ["/lib", "/lib64", "/usr/lib", "/usr/lib64"];
        places.extend(libraries.iter().map(|path| here(path, Access::Read)));
        // Nix and Guix keep each library in a folder of its own.
        places.extend(["/nix/store", "/gnu/store"].map(|path| here(path, Access::Read)));
    }
    places
}

/// Where the name servers are listed.
pub(super) const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Where the roots are by which applications are verified: those that `SSL_CERT_FILE` and
/// `SSL_CERT_DIR` name, and where distributions keep them. `key` names the first such application.
pub(super) fn roots(environment: &dyn Fn(&str) -> Option<PathBuf>, key: &str) -> Vec<Place> {
    let named = environment("SSL_CERT_FILE")
        .map(|path| Place { extent: Extent::Around, ..here(path, Access::Read) });
    let folders = environment("SSL_CERT_DIR");
    let folders: Vec<PathBuf> = folders.iter().flat_map(std::env::split_paths).collect();
    let folders = folders.into_iter().chain(FOLDERS.iter().map(PathBuf::from));
    let places = named
        .into_iter()
        .chain(FILES.iter().map(|path| here(path, Access::Read)))
        .chain(folders.map(|path| here(path, Access::List)));
    let key = format!("{key}: a certificate of the system's roots");
    places.map(|place| Place { key: Some(key.clone()), ..place }).collect()
}

/// As the library that reads them looks for them.
const FILES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/opt/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/certs/cacert.pem",
];

/// The same, and what the links in those folders lead to.
const FOLDERS: &[&str] = &[
    "/etc/ssl/certs",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
    "/etc/ca-certificates/extracted",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/usr/share/pki",
    "/var/lib/ca-certificates",
];

fn here(path: impl AsRef<Path>, access: Access) -> Place {
    Place {
        path: path.as_ref().to_owned(),
        access,
        extent: Extent::Here,
        key: None,
        is_handed: false,
    }
}
