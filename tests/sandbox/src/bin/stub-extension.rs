//! A minimal extension: registers and calls `/next` until SHUTDOWN.
//!
//! `bench` measures it as the baseline for every other extension. `STUB_MODE` makes it misbehave: `ignore-shutdown`,
//! `crash-on-invoke`, `never-next` (after the first INVOKE), `exit-early` (before registering), `never-register`.

use std::env;
use std::io;
use std::path::Path;

use plain_http::{Connection, variable};

mod plain_http;

fn main() -> io::Result<()> {
    let mode = variable("STUB_MODE").unwrap_or_default();
    match mode.as_str() {
        "exit-early" => return Err(io::Error::other("STUB_MODE")),
        "never-register" => wait_for_sigkill(),
        _ => {}
    }
    // Platform: the name must be that of the executable.
    let executable = env::args().next().unwrap_or_default();
    let name = Path::new(&executable).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut api = Connection::open(&variable("AWS_LAMBDA_RUNTIME_API")?)?;
    let registered = api.send(
        "POST /2020-01-01/extension/register",
        &[("lambda-extension-name", name)],
        r#"{"events":["INVOKE","SHUTDOWN"]}"#,
    )?;
    let id = registered.header("lambda-extension-identifier")?.to_owned();
    say(name, "registered");
    loop {
        let event =
            api.send("GET /2020-01-01/extension/event/next", &[("lambda-extension-identifier", &id)], "")?;
        if event.status != 200 {
            return Err(io::Error::other(event.body));
        }
        let shutdown = event.body.contains(r#""SHUTDOWN""#);
        say(name, if shutdown { "SHUTDOWN" } else { "INVOKE" });
        match (mode.as_str(), shutdown) {
            ("ignore-shutdown", true) | ("never-next", false) => wait_for_sigkill(),
            ("crash-on-invoke", false) => return Err(io::Error::other("STUB_MODE")),
            (_, true) => return Ok(()),
            (_, false) => {}
        }
    }
}

#[expect(clippy::print_stdout, reason = "the tests of the sandbox read its output")]
fn say(name: &str, what: &str) {
    println!("{name}: {what}");
}

fn wait_for_sigkill() -> ! {
    loop {
        std::thread::park();
    }
}
