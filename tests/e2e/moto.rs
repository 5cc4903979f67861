//! moto, a server that speaks AWS's protocols.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/e2e/bin/moto_server");

/// A running server, until dropped.
pub(crate) struct Moto {
    process: Child,
    pub(crate) url: String,
}

impl Moto {
    pub(crate) fn start() -> Self {
        let mut process = Command::new(SERVER)
            .args(["-H", "127.0.0.1", "-p", "0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{SERVER}: {error}; `make e2e` installs it"));
        let mut lines = BufReader::new(process.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
        let url = lines.find_map(|line| line.split_once("Running on ").map(|(_, url)| url.trim().to_owned()));
        let url = url.expect("moto says where it listens");
        // It would come to a stop at a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, url }
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // It fails only if moto has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
