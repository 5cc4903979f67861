//! The least that an extension can be: registers, and calls `/next` until SHUTDOWN.
//!
//! What an environment costs with it is the floor under every other extension. `FLOOR_MODE` makes it misbehave:
//! `ignore-shutdown`, `crash-on-invoke`, `never-next` (after the first INVOKE), `exit-early` (before registering),
//! `never-register`.

use std::io;

use plain_http::{Connection, variable};

mod plain_http;

const NAME: &str = "floor-extension";

fn main() -> io::Result<()> {
    let mode = variable("FLOOR_MODE").unwrap_or_default();
    match mode.as_str() {
        "exit-early" => return Err(io::Error::other("as told to")),
        "never-register" => wait_for_the_kill(),
        _ => {}
    }
    let mut api = Connection::open(&variable("AWS_LAMBDA_RUNTIME_API")?)?;
    let registered = api.send(
        "POST /2020-01-01/extension/register",
        &[("lambda-extension-name", NAME)],
        r#"{"events":["INVOKE","SHUTDOWN"]}"#,
    )?;
    let id = registered.header("lambda-extension-identifier")?.to_owned();
    say("registered");
    loop {
        let event =
            api.send("GET /2020-01-01/extension/event/next", &[("lambda-extension-identifier", &id)], "")?;
        if event.status != 200 {
            return Err(io::Error::other(event.body));
        }
        let shutdown = event.body.contains(r#""SHUTDOWN""#);
        say(if shutdown { "SHUTDOWN" } else { "INVOKE" });
        match (mode.as_str(), shutdown) {
            ("ignore-shutdown", true) | ("never-next", false) => wait_for_the_kill(),
            ("crash-on-invoke", false) => return Err(io::Error::other("as told to")),
            (_, true) => return Ok(()),
            (_, false) => {}
        }
    }
}

#[expect(clippy::print_stdout, reason = "its output is what the sandbox's tests look at")]
fn say(what: &str) {
    println!("{NAME}: {what}");
}

fn wait_for_the_kill() -> ! {
    loop {
        std::thread::park();
    }
}
