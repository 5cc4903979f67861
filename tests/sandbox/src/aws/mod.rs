//! A stand-in for the AWS services that hold secrets: Secrets Manager and Parameter Store in all regions. It also has the
//! sources of credentials: the container endpoint, the instance metadata service, STS and SSO. All share one address, set with
//! `AWS_ENDPOINT_URL`.
//!
//! Every call is counted. It must be signed, with the region of the requested secret in the scope of its signature.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http::request::Parts;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::board::Board;
use crate::error::Error;
use crate::web;
use signature::Signature;

mod api;
mod credentials;
mod signature;

const BODY_LIMIT: usize = 1 << 20;
const CREDENTIALS_PATH: &str = "/credentials";
const CONTAINER_TOKEN: &str = "container-token";

/// The stand-in. When dropped, it closes its port and all connections.
#[derive(Debug)]
pub struct Aws {
    address: SocketAddr,
    state: Board<State>,
    server: JoinHandle<()>,
}

/// The operations it supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Secrets Manager, several secrets.
    BatchGetSecretValue,
    /// Secrets Manager, one secret.
    GetSecretValue,
    /// Parameter Store, several parameters.
    GetParameters,
    /// A source of credentials: the container endpoint, the instance metadata service, STS or SSO.
    Credentials,
}

/// A request that it received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub action: Action,
    /// The region of the signature; empty for [`Action::Credentials`].
    pub region: String,
    /// The key id of the signature; empty for [`Action::Credentials`].
    pub access_key_id: String,
    /// The requested secrets, as written in the request.
    pub ids: Vec<String>,
    /// The error code of the answer; none on success.
    pub refusal: Option<String>,
}

/// The treatment of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// Answered normally.
    #[default]
    Answer,
    /// Rejected with this status and error code.
    Refuse {
        /// The HTTP status.
        status: u16,
        /// The AWS error code.
        code: &'static str,
    },
    /// Answered normally, after this delay.
    Late(Duration),
    /// Never answered.
    Hang,
    /// Not answered until this many calls are in flight at once.
    Gather(usize),
    /// Answered with this value, whatever the request.
    Say(Value),
}

/// The content of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Held {
    Text(String),
    Bytes,
    /// Requests for it are answered with this error code.
    Refused(&'static str),
}

#[derive(Debug, Default)]
struct State {
    held: BTreeMap<String, Held>,
    behaviours: BTreeMap<Action, Behaviour>,
    /// The behaviours of the next calls; they precede `behaviours`.
    next: Vec<Behaviour>,
    calls: Vec<Call>,
    in_flight: usize,
    most_in_flight: usize,
    /// True once the first keys of the sources have expired.
    keys_renewed: bool,
}

impl State {
    /// The keys that the sources of credentials return.
    fn keys(&self) -> &'static Keys {
        if self.keys_renewed { &RENEWED } else { &CONTAINER }
    }
}

/// A pair of keys and their session token.
struct Keys {
    access_key_id: &'static str,
    secret_access_key: &'static str,
    session_token: &'static str,
}

const ENVIRONMENT: Keys = Keys {
    access_key_id: "ASIAENVIRONMENT",
    secret_access_key: "environment/key",
    session_token: "environment-token",
};

const CONTAINER: Keys = Keys {
    access_key_id: "ASIACONTAINER",
    secret_access_key: "container/key",
    session_token: "container-session",
};

/// The keys that a source returns once the first ones have expired.
const RENEWED: Keys =
    Keys { access_key_id: "ASIARENEWED", secret_access_key: "renewed/key", session_token: "renewed-session" };

impl Aws {
    /// Starts to listen, without any secrets yet.
    pub async fn start() -> Result<Self, Error> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(Error::Listen)?;
        let address = listener.local_addr().map_err(Error::Listen)?;
        let state = Board::new(State::default());
        let shared = Arc::new(state.clone());
        let handler = move |request| answer(Arc::clone(&shared), request);
        let server = tokio::spawn(web::serve(listener, handler));
        Ok(Self { address, state, server })
    }

    /// The URL for `AWS_ENDPOINT_URL`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The variables of a function that has its keys in the environment.
    pub fn variables(&self) -> BTreeMap<String, String> {
        variables(&[
            ("AWS_ENDPOINT_URL", &self.url()),
            ("AWS_ACCESS_KEY_ID", ENVIRONMENT.access_key_id),
            ("AWS_SECRET_ACCESS_KEY", ENVIRONMENT.secret_access_key),
            ("AWS_SESSION_TOKEN", ENVIRONMENT.session_token),
        ])
    }

    /// The variables of a function that has to fetch its keys, as under SnapStart.
    pub fn container_variables(&self) -> BTreeMap<String, String> {
        let credentials = format!("{}{CREDENTIALS_PATH}", self.url());
        variables(&[
            ("AWS_ENDPOINT_URL", &self.url()),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &credentials),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", CONTAINER_TOKEN),
        ])
    }

    /// The token that STS accepts for a web identity, and SSO for a session.
    pub fn identity_token(&self) -> &'static str {
        credentials::IDENTITY_TOKEN
    }

    /// Expires the keys that the sources of credentials returned; from now on they return others.
    pub fn renew_keys(&self) {
        self.state.write(|state| state.keys_renewed = true);
    }

    /// Stores a text secret under an ARN, which determines its service and region.
    pub fn keep(&self, arn: impl Into<String>, value: impl Into<String>) {
        self.hold(arn.into(), Held::Text(value.into()));
    }

    /// Stores a binary secret.
    pub fn keep_bytes(&self, arn: impl Into<String>) {
        self.hold(arn.into(), Held::Bytes);
    }

    /// Answers requests for this secret with an error code.
    pub fn refuse(&self, arn: impl Into<String>, code: &'static str) {
        self.hold(arn.into(), Held::Refused(code));
    }

    /// Sets the behaviour for an action from now on.
    pub fn behave(&self, action: Action, behaviour: Behaviour) {
        self.state.write(|state| state.behaviours.insert(action, behaviour));
    }

    /// Sets the behaviour for the next `calls` calls of any kind.
    pub fn behave_next(&self, calls: usize, behaviour: &Behaviour) {
        self.state.write(|state| state.next = vec![behaviour.clone(); calls]);
    }

    /// All calls so far, in order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        self.state.read(|state| state.calls.clone())
    }

    /// The largest number of calls that were unanswered at the same time.
    pub fn most_in_flight(&self) -> usize {
        self.state.read(|state| state.most_in_flight)
    }

    fn hold(&self, arn: String, held: Held) {
        self.state.write(|state| state.held.insert(arn, held));
    }
}

impl Drop for Aws {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A call in flight; it counts even if its client gives up on it.
struct InFlight(Arc<Board<State>>);

impl InFlight {
    fn new(state: Arc<Board<State>>) -> Self {
        state.write(|state| {
            state.in_flight += 1;
            state.most_in_flight = state.most_in_flight.max(state.in_flight);
        });
        Self(state)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.write(|state| state.in_flight -= 1);
    }
}

async fn answer(state: Arc<Board<State>>, request: Request<Incoming>) -> web::Answer {
    let _in_flight = InFlight::new(Arc::clone(&state));
    let (head, body) = request.into_parts();
    let Ok(body) = web::read(body, BODY_LIMIT).await else { return refusal(413, "RequestTooLarge") };
    let expired = if state.read(|state| state.keys_renewed) { Some(&CONTAINER) } else { None };
    let (action, signature) = if credentials::is_asked(&head, &body) {
        (Action::Credentials, None)
    } else {
        let Some(action) = api::action(&head) else { return refusal(400, "UnknownOperationException") };
        match Signature::check(&head, &body, &[ENVIRONMENT, CONTAINER, RENEWED]) {
            Ok(signature) if expired.is_some_and(|keys| keys.access_key_id == signature.access_key_id) => {
                return refusal(400, "ExpiredTokenException");
            }
            Ok(signature) if signature.service == action.service() => (action, Some(signature)),
            Ok(_) => return refusal(400, "InvalidSignatureException"),
            Err(code) => return refusal(400, code),
        }
    };
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let (region, access_key_id) =
        signature.map(|signature| (signature.region, signature.access_key_id)).unwrap_or_default();
    let call = Call { action, region, access_key_id, ids: api::ids(action, &asked), refusal: None };
    let (index, behaviour) = state.write(|state| {
        state.calls.push(call.clone());
        let next = if state.next.is_empty() { None } else { Some(state.next.remove(0)) };
        let behaviour = next.or_else(|| state.behaviours.get(&action).cloned());
        (state.calls.len() - 1, behaviour.unwrap_or_default())
    });
    let outcome = match behaviour {
        Behaviour::Refuse { status, code } => Err((status, code)),
        Behaviour::Hang => std::future::pending().await,
        Behaviour::Say(answer) => Ok(web::json(200, &answer)),
        Behaviour::Late(delay) => {
            tokio::time::sleep(delay).await;
            state.read(|state| reply(state, &call, &asked, (&head, &body)))
        }
        Behaviour::Gather(calls) => {
            state.wait(|state| (state.most_in_flight >= calls).then_some(())).await;
            state.read(|state| reply(state, &call, &asked, (&head, &body)))
        }
        Behaviour::Answer => state.read(|state| reply(state, &call, &asked, (&head, &body))),
    };
    match outcome {
        Ok(answer) => answer,
        Err((status, code)) => {
            state.write(|state| {
                if let Some(call) = state.calls.get_mut(index) {
                    call.refusal = Some(code.to_owned());
                }
            });
            refusal(status, code)
        }
    }
}

fn reply(
    state: &State,
    call: &Call,
    asked: &Value,
    (head, body): (&Parts, &[u8]),
) -> Result<web::Answer, (u16, &'static str)> {
    if call.action == Action::Credentials {
        return credentials::reply(head, body, state.keys());
    }
    api::reply(&state.held, call, asked).map(|answer| web::json(200, &answer))
}

/// An error in the format of both services.
fn refusal(status: u16, code: &str) -> web::Answer {
    web::json(status, &json!({ "__type": code, "Message": "refused by the test" }))
}
