// SPDX-License-Identifier: MIT OR Apache-2.0

//! What lies between the hub and here: redirects, proxies, certificates, nothing.

use std::{fs, net::TcpListener, path::Path, sync::Arc, time::Duration};

use rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};

use crate::{
    server::{Reply, start_proxy},
    setting::{GRAPH, REPOSITORY, Setting, assert_says, noise, site, written},
};

#[test]
fn the_token_stays_with_the_hub() {
    let setting = Setting::new(site(&noise(50_000)));
    written(
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
fn a_renamed_repository_is_followed() {
    let setting = Setting::new(site(&noise(50_000)).with(|request, reply| {
        if let Some(rest) = request.path.strip_prefix("/api/models/someone/old") {
            *reply = redirect(&format!("/api/models/someone/model{rest}"));
        } else if let Some(rest) = request.path.strip_prefix("/someone/old") {
            *reply = redirect(&format!("/someone/model{rest}"));
        }
    }));
    let output = setting.fetch(&["someone/old"]);
    assert_eq!(
        fs::read(Path::new(written(&output)).join(GRAPH)).unwrap(),
        noise(50_000)
    );

    let setting = Setting::new(site(b"").with(|_, reply| *reply = redirect("/round/and/round")));
    assert_says(&setting.fetch(&[REPOSITORY]), &["too many redirects"]);
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
fn without_a_network_what_is_there_serves_with_a_word() {
    let setting = Setting::new(site(&noise(50_000)));
    // Nobody listens on the port of a listener that is gone.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nowhere = format!("http://127.0.0.1:{port}");
    let fetch = || {
        setting
            .command(&["fetch", REPOSITORY])
            .env("HF_ENDPOINT", &nowhere)
            .output()
            .unwrap()
    };
    assert_says(&fetch(), &["127.0.0.1 cannot be reached", "HTTPS_PROXY", "HF_ENDPOINT"]);
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
fn the_proxy_is_used_but_for_what_is_excepted() {
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
    written(&fetch("HTTPS_PROXY", ""));
    let hub = setting.hub.address.to_string();
    let storage = setting.hub.storage_url.trim_start_matches("http://").to_owned();
    let asked = std::mem::take(&mut *targets.lock().unwrap());
    assert!(asked.contains(&hub) && asked.contains(&storage), "{asked:?}");
    written(&fetch("HTTPS_PROXY", "127.0.0.1"));
    assert_eq!(*targets.lock().unwrap(), [""; 0]);

    let nonsense = setting
        .command(&["fetch", REPOSITORY])
        .env("HTTPS_PROXY", "gopher://proxy")
        .output()
        .unwrap();
    assert_says(&nonsense, &["HTTPS_PROXY", "gopher://proxy"]);
}

#[test]
fn certificates_are_checked() {
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
        fs::read(Path::new(written(&output)).join(GRAPH)).unwrap(),
        noise(50_000)
    );
    // To whoever does not trust it, it is nobody.
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
    assert_says(
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
    assert_says(&output, &["no CA certificates", "ca-certificates"]);
}

#[test]
fn a_page_that_is_no_hub_is_recognized() {
    let setting = Setting::new(site(b"").with(|_, reply| {
        reply.status = 200;
        reply.body = b"<html>Please log in to the hotel's network</html>".to_vec();
    }));
    assert_says(
        &setting.fetch(&[REPOSITORY]),
        &["not a Hugging Face hub", "HF_ENDPOINT"],
    );
    assert_says(
        &setting.fetch(&["fastconformer-large-80ms"]),
        &["not a Hugging Face hub"],
    );
}
