//! A backend that sends 1xx responses without end.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

/// A 1xx response of HTTP/1.1.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The error of such a backend.
pub const ERROR: &str = "the backend sent 1 MiB without a response";

/// Starts a backend that answers each connection with `greeting`, then with `storm` again and again. Returns its endpoint.
pub fn storming(greeting: &'static [u8], storm: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            thread::spawn(move || {
                // The request has begun.
                let mut head = [0; 64];
                let _ = stream.read(&mut head);
                let storm = storm.repeat(10_000);
                if stream.write_all(greeting).is_ok() {
                    while stream.write_all(&storm).is_ok() {}
                }
            });
        }
    });
    endpoint
}
