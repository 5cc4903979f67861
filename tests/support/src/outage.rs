//! The ways in which an endpoint is away.

use lambda_sandbox::collector::{Behaviour, Collector};

/// How the endpoint is away.
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
    /// Requests are answered so.
    Answers(Behaviour),
}

impl Outage {
    /// It is away from now on.
    pub async fn begin(&self, collector: &Collector) {
        match self {
            Self::Refuses => collector.refuse_connections().await,
            Self::Vanishes => collector.vanish().await.expect("ports that answer nobody"),
            Self::StandsStill => collector.go_deaf(),
            Self::ForgetsTls => collector.forget_tls(),
            Self::Answers(behaviour) => collector.behave(behaviour.clone()),
        }
    }

    /// It is back, whichever way it was away.
    pub async fn end(collector: &Collector) {
        collector.behave(Behaviour::Accept);
        collector.come_back().await.expect("its ports are free");
    }

    /// Whether it takes a deadline to know.
    pub fn hangs(&self) -> bool {
        matches!(self, Self::Vanishes | Self::StandsStill | Self::Answers(Behaviour::Hang))
    }
}
