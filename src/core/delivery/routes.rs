//! The routes to one backend, by signal, as found by its setups.

use super::event::{Route, RouteState, SenderSettings, SetupResult};
use crate::signal::{PerSignal, Signal};

/// The routes and the signals that need one.
#[derive(Debug)]
pub(super) struct Routes {
    takes: PerSignal<bool>,
    /// `None` until a setup has a result.
    states: Option<PerSignal<RouteState>>,
    has_secret: bool,
}

impl Routes {
    pub(super) fn new(settings: &SenderSettings) -> Self {
        let states = (!settings.has_setup).then(|| PerSignal::from_fn(|_| RouteState::NoRoute));
        Self { takes: settings.takes, states, has_secret: false }
    }

    /// Applies the result of a setup. Returns false if the routes stay as they are.
    pub(super) fn apply(&mut self, result: SetupResult) -> bool {
        if result.routes.is_some() {
            self.states = result.routes;
            self.has_secret = result.has_secret;
        }
        result.routes.is_some()
    }

    /// Returns true after a setup has had a result.
    pub(super) fn is_known(&self) -> bool {
        self.states.is_some()
    }

    /// Returns true if the key comes from a secret.
    pub(super) fn has_secret(&self) -> bool {
        self.has_secret
    }

    pub(super) fn state(&self, signal: Signal) -> RouteState {
        self.states.as_ref().map_or(RouteState::Pending, |states| *states.of(signal))
    }

    pub(super) fn of(&self, signal: Signal) -> Option<Route> {
        match self.state(signal) {
            RouteState::Route(route) => Some(route),
            RouteState::Pending | RouteState::NoRoute => None,
        }
    }

    /// Returns true if the signal has a route or may get one.
    pub(super) fn may_take(&self, signal: Signal) -> bool {
        *self.takes.of(signal) && self.state(signal) != RouteState::NoRoute
    }

    /// Returns true if no signal has a route.
    pub(super) fn is_empty(&self) -> bool {
        Signal::ALL.iter().all(|signal| self.of(*signal).is_none())
    }

    /// Returns true if a signal may still get a route.
    pub(super) fn has_pending(&self) -> bool {
        Signal::ALL.iter().any(|signal| *self.takes.of(*signal) && self.state(*signal) == RouteState::Pending)
    }

    /// Returns true if both signals go to the same endpoint.
    pub(super) fn share_endpoint(&self, one: Signal, other: Signal) -> bool {
        let endpoint = |signal| self.of(signal).map(|route| route.endpoint);
        endpoint(one) == endpoint(other)
    }
}
