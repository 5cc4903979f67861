//! The ways in which a backend is down.

use lambda_sandbox::collector::{Behaviour, Collector};

/// The way in which the backend is down.
#[derive(Clone, Debug, PartialEq)]
pub enum Outage {
    /// The port is closed.
    Refuses,
    /// No packet is answered.
    Vanishes,
    /// Connections are made, but not answered.
    StandsStill,
    /// TLS is answered with something else. The collector has to have TLS.
    ForgetsTls,
    /// Every request gets this behaviour.
    Answers(Behaviour),
}

impl Outage {
    /// Starts the outage.
    pub async fn begin(&self, collector: &Collector) {
        match self {
            Self::Refuses => collector.refuse_connections().await,
            Self::Vanishes => collector.vanish().await.expect("ports that answer nobody"),
            Self::StandsStill => collector.go_deaf(),
            Self::ForgetsTls => collector.forget_tls(),
            Self::Answers(behaviour) => collector.behave(behaviour.clone()),
        }
    }

    /// Ends the outage, whichever it was.
    pub async fn end(collector: &Collector) {
        collector.behave(Behaviour::Accept);
        collector.come_back().await.expect("its ports are free");
    }

    /// Returns true if the outage is detected only by a timeout.
    pub fn hangs(&self) -> bool {
        matches!(self, Self::Vanishes | Self::StandsStill | Self::Answers(Behaviour::Hang))
    }
}
