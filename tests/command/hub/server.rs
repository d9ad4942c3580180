// SPDX-License-Identifier: MIT OR Apache-2.0

//! A hub on loopback: responds like huggingface.co, and fails on demand.
//!
//! As there, two listeners share the files: the hub, and the storage to which it redirects for large files.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sha1::Sha1;
use sha2::{Digest, Sha256};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A request of a client.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    /// Whether it went to the storage, not to the hub.
    pub is_storage: bool,
    /// Number of earlier requests with this method and path.
    pub before: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Whether it is a GET of the file `name`, from the hub or the storage.
    pub fn is_for_bytes_of(&self, name: &str) -> bool {
        self.method == "GET" && self.path.ends_with(&format!("/{name}")) && !self.path.starts_with("/api/")
    }
}

/// The reply to a request.
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Bytes of the body after which the connection is closed.
    pub cut: Option<usize>,
    /// How long to send nothing after `cut` bytes.
    pub stall: Duration,
}

impl Reply {
    fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            cut: None,
            stall: Duration::ZERO,
        }
    }

    pub fn header(&mut self, name: &str, value: impl ToString) {
        self.headers.push((name.into(), value.to_string()));
    }

    pub fn without(&mut self, name: &str) {
        self.headers.retain(|(header, _)| !header.eq_ignore_ascii_case(name));
    }

    /// Makes it an error in the form of the hub.
    pub fn fail(&mut self, status: u16, code: &str) {
        *self = Self::new(status);
        self.header("X-Error-Code", code);
        self.body = b"<html>no</html>".to_vec();
    }
}

/// Changes a reply before it is sent.
pub type GraphError = Box<dyn Fn(&Request, &mut Reply) + Send + Sync>;

pub struct Site {
    /// By `OWNER/REPO`, then by path.
    pub repositories: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// Files of at least this many bytes are in the storage.
    pub large: usize,
    pub fault: GraphError,
}

impl Site {
    pub fn new(repository: &str, files: &[(&str, Vec<u8>)]) -> Self {
        let files = files
            .iter()
            .map(|(path, bytes)| ((*path).to_owned(), bytes.clone()))
            .collect();
        Self {
            repositories: BTreeMap::from([(repository.to_owned(), files)]),
            large: 10_000,
            fault: Box::new(|_, _| {}),
        }
    }

    pub fn with(mut self, fault: impl Fn(&Request, &mut Reply) + Send + Sync + 'static) -> Self {
        self.fault = Box::new(fault);
        self
    }

    pub fn start(self) -> Hub {
        self.serve(None)
    }

    pub fn start_with_tls(self, config: ServerConfig) -> Hub {
        self.serve(Some(Arc::new(config)))
    }

    fn serve(self, tls: Option<Arc<ServerConfig>>) -> Hub {
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (hub, storage) = (bind(), bind());
        let scheme = if tls.is_some() { "https" } else { "http" };
        let address = hub.local_addr().unwrap();
        let storage_url = format!("{scheme}://{}", storage.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let site = Arc::new(self);
        for (listener, is_storage) in [(hub, false), (storage, true)] {
            let (site, requests, tls) = (site.clone(), requests.clone(), tls.clone());
            let storage_url = storage_url.clone();
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let (site, requests, tls) = (site.clone(), requests.clone(), tls.clone());
                    let storage_url = storage_url.clone();
                    thread::spawn(move || {
                        let stream = stream.unwrap();
                        let answer = |stream: &mut dyn Connection| {
                            // The client may have been killed.
                            let _ = site.answer(stream, &requests, is_storage, &storage_url);
                        };
                        match tls {
                            None => answer(&mut { stream }),
                            Some(config) => {
                                let connection = ServerConnection::new(config).unwrap();
                                answer(&mut StreamOwned::new(connection, stream));
                            }
                        }
                    });
                }
            });
        }
        Hub {
            url: format!("{scheme}://{address}"),
            address,
            storage_url,
            requests,
        }
    }

    fn answer(
        &self,
        stream: &mut dyn Connection,
        requests: &Mutex<Vec<Request>>,
        is_storage: bool,
        storage_url: &str,
    ) -> std::io::Result<()> {
        let Some((method, path, headers)) = read_head(stream)? else {
            return Ok(());
        };
        let request = {
            let mut requests = requests.lock().unwrap();
            let same =
                |other: &&Request| (&other.method, &other.path, other.is_storage) == (&method, &path, is_storage);
            let before = requests.iter().filter(same).count();
            let request = Request {
                method,
                path,
                headers,
                is_storage,
                before,
            };
            requests.push(request.clone());
            request
        };
        let mut reply = self.reply(&request, storage_url);
        (self.fault)(&request, &mut reply);
        send(stream, &request, &reply)
    }

    fn reply(&self, request: &Request, storage_url: &str) -> Reply {
        let mut reply = Reply::new(404);
        reply.header("X-Error-Code", "RepoNotFound");
        if let Some(rest) = request.path.strip_prefix("/api/models/") {
            let Some((repository, revision)) = rest.split_once("/revision/") else {
                return reply;
            };
            return match self.repositories.get(repository) {
                None => reply,
                Some(_) if !is_revision(revision) => missing("RevisionNotFound"),
                Some(files) => {
                    let siblings: Vec<_> = files
                        .keys()
                        .map(|path| serde_json::json!({"rfilename": path}))
                        .collect();
                    let mut reply = Reply::new(200);
                    reply.header("Content-Type", "application/json");
                    let listing = serde_json::json!({"id": repository, "sha": COMMIT, "siblings": siblings});
                    reply.body = serde_json::to_vec(&listing).unwrap();
                    reply
                }
            };
        }
        let mut parts = request.path.trim_start_matches('/').splitn(3, '/');
        let (owner, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let (Some(files), Some(rest)) = (self.repositories.get(&format!("{owner}/{name}")), parts.next()) else {
            return reply;
        };
        let Some((revision, path)) = rest.strip_prefix("resolve/").and_then(|rest| rest.split_once('/')) else {
            return reply;
        };
        if !is_revision(revision) {
            return missing("RevisionNotFound");
        }
        let Some(bytes) = files.get(path) else {
            return missing("EntryNotFound");
        };
        let is_large = bytes.len() >= self.large;
        if is_large && !request.is_storage {
            let mut reply = Reply::new(302);
            reply.header("X-Repo-Commit", COMMIT);
            reply.header("X-Linked-Etag", format!("\"{}\"", sha256(bytes)));
            reply.header("X-Linked-Size", bytes.len());
            reply.header("ETag", "\"what-the-storage-calls-it\"");
            reply.header("Location", format!("{storage_url}{}", request.path));
            reply.body = b"Found. Redirecting".to_vec();
            return reply;
        }
        let mut reply = part(request.header("range"), bytes);
        reply.header("X-Repo-Commit", COMMIT);
        reply.header(
            "ETag",
            format!("\"{}\"", if is_large { "storage".into() } else { git_blob(bytes) }),
        );
        reply
    }
}

fn missing(code: &str) -> Reply {
    let mut reply = Reply::new(404);
    reply.header("X-Error-Code", code);
    reply
}

fn is_revision(revision: &str) -> bool {
    revision == "main" || revision == COMMIT || revision == "refs%2Fpr%2F1"
}

/// The requested range of a file.
fn part(range: Option<&str>, bytes: &[u8]) -> Reply {
    let start = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    match start {
        None => {
            let mut reply = Reply::new(200);
            reply.body = bytes.to_vec();
            reply
        }
        Some(start) if start >= bytes.len() => {
            let mut reply = Reply::new(416);
            reply.header("Content-Range", format!("bytes */{}", bytes.len()));
            reply
        }
        Some(start) => {
            let mut reply = Reply::new(206);
            reply.header(
                "Content-Range",
                format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len()),
            );
            reply.body = bytes[start..].to_vec();
            reply
        }
    }
}

/// A running server. Its threads end with the test.
pub struct Hub {
    pub url: String,
    pub address: SocketAddr,
    pub storage_url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Hub {
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Requested ranges of a file, one for each request.
    pub fn ranges(&self, name: &str) -> Vec<Option<String>> {
        let requests = self.requests();
        let bytes = requests
            .iter()
            .filter(|request| request.is_for_bytes_of(name) && request.is_storage);
        bytes
            .map(|request| request.header("range").map(str::to_owned))
            .collect()
    }
}

/// A tunneling proxy on loopback; returns its address and the targets of CONNECT requests.
pub fn start_proxy() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let targets = Arc::new(Mutex::new(Vec::new()));
    let connected = targets.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let connected = connected.clone();
            thread::spawn(move || {
                let mut client = stream.unwrap();
                let (method, target, _) = read_head(&mut client).unwrap().unwrap();
                assert_eq!(method, "CONNECT");
                connected.lock().unwrap().push(target.clone());
                let mut server = TcpStream::connect(&target).unwrap();
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
                let (mut up, mut down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || std::io::copy(&mut up, &mut server));
                let _ = std::io::copy(&mut down, &mut client);
                let _ = client.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    (address, targets)
}

trait Connection: Read + Write {}
impl<T: Read + Write> Connection for T {}

type Head = (String, String, BTreeMap<String, String>);

/// Reads byte by byte, so that nothing after the head is consumed.
fn read_head(stream: &mut dyn Connection) -> std::io::Result<Option<Head>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    let mut lines = BufReader::new(&head[..]).lines().map(Result::unwrap);
    let first = lines.next().unwrap();
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
    let header = |line: String| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_lowercase(), value.trim().to_owned()))
    };
    Ok(Some((method, path, lines.filter_map(header).collect())))
}

fn send(stream: &mut dyn Connection, request: &Request, reply: &Reply) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Because\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", reply.body.len());
    stream.write_all(head.as_bytes())?;
    if request.method != "HEAD" {
        stream.write_all(&reply.body[..reply.cut.unwrap_or(reply.body.len()).min(reply.body.len())])?;
    }
    stream.flush()?;
    thread::sleep(reply.stall);
    Ok(())
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub fn git_blob(bytes: &[u8]) -> String {
    hex(&Sha1::new()
        .chain_update(format!("blob {}\0", bytes.len()))
        .chain_update(bytes)
        .finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
