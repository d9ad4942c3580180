// SPDX-License-Identifier: MIT OR Apache-2.0

//! The network: redirects, proxies, certificates, no connection.

use std::{fs, net::TcpListener, path::Path, sync::Arc, time::Duration};

use rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};

use super::{
    server::{Reply, start_proxy},
    setting::{GRAPH, REPOSITORY, Setting, assert_error_contains, noise, site, stdout_of},
};

#[test]
fn token_is_sent_to_the_hub_only() {
    let setting = Setting::new(site(&noise(50_000)));
    stdout_of(
        &setting
            .command(&["fetch", REPOSITORY])
            .env("HF_TOKEN", "hf_secret")
            .output()
            .unwrap(),
    );
    let requests = setting.hub.requests();
    assert!(requests.iter().any(|request| request.is_storage));
    for request in requests {
        let token = request.header("authorization");
        assert_eq!(
            token,
            (!request.is_storage).then_some("Bearer hf_secret"),
            "{request:?}"
        );
    }
}

#[test]
fn renamed_repository_is_followed() {
    let setting = Setting::new(site(&noise(50_000)).with(|request, reply| {
        if let Some(rest) = request.path.strip_prefix("/api/models/someone/old") {
            *reply = redirect(&format!("/api/models/someone/model{rest}"));
        } else if let Some(rest) = request.path.strip_prefix("/someone/old") {
            *reply = redirect(&format!("/someone/model{rest}"));
        }
    }));
    let output = setting.fetch(&["someone/old"]);
    assert_eq!(
        fs::read(Path::new(stdout_of(&output)).join(GRAPH)).unwrap(),
        noise(50_000)
    );

    let setting = Setting::new(site(b"").with(|_, reply| *reply = redirect("/round/and/round")));
    assert_error_contains(&setting.fetch(&[REPOSITORY]), &["too many redirects"]);
}

fn redirect(location: &str) -> Reply {
    let mut reply = Reply {
        status: 307,
        headers: Vec::new(),
        body: Vec::new(),
        cut: None,
        stall: Duration::ZERO,
    };
    reply.header("Location", location);
    reply
}

#[test]
fn cached_model_is_used_without_a_network() {
    let setting = Setting::new(site(&noise(50_000)));
    // Nothing listens on the port of a closed listener.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nowhere = format!("http://127.0.0.1:{port}");
    let fetch = || {
        setting
            .command(&["fetch", REPOSITORY])
            .env("HF_ENDPOINT", &nowhere)
            .output()
            .unwrap()
    };
    assert_error_contains(&fetch(), &["127.0.0.1 cannot be reached", "HTTPS_PROXY", "HF_ENDPOINT"]);
    let online = setting.fetch(&[REPOSITORY]);
    let output = fetch();
    assert_eq!(output.stdout, online.stdout);
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("using the cached model")
    );
}

#[test]
fn proxy_is_used_except_for_no_proxy() {
    let (proxy, targets) = start_proxy();
    let setting = Setting::new(site(&noise(50_000)));
    let fetch = |name: &str, no_proxy: &str| {
        let mut command = setting.command(&["fetch", REPOSITORY]);
        command
            .env(name, format!("http://{proxy}"))
            .env("NO_PROXY", no_proxy)
            .output()
            .unwrap()
    };
    stdout_of(&fetch("HTTPS_PROXY", ""));
    let hub = setting.hub.address.to_string();
    let storage = setting.hub.storage_url.trim_start_matches("http://").to_owned();
    let connected = std::mem::take(&mut *targets.lock().unwrap());
    assert!(
        connected.contains(&hub) && connected.contains(&storage),
        "{connected:?}"
    );
    stdout_of(&fetch("HTTPS_PROXY", "127.0.0.1"));
    assert_eq!(*targets.lock().unwrap(), [""; 0]);

    let nonsense = setting
        .command(&["fetch", REPOSITORY])
        .env("HTTPS_PROXY", "gopher://proxy")
        .output()
        .unwrap();
    assert_error_contains(&nonsense, &["HTTPS_PROXY", "gopher://proxy"]);
}

#[test]
fn certificates_are_verified() {
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("authority.pem");
    fs::write(&file, certified.cert.pem()).unwrap();
    let setting = Setting {
        home,
        hub: site(&noise(50_000)).start_with_tls(config),
    };
    let output = setting
        .command(&["fetch", REPOSITORY])
        .env("SSL_CERT_FILE", &file)
        .output()
        .unwrap();
    assert_eq!(
        fs::read(Path::new(stdout_of(&output)).join(GRAPH)).unwrap(),
        noise(50_000)
    );
    // Without trust in its certificate, the hub is rejected.
    fs::write(
        &file,
        rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])
            .unwrap()
            .cert
            .pem(),
    )
    .unwrap();
    let output = setting
        .command(&["fetch", REPOSITORY])
        .env("SSL_CERT_FILE", &file)
        .output()
        .unwrap();
    assert_error_contains(
        &output,
        &[
            "the TLS connection to 127.0.0.1 failed",
            "CA certificate",
            "SSL_CERT_FILE",
        ],
    );
    let output = setting
        .command(&["fetch", REPOSITORY])
        .env("SSL_CERT_FILE", "/nowhere")
        .output()
        .unwrap();
    assert_error_contains(&output, &["no CA certificates", "ca-certificates"]);
}

#[test]
fn non_hub_response_is_recognized() {
    let setting = Setting::new(site(b"").with(|_, reply| {
        reply.status = 200;
        reply.body = b"<html>Please log in to the hotel's network</html>".to_vec();
    }));
    assert_error_contains(
        &setting.fetch(&[REPOSITORY]),
        &["not a Hugging Face hub", "HF_ENDPOINT"],
    );
    assert_error_contains(
        &setting.fetch(&["fastconformer-large-80ms"]),
        &["not a Hugging Face hub"],
    );
}
