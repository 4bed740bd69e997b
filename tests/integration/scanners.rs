//! What scanners of TLS say of the program as it is shipped.

use std::time::Duration;

use tokio::process::Command;

use crate::harness::proxy::HOST;
use crate::harness::setup::write_pair;
use crate::harness::tools::{self, stderr, stdout};
use crate::harness::{Origin, Proxy, pki};

/// The program with a certificate as the web has them, and the root of it in a file.
fn scanned() -> (Origin, Proxy, String) {
    let origin = Origin::start();
    origin.route("*", "hello");
    let setup = Proxy::to(&origin);
    let proxy = Proxy::launch_after(setup, |folder| {
        write_pair(&folder.join("certs/app.test.pem"), &pki::issue_for_the_web(&[HOST]));
    });
    proxy.expect_listening();
    let root = proxy.path("root.pem");
    std::fs::write(&root, pki::root_pem()).unwrap();
    (origin, proxy, root.to_str().unwrap().to_owned())
}

/// Mozilla's "intermediate" profile: protocols, suites, curves, certificate, and the known attacks.
#[test]
fn sslyze_finds_mozillas_intermediate_profile() {
    let (_origin, proxy, root) = scanned();
    let Some(mut sslyze) = tools::find("sslyze") else { return };
    sslyze.args(["--mozilla_config=intermediate", "--sni", HOST, "--certinfo_ca_file", &root]);
    let output = tools::run(sslyze.arg(proxy.https().to_string()));
    let text = stdout(&output) + &stderr(&output);
    assert!(output.status.success() && text.contains("OK - Compliant"), "{text}");
}

/// What testssl.sh finds above LOW that is not the program's, by its name for it.
const OTHERS: [&str; 3] = [
    // An application sets them; this one sets none.
    "security_headers",
    // The root is the test's own, and so is how it is looked for.
    "cert_chain_of_trust",
    // The test's authority has no list and no responder.
    "cert_revocation",
];

/// How long such a scan may take: its many handshakes, one after the other, take two minutes on two
/// busy cores.
const SCAN: Duration = Duration::from_secs(900);

/// `testssl.sh`, or `testssl` as Debian calls it.
#[test]
fn testssl_finds_nothing_above_low() {
    let (_origin, proxy, root) = scanned();
    let Some(mut testssl) = tools::find("testssl") else { return };
    let findings = proxy.path("findings.json");
    let place = format!("https://{HOST}:{}", proxy.https().port());
    // Handshakes as the clients that it imitates would tell nothing more.
    testssl.args(["--protocols", "--server-preference", "--server-defaults", "--headers"]);
    testssl.args(["--vulnerable", "--quiet", "--warnings", "off", "--color", "0"]);
    testssl.args(["--ip", "127.0.0.1"]);
    testssl.args(["--add-ca", &root, "--jsonfile"]).arg(&findings).arg(&place);
    let output = tools::run_within(SCAN, &mut testssl);
    let text = std::fs::read_to_string(&findings).unwrap_or_default();
    let found: Vec<serde_json::Value> = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {}{}", stdout(&output), stderr(&output)));
    let of = |finding: &serde_json::Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let order = found.iter().find(|finding| of(finding, "id") == "cipher_order");
    assert_eq!(of(order.expect("the order of suites"), "severity"), "OK");
    let is_bad = |finding: &&serde_json::Value| {
        let is_above = ["MEDIUM", "HIGH", "CRITICAL"].contains(&&*of(finding, "severity"));
        is_above && !OTHERS.iter().any(|other| of(finding, "id").starts_with(other))
    };
    let bad: Vec<_> = found.iter().filter(is_bad).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

/// The same facts where there is only `openssl`: what it can offer one by one, and what is taken.
const OFFERS: &str = r#"
try() { timeout 20 openssl s_client -connect "$1" -servername app.test "${@:2}" 2>&1 </dev/null; }
taken() { try "$@" | grep -q '^New, TLSv1\.[23], Cipher is [A-Z]'; }
weak=ALL:COMPLEMENTOFALL:@SECLEVEL=0
for version in tls1 tls1_1 tls1_2 tls1_3; do
    taken "$1" -$version -cipher $weak && echo "version $version"
done
for suite in $(openssl ciphers -s -tls1_2 $weak | tr : ' '); do
    case $suite in TLS_*) continue;; esac
    taken "$1" -tls1_2 -cipher "$suite:@SECLEVEL=0" && echo "suite $suite"
done
for suite in TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256 \
        TLS_AES_128_CCM_SHA256 TLS_AES_128_CCM_8_SHA256; do
    taken "$1" -tls1_3 -ciphersuites $suite && echo "suite $suite"
done
for group in X25519 P-256 P-384 P-521 X448 ffdhe2048; do
    taken "$1" -tls1_3 -groups $group && echo "group $group"
done
try "$1" -tls1_2 | grep -E '^(Compression|Peer signature type|Server public key|Secure Reneg)'
"#;

#[test]
fn openssl_is_taken_up_on_nothing_but_the_modern() {
    let (_origin, proxy, _root) = scanned();
    if tools::find("openssl").is_none() {
        return;
    }
    let place = proxy.https().to_string();
    let output = tools::run(Command::new("bash").args(["-c", OFFERS, "offers", &place]));
    let text = stdout(&output);
    let mut told: Vec<&str> = text.lines().collect();
    told.sort_unstable();
    let expected = [
        "Compression: NONE",
        "Peer signature type: ECDSA",
        "Secure Renegotiation IS supported",
        "Server public key is 256 bit",
        "group P-256",
        "group P-384",
        "group X25519",
        "suite ECDHE-ECDSA-AES128-GCM-SHA256",
        "suite ECDHE-ECDSA-AES256-GCM-SHA384",
        "suite ECDHE-ECDSA-CHACHA20-POLY1305",
        "suite TLS_AES_128_GCM_SHA256",
        "suite TLS_AES_256_GCM_SHA384",
        "suite TLS_CHACHA20_POLY1305_SHA256",
        "version tls1_2",
        "version tls1_3",
    ];
    assert_eq!(told, expected, "{}", stderr(&output));
}
