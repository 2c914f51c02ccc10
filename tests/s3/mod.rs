//! A real S3 server for tests: `server.py` beside this file.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each suite uses a part of it, in tests")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The bucket that is there.
pub const BUCKET: &str = "swath";

pub struct Server {
    child: Child,
    endpoint: String,
}

impl Server {
    pub fn start() -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("s3-server");
        let python = folder.join("bin/python");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/s3");
        assert!(
            python.exists(),
            "there is no S3 server to test with: run tests/run, or\n    python3 -m venv {0} && {0}/bin/pip install -r {1}",
            folder.display(),
            source.join("requirements.txt").display(),
        );
        // It ends with its standard input, so also if this process is killed.
        let mut child = Command::new(&python)
            .arg(source.join("server.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut endpoint = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut endpoint).unwrap();
        let endpoint = endpoint.trim().to_string();
        assert!(endpoint.starts_with("http://127.0.0.1:"), "the S3 server did not start: {endpoint:?}");
        Self { child, endpoint }
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What a program needs in its environment to use the server.
    pub fn environment(&self) -> [(&'static str, &str); 4] {
        [
            ("AWS_ENDPOINT_URL", &self.endpoint),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_REGION", "us-east-1"),
        ]
    }

    /// The same as options.
    pub fn options(&self) -> [(&'static str, &str); 4] {
        [
            ("endpoint", &self.endpoint),
            ("access_key_id", "test"),
            ("secret_access_key", "test"),
            ("region", "us-east-1"),
        ]
    }

    /// Asks the server without the library.
    pub fn get(&self, path: &str) -> String {
        let host = self.endpoint.trim_start_matches("http://");
        let mut stream = TcpStream::connect(host).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
