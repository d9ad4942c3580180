// SPDX-License-Identifier: MIT OR Apache-2.0

//! An encoder on a server behind TLS.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    process::Output,
    sync::Arc,
    thread,
};

use nemostt::{
    Options,
    fuzzing::{TWIN, mock::Server, serve_twin},
};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::support::{
    process::nemostt,
    transcribe::{self, CLIP, clip_path},
};

/// Accepts connections with this certificate for 127.0.0.1, and forwards them to `server`, until the process ends.
fn with_tls(server: String, certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> SocketAddr {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    // Clients of HTTP/2 insist on it.
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async move {
        let listener = TcpListener::from_std(listener).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, server) = (acceptor.clone(), server.clone());
            tokio::spawn(async move {
                // Fails if the client rejects the certificate.
                if let Ok(mut inside) = acceptor.accept(stream).await {
                    let mut outside = TcpStream::connect(server).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut inside, &mut outside).await;
                }
            });
        }
    };
    thread::spawn(|| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap().block_on(serve)
    });
    address
}

/// Serves the encoder of the built-in model.
fn serve() -> Server {
    let options = Options {
        threads: 1,
        ..Default::default()
    };
    serve_twin(None, &options).unwrap()
}

#[test]
fn check_says_which_servers_can_be_used() {
    let (server, mut gone) = (serve(), serve());
    gone.kill();
    let remote = format!("--remote=triton://{}/{TWIN},{}", server.address(), gone.address());
    let check = |more: &[&str]| {
        let mut command = nemostt(&[
            "check",
            "--threads=1",
            "--remote-header=x-a=b",
            "--remote-header=x-c=d",
            &remote,
        ]);
        command.args(more).output().unwrap()
    };
    let output = check(&[]);
    let text = std::str::from_utf8(&output.stdout).unwrap();
    assert!(output.status.success(), "{output:?}");
    for part in [
        format!(
            "{}, {TWIN} (version 1): ready, and the encoder of this model",
            server.address()
        ),
        format!(
            "{}, {TWIN}: cannot be used: Triton at {}",
            gone.address(),
            gone.address()
        ),
    ] {
        assert!(text.contains(&part), "\"{part}\" is missing:\n{text}");
    }
    let headers = server.last_headers();
    assert_eq!([&headers["x-a"], &headers["x-c"]], ["b", "d"]);

    let report: serde_json::Value = serde_json::from_slice(&check(&["--json"]).stdout).unwrap();
    assert_eq!(report["servers"][0]["usable"], true);
    assert_eq!(report["servers"][0]["versions"][0], "1");
    assert_eq!(report["servers"][1]["usable"], false);
    assert!(report["servers"][1]["reason"].is_string());
}

#[test]
fn certificates_of_servers_are_verified() {
    let server = serve();
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let address = with_tls(server.address(), certified.cert.der().clone(), key);
    let directory = tempfile::tempdir().unwrap();
    let trusted = directory.path().join("authority.pem");
    fs::write(&trusted, certified.cert.pem()).unwrap();
    let other = directory.path().join("other.pem");
    let unrelated = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    fs::write(&other, unrelated.cert.pem()).unwrap();
    let run = |scheme: &str, host: SocketAddr, authorities: &std::path::Path| {
        let remote = format!("--remote={scheme}://{host}/{TWIN}");
        transcribe::command(&[&remote, "--remote-fallback=none", "--remote-timeout=60000"])
            .arg(clip_path(CLIP))
            .env("SSL_CERT_FILE", authorities)
            .output()
            .unwrap()
    };
    let fails_with = |output: Output, expected: &[&str]| {
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && errors.lines().count() == 1, "{errors}");
        expected
            .iter()
            .for_each(|text| assert!(errors.contains(text), "{text}: {errors}"));
    };

    let output = run("tritons", address, &trusted);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), transcribe::line(CLIP));
    assert!(!server.received().is_empty());

    let failed = "the TLS connection to Triton at 127.0.0.1";
    fails_with(
        run("tritons", address, &other),
        &[failed, "invalid peer certificate", "SSL_CERT_FILE"],
    );
    let plain: SocketAddr = server.address().parse().unwrap();
    fails_with(run("tritons", plain, &trusted), &[failed]);
}
