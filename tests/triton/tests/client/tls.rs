// SPDX-License-Identifier: MIT OR Apache-2.0

//! TLS of the server itself.

use std::{env, fs, process::Command};

use nemostt_triton_tests::{Repository, Server};

use super::{model, root};

#[test]
fn words_come_over_tls_from_a_server_that_is_trusted() {
    let directory = tempfile::tempdir().unwrap();
    let files = ["certificate.pem", "key.pem", "other.pem"].map(|name| directory.path().join(name));
    let generate = || rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let certified = generate();
    fs::write(&files[0], certified.cert.pem()).unwrap();
    fs::write(&files[1], certified.signing_key.serialize_pem()).unwrap();
    fs::write(&files[2], generate().cert.pem()).unwrap();

    let repository = Repository::new();
    let name = repository.add_python_model(model().to_str().unwrap(), &["--lookahead", "80"]);
    let arguments = [
        "--grpc-use-ssl=true".to_owned(),
        format!("--grpc-server-cert={}", files[0].display()),
        format!("--grpc-server-key={}", files[1].display()),
    ];
    let server = Server::start(repository.path(), &arguments.each_ref().map(String::as_str));
    let transcribe = |arguments: &[&str], authority| {
        let mut command = Command::new(env::var_os("NEMOSTT").unwrap());
        command
            .args(["transcribe", "--lookahead", "80", "--model"])
            .arg(model());
        command.args(arguments).arg(root().join("assets/demo.wav"));
        command.env("SSL_CERT_FILE", authority).output().unwrap()
    };
    let remote = format!("--remote=tritons://{}/{name}", server.grpc());
    let remote = [remote.as_str(), "--remote-fallback=none", "--remote-timeout=60000"];
    let here = transcribe(&[], &files[0]);
    let there = transcribe(&remote, &files[0]);
    let errors = String::from_utf8_lossy(&there.stderr);
    assert!(there.status.success(), "{errors}");
    assert!(here.stdout.len() > 100 && here.stdout == there.stdout);
    assert!(server.counts(&name).requests > 100);

    let untrusted = transcribe(&remote, &files[2]);
    let errors = String::from_utf8_lossy(&untrusted.stderr);
    assert!(!untrusted.status.success(), "{errors}");
    assert!(errors.contains("TLS") && errors.contains("SSL_CERT_FILE"), "{errors}");
}
