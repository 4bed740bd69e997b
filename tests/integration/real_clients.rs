//! Programs that people use, through the proxy.

use tokio::process::Command;

use crate::harness::proxy::HOST;
use crate::harness::socket::echo_at;
use crate::harness::tools::{self, stderr, stdout};
use crate::harness::{Body, Origin, Proxy, Response, pki};

/// A proxy in front of an app, and the root of its certificate in a file.
fn proxied() -> (Origin, Proxy, String) {
    let origin = Origin::start();
    origin.route("/", "hello");
    origin.handle("/large", |_| async { Response::new(Body::of_size(10_000_000)) });
    origin.handle("/size", |request| async {
        let body = crate::harness::body::measure(request.into_body()).await;
        Response::new(Body::from(body.size.to_string()))
    });
    echo_at(&origin, "/ws");
    let proxy = Proxy::to(&origin).start();
    let root = proxy.path("root.pem");
    std::fs::write(&root, pki::root_pem()).unwrap();
    (origin, proxy, root.to_str().unwrap().to_owned())
}

/// `curl` told where `app.test` is and whom to trust.
fn curl(proxy: &Proxy, root: &str) -> Option<Command> {
    let mut curl = tools::find("curl")?;
    let (http, https) = (proxy.http(), proxy.https());
    curl.args(["-sS", "--cacert", root, "--max-time", "60"]);
    curl.args(["--connect-to", &format!("{HOST}:80:{http}")]);
    curl.args(["--connect-to", &format!("{HOST}:443:{https}")]);
    curl.args(["--connect-to", &format!("{HOST}:{}:{https}", https.port())]);
    Some(curl)
}

#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let output = tools::run(command);
    assert!(output.status.success(), "{command:?}: {}{}", stderr(&output), stdout(&output));
    stdout(&output)
}

#[test]
fn curl_gets_over_either_version() {
    let (_origin, proxy, root) = proxied();
    for (option, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let Some(mut curl) = curl(&proxy, &root) else { return };
        curl.args([option, "-w", " %{http_version} %{ssl_verify_result}", "https://app.test/"]);
        assert_eq!(succeeds(&mut curl), format!("hello {version} 0"));
    }
}

#[test]
fn curl_follows_the_redirect() {
    let (_origin, proxy, root) = proxied();
    let Some(mut curl) = curl(&proxy, &root) else { return };
    curl.args(["-L", "-w", " %{num_redirects}", "http://app.test/"]);
    assert_eq!(succeeds(&mut curl), "hello 1");
}

#[test]
fn curl_uploads_and_downloads() {
    let (_origin, proxy, root) = proxied();
    let file = proxy.path("upload");
    std::fs::write(&file, vec![7; 5_000_000]).unwrap();
    let upload = format!("@{}", file.display());
    for version in ["--http1.1", "--http2"] {
        let Some(mut up) = curl(&proxy, &root) else { return };
        up.args([version, "--data-binary", &upload, "https://app.test/size"]);
        assert_eq!(succeeds(&mut up), "5000000");
        let Some(mut chunked) = curl(&proxy, &root) else { return };
        chunked.args([version, "-H", "Transfer-Encoding: chunked", "--data-binary", &upload]);
        assert_eq!(succeeds(chunked.arg("https://app.test/size")), "5000000");
        let Some(mut down) = curl(&proxy, &root) else { return };
        down.args([version, "-o", "/dev/null", "-w", "%{size_download}", "https://app.test/large"]);
        assert_eq!(succeeds(&mut down), "10000000");
    }
}

#[test]
fn curl_repeats_on_one_connection() {
    let (origin, proxy, root) = proxied();
    let Some(mut curl) = curl(&proxy, &root) else { return };
    curl.args(["-w", "%{num_connects}", "https://app.test/", "https://app.test/"]);
    assert_eq!(succeeds(&mut curl), "hello1hello0");
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn h2load_finds_no_error() {
    let (_origin, proxy, _root) = proxied();
    let https = proxy.https();
    for version in ["h2", "http/1.1"] {
        let Some(mut h2load) = tools::find("h2load") else { return };
        let streams = if version == "h2" { "10" } else { "1" };
        h2load.args(["-n", "3000", "-c", "8", "-m", streams, "--npn-list", version]);
        h2load.args(["--connect-to", &https.to_string()]);
        h2load.arg(format!("https://{HOST}:{}/", https.port()));
        let text = succeeds(&mut h2load);
        assert!(text.contains("3000 succeeded, 0 failed, 0 errored"), "{version}: {text}");
        assert!(text.contains("3000 2xx"), "{version}: {text}");
    }
}

#[test]
fn openssl_is_content_with_the_chain() {
    let (_origin, proxy, root) = proxied();
    let https = proxy.https().to_string();
    for version in ["-tls1_2", "-tls1_3"] {
        let Some(mut openssl) = tools::find("openssl") else { return };
        openssl.args(["s_client", "-connect", &https, "-servername", HOST, version]);
        openssl.args(["-alpn", "h2,http/1.1", "-CAfile", &root, "-verify_return_error"]);
        let text = succeeds(&mut openssl);
        assert!(text.contains("Verify return code: 0 (ok)"), "{text}");
        assert!(text.contains("ALPN protocol: h2"), "{text}");
    }
}

#[test]
fn openssl_is_refused_for_a_strange_name() {
    let (_origin, proxy, _root) = proxied();
    let Some(mut openssl) = tools::find("openssl") else { return };
    let https = proxy.https().to_string();
    let output =
        tools::run(openssl.args(["s_client", "-connect", &https, "-servername", "other.test"]));
    assert!(stderr(&output).contains("unrecognized name"), "{}", stderr(&output));
}

#[test]
fn openssl_shakes_hands_with_mlkem_where_it_can() {
    let (_origin, proxy, root) = proxied();
    let Some(mut openssl) = tools::find("openssl") else { return };
    let groups = tools::run(openssl.args(["list", "-kem-algorithms"]));
    if !stdout(&groups).contains("X25519MLKEM768") {
        return tools::skip("this openssl has no X25519MLKEM768");
    }
    let mut openssl = Command::new("openssl");
    let https = proxy.https().to_string();
    openssl.args(["s_client", "-connect", &https, "-servername", HOST, "-CAfile", &root]);
    let text = succeeds(openssl.args(["-groups", "X25519MLKEM768"]));
    assert!(text.contains("X25519MLKEM768"), "{text}");
}

#[test]
fn pythons_websockets_talk_through_the_proxy() {
    let (_origin, proxy, root) = proxied();
    let Some(mut python) = tools::python_with("websockets") else { return };
    let script = format!(
        "import asyncio, ssl, websockets\n\
         async def main():\n\
         \x20   trust = ssl.create_default_context(cafile={root:?})\n\
         \x20   async with websockets.connect('wss://{HOST}/ws', ssl=trust,\n\
         \x20           host='127.0.0.1', port={port}, server_hostname='{HOST}') as socket:\n\
         \x20       for text in ['one', 'two', 'x' * 100000]:\n\
         \x20           await socket.send(text)\n\
         \x20           assert await socket.recv() == text\n\
         \x20       await (await socket.ping())\n\
         \x20   print('done')\n\
         asyncio.run(main())\n",
        port = proxy.https().port(),
    );
    assert_eq!(succeeds(python.args(["-c", &script])), "done\n");
}
