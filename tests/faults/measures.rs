//! The measurements, each over both protocols; the worse result counts.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use lambda_sandbox::collector::{Behaviour, Collector, Protocol, Refusal};
use lambda_sandbox::{
    Builder, Comparison, Extension, Invocation, Sandbox, Shutdown, ShutdownReason, Signal, Status,
};
use serde_json::{Value, json};

use crate::{Row, delivery};
use support::outage::Outage;
use support::{PROTOCOLS, compare, hour, impatient, sending, working};

const MIB: u64 = 1024 * 1024;
/// The default `ROTEL_FLUSH_TIMEOUT`.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// The maximum mean time added to an invocation once the endpoint is known to hang.
const HANGING_MEAN: Duration = Duration::from_millis(60);
/// The default `ROTEL_BUFFER_MAX_BYTES` of a function with the sandbox's 128 MB.
const BUFFER: u64 = 8 * MIB;

/// A running measurement.
type Measuring = Pin<Box<dyn Future<Output = Vec<Row>>>>;

/// The number of runs per latency. The median counts, so that a brief spike on a busy machine is not blamed on us.
const RUNS: usize = 3;

/// All measurements. They run one after another because they would disturb each other.
pub(crate) const ALL: [fn(PathBuf) -> Measuring; 15] = [
    |extension| Box::pin(async move { vec![losses(extension).await] }),
    |extension| Box::pin(hanging(extension)),
    |extension| Box::pin(async move { vec![hanging_and_rare(extension).await] }),
    |extension| Box::pin(async move { vec![refusing(extension).await] }),
    |extension| Box::pin(async move { vec![recovery(extension).await] }),
    |extension| Box::pin(async move { vec![shutdown(extension).await] }),
    |extension| Box::pin(async move { vec![memory(extension).await] }),
    |_| Box::pin(async { vec![lines_of_an_hour()] }),
    |extension| Box::pin(async move { vec![rounds_of_own_lines(extension).await] }),
    |extension| Box::pin(async move { vec![delivery::throttled_secrets(extension).await] }),
    |extension| Box::pin(async move { vec![delivery::frozen_secret(extension).await] }),
    |extension| Box::pin(async move { vec![delivery::rotated_key(extension).await] }),
    |extension| Box::pin(async move { vec![delivery::forgotten_connections(extension).await] }),
    |extension| Box::pin(delivery::short_functions_by_strategy(extension)),
    |extension| Box::pin(delivery::added_by_strategies(extension)),
];

/// An environment, and the collector at the other end.
struct Setting {
    collector: Collector,
    sandbox: Sandbox,
}

impl Setting {
    async fn new(
        extension: &Path,
        protocol: Protocol,
        with: impl FnOnce(Extension) -> Extension,
        so: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        let collector = Collector::start().await.expect("a collector");
        let extension = with(sending(Extension::binary(extension), &collector, protocol));
        let builder = Sandbox::builder().extension(extension).function(working());
        let sandbox = so(builder.timeout(Duration::from_mins(5))).start().await.expect("a sandbox");
        Self { collector, sandbox }
    }

    /// An environment with the default settings.
    async fn usual(extension: &Path, protocol: Protocol) -> Self {
        Self::new(extension, protocol, |extension| extension, |builder| builder).await
    }

    /// An environment with short pauses between attempts.
    async fn impatient(extension: &Path, protocol: Protocol) -> Self {
        Self::new(extension, protocol, impatient, |builder| builder).await
    }

    async fn invoke(&self, milliseconds: u64) -> Invocation {
        let invocation = self.sandbox.invoke(json!(milliseconds)).await.expect("an invocation");
        assert_eq!(invocation.status, Status::Success, "{invocation:?}");
        invocation
    }

    /// Runs a successful invocation and ten during an outage.
    async fn suffer(&self, outage: &Outage) {
        self.invoke(0).await;
        outage.begin(&self.collector).await;
        for _ in 0..10 {
            self.invoke(0).await;
        }
    }

    async fn end(&self) -> Shutdown {
        self.sandbox.shutdown(ShutdownReason::Spindown).await.expect("a shutdown")
    }

    /// Invokes until items of both signals arrive again; returns the number of items of each signal still missing when
    /// its first arrived, summed over both.
    async fn recover(&self) -> usize {
        let before = self.collector.counts();
        let mut left_behind = 0;
        let mut waiting = vec![Signal::Logs, Signal::Traces];
        for _ in 0..200 {
            // So long that a busy machine answers meanwhile: a probe that is called off with the function is sent
            // again, rightly.
            self.invoke(500).await;
            let received = self.collector.received();
            let comparison = self.sandbox.ledger().compare(&received);
            let back = |signal: &Signal| received.counts().of(*signal) > before.of(*signal);
            for signal in waiting.extract_if(.., |signal| back(signal)) {
                left_behind += comparison.missing.iter().filter(|entry| entry.signal == signal).count();
            }
            if waiting.is_empty() {
                return left_behind;
            }
        }
        self.sandbox.ledger().entries().len()
    }
}

/// The time an invocation added after the delivery of its end.
fn own_time(invocation: &Invocation) -> Duration {
    invocation.added_after_delivery.unwrap_or(invocation.added)
}

fn mean(durations: &[Duration]) -> Duration {
    durations.iter().sum::<Duration>() / u32::try_from(durations.len()).unwrap_or(u32::MAX).max(1)
}

pub(crate) fn median(mut durations: Vec<Duration>) -> Duration {
    durations.sort_unstable();
    durations.get(durations.len() / 2).copied().unwrap_or_default()
}

pub(crate) fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1_000.0)
}

fn over_both<T>(figures: &[T], show: impl Fn(&T) -> String) -> String {
    let names = PROTOCOLS.map(|protocol| support::name(protocol));
    let figures = names.iter().zip(figures).map(|(name, figure)| format!("{name} {}", show(figure)));
    figures.collect::<Vec<_>>().join(", ")
}

async fn losses(extension: PathBuf) -> Row {
    let outages = [
        Outage::Refuses,
        Outage::Vanishes,
        Outage::StandsStill,
        Outage::Answers(Behaviour::Hang),
        Outage::Answers(Behaviour::Refuse(Refusal::status(503))),
        Outage::Answers(Behaviour::Refuse(Refusal::status(429).retry_after(Duration::from_secs(1)))),
        Outage::Answers(Behaviour::CutRequest { after: 20 }),
        Outage::Answers(Behaviour::CutAnswer),
    ];
    let (mut emitted, mut missing, mut twice, mut cut) = (0, 0, 0, 0);
    for outage in &outages {
        for protocol in PROTOCOLS {
            let setting = Setting::impatient(&extension, protocol).await;
            setting.suffer(outage).await;
            Outage::end(&setting.collector).await;
            setting.recover().await;
            setting.end().await;
            let Comparison { missing: lost, repeated, .. } = compare(&setting.sandbox, &setting.collector);
            emitted += setting.sandbox.ledger().entries().len();
            missing += lost.len();
            *(if *outage == Outage::Answers(Behaviour::CutAnswer) { &mut cut } else { &mut twice }) +=
                repeated.len();
        }
    }
    Row {
        what: "records lost where the buffer sufficed and the endpoint came back",
        target: "0, none twice",
        figure: format!("{missing} of {emitted}, {twice} twice; with answers cut off, {cut} twice"),
        met: missing == 0 && twice == 0,
    }
}

/// The time added by the first invocation with a hanging endpoint, and the mean over the next 20.
async fn first_and_next(setting: &Setting) -> (Duration, Duration) {
    setting.invoke(0).await;
    setting.collector.behave(Behaviour::Hang);
    let first = own_time(&setting.invoke(0).await);
    let mut next = Vec::new();
    for _ in 0..20 {
        next.push(own_time(&setting.invoke(0).await));
    }
    setting.end().await;
    (first, mean(&next))
}

async fn hanging(extension: PathBuf) -> Vec<Row> {
    let (mut firsts, mut nexts) = (Vec::new(), Vec::new());
    for protocol in PROTOCOLS {
        let (mut first, mut next) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            let setting = Setting::usual(&extension, protocol).await;
            let (of_first, of_next) = first_and_next(&setting).await;
            first.push(of_first);
            next.push(of_next);
        }
        firsts.push(median(first));
        nexts.push(median(next));
    }
    let first = Row {
        what: "added after the function, endpoint hanging: first invocation (median of 3 runs)",
        target: "<= ROTEL_FLUSH_TIMEOUT (1 s)",
        figure: over_both(&firsts, |added| milliseconds(*added)),
        met: firsts.iter().all(|added| *added <= FLUSH_TIMEOUT),
    };
    let next = Row {
        what: "the same: mean over the next 20 (median of 3 runs)",
        target: "<= 60 ms",
        figure: over_both(&nexts, |added| milliseconds(*added)),
        met: nexts.iter().all(|added| *added <= HANGING_MEAN),
    };
    vec![first, next]
}

async fn hanging_and_rare(extension: PathBuf) -> Row {
    let mut means = Vec::new();
    for protocol in PROTOCOLS {
        let mut next = Vec::new();
        for _ in 0..RUNS {
            // To a function that is called once a minute any pause is over by the next call, as one of a millisecond is
            // here.
            let rare = |extension: Extension| {
                extension
                    .env("ROTEL_OTLP_EXPORTER_RETRY_INITIAL_BACKOFF", "1ms")
                    .env("ROTEL_OTLP_EXPORTER_RETRY_MAX_BACKOFF", "1ms")
            };
            let setting = Setting::new(&extension, protocol, rare, |builder| builder).await;
            next.push(first_and_next(&setting).await.1);
        }
        means.push(median(next));
    }
    Row {
        what: "the same, of a function called more rarely than the pause between probes",
        target: "<= 60 ms",
        figure: over_both(&means, |added| milliseconds(*added)),
        met: means.iter().all(|added| *added <= HANGING_MEAN),
    }
}

async fn refusing(extension: PathBuf) -> Row {
    let mut means = Vec::new();
    for protocol in PROTOCOLS {
        let mut runs = Vec::new();
        for _ in 0..RUNS {
            let setting = Setting::usual(&extension, protocol).await;
            setting.invoke(0).await;
            setting.collector.refuse_connections().await;
            let mut added = Vec::new();
            for _ in 0..20 {
                added.push(own_time(&setting.invoke(0).await));
            }
            setting.end().await;
            runs.push(mean(&added));
        }
        means.push(median(runs));
    }
    Row {
        what: "added after function and delivery, endpoint refusing: mean over 20 (median of 3 runs)",
        target: "<= 5 ms",
        figure: over_both(&means, |added| milliseconds(*added)),
        met: means.iter().all(|added| *added <= Duration::from_millis(5)),
    }
}

async fn recovery(extension: PathBuf) -> Row {
    let (mut left_behind, mut kept) = (0, 0);
    for outage in [Outage::Refuses, Outage::Answers(Behaviour::Hang), Outage::Vanishes] {
        for protocol in PROTOCOLS {
            let setting = Setting::impatient(&extension, protocol).await;
            setting.suffer(&outage).await;
            kept += compare(&setting.sandbox, &setting.collector).missing.len();
            Outage::end(&setting.collector).await;
            left_behind += setting.recover().await;
            setting.end().await;
        }
    }
    Row {
        what: "recovery: kept records not delivered with the first that got through",
        target: "0",
        figure: format!("{left_behind} of {kept}"),
        met: left_behind == 0 && kept > 0,
    }
}

async fn shutdown(extension: PathBuf) -> Row {
    let end_with = async |protocol, outage: Outage| {
        let setting = Setting::usual(&extension, protocol).await;
        setting.invoke(0).await;
        outage.begin(&setting.collector).await;
        setting.invoke(0).await;
        setting.end().await
    };
    let mut slowest = Vec::new();
    let mut killed = 0;
    for protocol in PROTOCOLS {
        let mut runs = Vec::new();
        for _ in 0..RUNS {
            // They do little but wait, and not for each other.
            let (hanging, standing_still, vanished) = tokio::join!(
                end_with(protocol, Outage::Answers(Behaviour::Hang)),
                end_with(protocol, Outage::StandsStill),
                end_with(protocol, Outage::Vanishes)
            );
            let ends = [hanging, standing_still, vanished];
            killed += ends.iter().flat_map(|end| &end.extensions).filter(|end| end.killed).count();
            runs.push(ends.iter().map(|end| end.took).max().unwrap_or_default());
        }
        slowest.push(median(runs));
    }
    Row {
        what: "shutdown with a hanging endpoint: exit after SHUTDOWN (median of 3 runs)",
        target: "<= 1.9 s, never SIGKILL",
        figure: format!("{}; {killed} killed", over_both(&slowest, |took| milliseconds(*took))),
        met: killed == 0 && slowest.iter().all(|took| *took <= Duration::from_millis(1_900)),
    }
}

async fn memory(extension: PathBuf) -> Row {
    let over = async |protocol| {
        let prompt = |builder: Builder| builder.prompt_telemetry();
        let setting = Setting::new(&extension, protocol, |extension| extension, prompt).await;
        setting.invoke(0).await;
        let start = setting.sandbox.resident_bytes();
        setting.collector.refuse_connections().await;
        for _ in 0..10_000 {
            setting.invoke(0).await;
        }
        let most = setting.sandbox.peak_resident_bytes();
        setting.end().await;
        most.saturating_sub(start)
    };
    let (grpc, http) = tokio::join!(over(Protocol::Grpc), over(Protocol::Http));
    let grown = [grpc, http];
    let mebibytes = |bytes: &u64| format!("+{}.{} MiB", bytes / MIB, bytes % MIB * 10 / MIB);
    Row {
        what: "memory at its most, with the endpoint down for 10,000 invocations",
        target: "<= start + buffer (8 MiB) + 4 MiB",
        figure: over_both(&grown, mebibytes),
        met: grown.iter().all(|bytes| *bytes <= BUFFER + 4 * MIB),
    }
}

fn lines_of_an_hour() -> Row {
    let lines = hour::OUTAGES.map(|(_, verdicts)| hour::lines_of(verdicts)).into_iter().max().unwrap_or(0);
    Row {
        what: "our own log lines in an hour of outage at 10 invocations/s (virtual time)",
        target: "<= 120",
        figure: lines.to_string(),
        met: lines <= 120,
    }
}

async fn rounds_of_own_lines(extension: PathBuf) -> Row {
    let mut last_rounds = Vec::new();
    for protocol in PROTOCOLS {
        let mut last_round = 0;
        for outage in [Outage::Refuses, Outage::Answers(Behaviour::Refuse(Refusal::status(404)))] {
            let setting = Setting::usual(&extension, protocol).await;
            outage.begin(&setting.collector).await;
            let mut lines = 0;
            for round in 1..=20 {
                setting.sandbox.invoke(Value::Null).await.expect("an invocation");
                let now = setting.sandbox.extension_output().len();
                if now > lines {
                    last_round = last_round.max(round);
                }
                lines = now;
            }
            setting.end().await;
        }
        last_rounds.push(last_round);
    }
    Row {
        what: "own output fed back as extension records: the last of 20 rounds with a line",
        target: "<= 2",
        figure: over_both(&last_rounds, ToString::to_string),
        met: last_rounds.iter().all(|round| *round <= 2),
    }
}
