//! A node with an HTTP port, and a minimal client that sends exactly what a test says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;

use serde_json::Value;

use crate::processes::node::{MODELS, TIMEOUT, potluck};

pub use crate::processes::node::until;

/// A `potluck run` that serves HTTP on a free port. Dropping it kills the process.
pub struct Node {
    child: Child,
    addr: SocketAddr,
}

/// A response.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub text: String,
}

impl Response {
    fn parse(bytes: &[u8]) -> Response {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) =
            text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {text:?}"));
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or_else(|| panic!("no status in {head}"));
        let text = if head.to_lowercase().contains("transfer-encoding: chunked") {
            unchunked(body)
        } else {
            body.to_string()
        };
        Response { status, head: head.to_string(), text }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The data of server-sent events.
    pub fn events(&self) -> Vec<Value> {
        let data =
            self.text.split_terminator("\n\n").filter_map(|event| event.strip_prefix("data: "));
        data.map(|data| serde_json::from_str(data).unwrap_or_else(|_| data.into())).collect()
    }
}

/// Decodes a chunked body.
fn unchunked(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16)
            .unwrap_or_else(|_| panic!("{length:?} is not a length"));
        text += &rest[..length];
        body = &rest[length + 2..];
    }
    text
}

pub fn free_udp_port() -> u16 {
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port()
}

/// Reads until `text` has arrived.
pub fn read_until(stream: &mut TcpStream, text: &str) {
    let (mut all, mut buffer) = (String::new(), [0; 512]);
    while !all.contains(text) {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the stream ended with {all:?}");
        all += &String::from_utf8_lossy(&buffer[..count]);
    }
}

impl Node {
    /// Starts a node with more arguments, and waits until it says where it serves.
    pub fn start(arguments: &[&str]) -> Node {
        Node::start_with(&MODELS[0], arguments)
    }

    /// The same with this model.
    pub fn start_with(model: &Path, arguments: &[&str]) -> Node {
        let mut command = potluck();
        command
            .args(["run", "--json", "--slab", "32", "--http", "127.0.0.1:0", "--model"])
            .arg(model)
            .args(arguments);
        if !arguments.contains(&"--port") {
            command.args(["--port", &free_udp_port().to_string(), "--interface", "127.0.0.1"]);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let (mut addr, mut is_ready) = (None, false);
        while addr.is_none() || !is_ready {
            let line = lines.next().expect("the node exited before it was ready");
            let event: Value = serde_json::from_str(&line).unwrap();
            let text = event["text"].as_str().unwrap_or_default();
            if let Some((_, rest)) = text.split_once("page on http://") {
                addr = rest.trim_end_matches('/').parse().ok();
            }
            is_ready |= event["event"] == "ready";
        }
        thread::spawn(move || lines.for_each(drop));
        Node { child, addr: addr.unwrap() }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream
    }

    /// Sends a request with a body, and reads nothing.
    pub fn begin(&self, stream: &mut TcpStream, path: &str, body: &str) {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            self.addr,
            body.len()
        );
        stream.write_all((head + body).as_bytes()).unwrap();
    }

    pub fn post(&self, path: &str, body: &Value) -> Response {
        let mut stream = self.connect();
        self.begin(&mut stream, path, &body.to_string());
        Node::rest(stream)
    }

    pub fn get(&self, path: &str) -> Response {
        self.raw(&format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
            self.addr
        ))
    }

    /// Sends these bytes. If the node answers early, the rest is not sent.
    pub fn raw(&self, request: &str) -> Response {
        let mut stream = self.connect();
        let _ = stream.write_all(request.as_bytes());
        Node::rest(stream)
    }

    fn rest(mut stream: TcpStream) -> Response {
        let mut bytes = Vec::new();
        let mut buffer = [0; 4_096];
        // A node that refuses a request midway resets the connection after its answer.
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            bytes.extend_from_slice(&buffer[..count]);
        }
        Response::parse(&bytes)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
