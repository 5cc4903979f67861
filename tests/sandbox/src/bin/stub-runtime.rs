//! A minimal function in its own process: takes an invocation, writes two lines and echoes the payload. `STUB_MODE` makes it
//! misbehave: `hang` (never answers), `exit` (in the middle of an invocation).

use std::io;

use plain_http::{Connection, variable};

mod plain_http;

fn main() -> io::Result<()> {
    let mode = variable("STUB_MODE").unwrap_or_default();
    let mut api = Connection::open(&variable("AWS_LAMBDA_RUNTIME_API")?)?;
    loop {
        let event = api.send("GET /2018-06-01/runtime/invocation/next", &[], "")?;
        let id = event.header("lambda-runtime-aws-request-id")?;
        say(&format!("[INFO] begins {id}"));
        say(&format!(r#"{{"level":"INFO","requestId":"{id}","message":"goes on"}}"#));
        match mode.as_str() {
            "hang" => loop {
                std::thread::park();
            },
            "exit" => return Err(io::Error::other("STUB_MODE")),
            _ => {}
        }
        let answer = format!("POST /2018-06-01/runtime/invocation/{id}/response");
        let taken = api.send(&answer, &[], &event.body)?;
        if taken.status != 202 {
            return Err(io::Error::other(taken.body));
        }
    }
}

#[expect(clippy::print_stdout, reason = "a function's log lines are what it prints")]
fn say(line: &str) {
    println!("{line}");
}
