// SPDX-License-Identifier: MIT OR Apache-2.0

//! `--serve`.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::Command,
    thread,
};

use serde_json::Value;

use super::{PATIENCE, Running, live, wait_until};
use crate::support::transcribe::{ONE, TWO, nemo};

/// Browsers at the same time.
const CLIENTS: usize = 200;

/// A process that captions its standard input.
struct Served {
    running: Running,
    address: String,
    token: Option<String>,
}

impl Served {
    fn start(arguments: &[&str]) -> Self {
        Self::of(Running::start(&[arguments, &["-"]].concat()))
    }

    /// The same where a process may open few files unless it asks for more.
    fn start_with_few_files(arguments: &[&str]) -> Self {
        let command = live(&[arguments, &["-"]].concat());
        let mut limited = Command::new("sh");
        limited.args(["-c", &format!("ulimit -Sn {}; exec \"$@\"", CLIENTS / 2), "sh"]);
        limited.arg(command.get_program()).args(command.get_args());
        limited.env_remove("NEMOSTT_MODEL").env("LC_ALL", "C");
        Self::of(Running::spawn(limited))
    }

    fn of(running: Running) -> Self {
        let line = running.wait_for("captions at http://");
        let url = line.split("http://").nth(1).unwrap();
        let (address, rest) = url.split_once('/').unwrap();
        Self {
            address: address.to_owned(),
            token: rest.strip_prefix("?token=").map(Into::into),
            running,
        }
    }

    /// The status and the rest of the response to a request with `headers`, which begin with the host.
    fn request(&self, path: &str, headers: &str) -> (u16, BufReader<TcpStream>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n").unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        (line.split(' ').nth(1).unwrap().parse().unwrap(), reader)
    }

    fn get(&self, path: &str) -> BufReader<TcpStream> {
        let (status, reader) = self.request(path, &format!("Host: {}\r\n", self.address));
        assert_eq!(status, 200);
        reader
    }

    /// The whole response to a request.
    fn text(&self, path: &str) -> String {
        let mut text = String::new();
        self.get(path).read_to_string(&mut text).unwrap();
        text
    }
}

/// The next event: its id, name and data.
fn event(reader: &mut BufReader<TcpStream>) -> (String, String, Value) {
    let mut value = |field: &str| {
        let mut line = String::new();
        while !line.starts_with(field) {
            line.clear();
            assert_ne!(reader.read_line(&mut line).unwrap(), 0, "no {field}");
        }
        line[field.len()..].trim_end().to_owned()
    };
    let (id, name) = (value("id: "), value("event: "));
    (id, name, serde_json::from_str(&value("data: ")).unwrap())
}

/// The next final, and its id.
fn next_final(reader: &mut BufReader<TcpStream>) -> (String, Value) {
    loop {
        let (id, name, data) = event(reader);
        if name == "caption" && data["final"] == true {
            return (id, data);
        }
    }
}

#[test]
fn many_clients_receive_captions_and_resume_after_a_restart() {
    let mut served = Served::start_with_few_files(&["--serve=127.0.0.1:0"]);
    let clients: Vec<_> = (0..CLIENTS).map(|_| served.get("/events")).collect();
    served.running.say(TWO);
    let finals: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                let read = move || {
                    let (_, name, hello) = event(&mut client);
                    assert_eq!((name.as_str(), &hello["title"]), ("hello", &"Live captions".into()));
                    let mut partials = 0;
                    loop {
                        let (id, name, data) = event(&mut client);
                        match name == "caption" && data["final"] == true {
                            true => return (id, data, partials),
                            false => partials += usize::from(name == "caption"),
                        }
                    }
                };
                thread::Builder::new()
                    .stack_size(256 * 1024)
                    .spawn_scoped(scope, read)
                    .unwrap()
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (id, caption, _) = &finals[0];
    assert_eq!(caption["text"], nemo(TWO));
    for (other_id, other, partials) in &finals {
        assert_eq!((other_id, other), (id, caption));
        assert!(*partials > 0);
    }

    let vtt = served.text("/captions.vtt");
    assert!(
        vtt.contains("\r\n\r\nWEBVTT\n\n00:00:0") && vtt.contains("zero one two"),
        "{vtt}"
    );
    let mut json = served.get("/captions.jsonl?history=1");
    let line = json
        .by_ref()
        .lines()
        .map(Result::unwrap)
        .find(|line| line.starts_with('{'))
        .unwrap();
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), *caption);
    // Nothing is sent twice.
    let mut resumed = served.get(&format!("/events?last={id}"));
    let names = [(); 2].map(|()| event(&mut resumed).1);
    assert_eq!(names, ["hello", "status"]);

    let address = served.address.clone();
    served.running.signal("-KILL");
    served.running.finish();
    let mut served = Served::start(&["--serve", &address]);
    served.running.say(ONE);
    let mut resumed = served.get(&format!("/events?last={id}"));
    let (_, _, hello) = event(&mut resumed);
    assert!(!id.starts_with(hello["session"].as_str().unwrap()), "{hello}");
    assert_eq!(next_final(&mut resumed).1["text"], nemo(ONE));

    // At the end, clients are told.
    served.running.signal("-INT");
    loop {
        let (_, name, data) = event(&mut resumed);
        if name == "status" && data["state"] == "ended" {
            break;
        }
    }
    assert_eq!(served.running.finish().status.code(), Some(0));
}

#[test]
fn the_page_needs_nothing_else() {
    let served = Served::start(&["--serve=127.0.0.1:0"]);
    for (path, content_type) in [
        ("/", "text/html"),
        ("/captions.css", "text/css"),
        ("/captions.js", "text/javascript"),
    ] {
        let text = served.text(path);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let head = head.to_ascii_lowercase();
        assert!(head.contains(&format!("content-type: {content_type}")), "{head}");
        assert!(head.contains("content-security-policy: default-src 'self'"), "{head}");
        assert!(
            head.contains("cache-control: no-store") && head.contains("nosniff"),
            "{head}"
        );
        assert!(!body.contains("http://") && !body.contains("https://"), "{path}");
    }
    assert!(served.text("/health").ends_with("\r\n\r\nok\n"));
    let local = format!("Host: {}\r\n", served.address);
    let status = |path: &str, headers: &str| served.request(path, headers).0;
    assert_eq!(status("/other", &local), 404);
    // Other origins, and names that were made to lead here.
    assert_eq!(
        status("/events", &format!("{local}Origin: http://evil.example\r\n")),
        403
    );
    assert_eq!(
        status("/events", &format!("{local}Origin: http://{}\r\n", served.address)),
        200
    );
    let (status, mut response) = served.request("/events", "Host: evil.example:8080\r\n");
    let mut text = String::new();
    response.read_to_string(&mut text).unwrap();
    assert!(status == 403 && text.contains("--serve-host evil.example"), "{text}");
}

#[test]
fn other_machines_need_the_token() {
    let served = Served::start(&["--serve=0.0.0.0:0", "--serve-host=captions.example"]);
    let token = served.token.clone().unwrap();
    assert_eq!(token.len(), 32);
    let host = "Host: captions.example\r\n";
    let status = |path: &str, headers: &str| served.request(path, headers).0;
    for path in ["/events", "/captions.jsonl", "/captions.vtt", "/events?token=0"] {
        assert_eq!(status(path, host), 401, "{path}");
    }
    assert_eq!(status(&format!("/events?token={token}"), host), 200);
    assert_eq!(
        status("/captions.vtt", &format!("{host}Authorization: Bearer {token}\r\n")),
        200
    );
    assert_eq!(
        status("/captions.vtt", &format!("{host}Authorization: Bearer {token}0\r\n")),
        401
    );
    // The page asks for it.
    assert_eq!([status("/", host), status("/health", host)], [200, 200]);
}

#[test]
fn a_microphone_is_recorded_until_ctrl_c() {
    let mut command = live(&["--serve=127.0.0.1:0", "mic"]);
    // The default microphone is a tone.
    command.env("GST_PLUGIN_FEATURE_RANK", "audiotestsrc:MAX");
    let served = Served::of(Running::spawn(command));
    // The session begins with the first sound.
    wait_until(|| event(&mut served.get("/events")).2["now"].as_u64() > Some(0));
    served.running.signal("-INT");
    assert!(served.running.finish().status.success());
}

#[test]
fn an_address_in_use_is_told() {
    let served = Served::start(&["--serve=127.0.0.1:0"]);
    let output = live(&["-", "--serve", &served.address]).output().unwrap();
    let complaint = crate::support::process::complaint(&output);
    assert!(
        complaint.contains(&served.address) && complaint.contains("in use"),
        "{complaint}"
    );
}
