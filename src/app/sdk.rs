//! Passes telemetry of the function's SDK to the pipeline.
//!
//! Promises: accepted telemetry has room in the buffers, unless a backend is down, and grows to at most about four times its
//! bytes there. Requests that would grow further are refused. Large requests are checked in steps, so that the thread is never
//! blocked for long.

use bytes::Bytes;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;

use crate::app::pipeline::{EnqueueError, Handle};
use crate::edge::receiver::{OtlpIntake, RequestRefusal};
use rotel_core::chunk::{Chunk, Origin};
use rotel_core::config::resource::ResourceRules;
use rotel_core::delivery::budget::ReserveError;
use rotel_core::otlp::{self, Contents, GROWTH_SLACK, Inspection, MalformedRequest, WireError};
use rotel_core::signal::{PerSignal, Signal};

/// The bytes of resource attributes that may be added to a request beyond three times its size.
const RESOURCE_SLACK: usize = 1 << 20;
/// The bytes that may be added to a group in addition to the attributes known at start: `faas.instance` and message lengths.
const GROUP_SLACK: usize = 128;

/// Passes requests from the receiver to the pipeline. A malformed request is refused here and affects no other.
#[derive(Clone, Debug)]
pub struct SdkIntake {
    pipeline: Handle,
    /// The maximum bytes added to a resource group.
    group_growth: usize,
    /// The maximum items of a request to the backend.
    batch_items: PerSignal<usize>,
}

impl SdkIntake {
    /// Returns an intake for `pipeline`, which applies `rules` to resources and splits requests to this many items.
    pub fn new(pipeline: Handle, rules: &ResourceRules, batch_items: PerSignal<usize>) -> Self {
        let mut resource = Resource::default();
        rules.apply(&mut resource);
        Self { pipeline, group_growth: resource.encoded_len() + GROUP_SLACK, batch_items }
    }

    /// The maximum bytes that the pipeline adds to a request.
    fn growth(&self, signal: Signal, body: &[u8], contents: &Contents) -> Result<usize, RequestRefusal> {
        let thrice = body.len().saturating_mul(3);
        let added = contents.groups.saturating_mul(self.group_growth);
        if added > thrice.saturating_add(RESOURCE_SLACK) {
            return Err(RequestRefusal::Amplified("it has too many resource groups for its size"));
        }
        let repeated = otlp::max_repeated_bytes(signal, body, contents.items, *self.batch_items.of(signal));
        if repeated > thrice.saturating_add(GROWTH_SLACK) {
            return Err(RequestRefusal::Amplified("its resource is too large for so many items"));
        }
        Ok(added + repeated)
    }
}

impl OtlpIntake for SdkIntake {
    async fn accept(&self, signal: Signal, body: Bytes) -> Result<usize, RequestRefusal> {
        let (body, contents) = match inspect(signal, &body).await {
            Err(malformed @ MalformedRequest { cause: WireError::NotUtf8, .. }) => {
                let Some(fixed) = otlp::replace_invalid_utf8(signal, &body) else {
                    return Err(malformed.into());
                };
                let contents = inspect(signal, &fixed).await?;
                (Bytes::from(fixed), contents)
            }
            contents => (body, contents?),
        };
        if contents.items == 0 {
            return Ok(0);
        }
        let bytes = if contents.has_empty { otlp::drop_empty(signal, &body) } else { body };
        let growth = self.growth(signal, &bytes, &contents)?;
        let reservation =
            self.pipeline.reserve(bytes.len() + growth).map_err(|unreserved| match unreserved {
                ReserveError::Full => RequestRefusal::Busy,
                ReserveError::TooLarge { limit } => RequestRefusal::LargerThanBuffer { limit },
            })?;
        let items = contents.items;
        let chunk = Chunk { signal, bytes, items, origin: Origin::Sdk, invocation: None };
        match self.pipeline.offer(chunk, Some(reservation)) {
            Err(EnqueueError::Full) => Err(RequestRefusal::Busy),
            // Without a pipeline, telemetry is lost, and an SDK that retries would only waste the function's time.
            Ok(()) | Err(EnqueueError::Gone) => Ok(items),
        }
    }
}

/// Checks a request, and yields to other tasks between steps.
async fn inspect(signal: Signal, body: &[u8]) -> Result<Contents, MalformedRequest> {
    let mut inspection = Inspection::new(signal, body);
    loop {
        if let Some(contents) = inspection.step() {
            return contents;
        }
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::pipeline::Pipeline;
    use crate::edge::exporter::Exporter;
    use rotel_core::config;
    use rotel_core::config::resource::Registration;

    const MIB: usize = 1 << 20;

    /// Returns an intake for a pipeline of 8 MiB that does not run.
    fn intake() -> (SdkIntake, Pipeline<Exporter>) {
        let variables =
            [("ROTEL_BUFFER_MAX_BYTES", "8388608"), ("ROTEL_OTLP_EXPORTER_ENDPOINT", "http://a:1")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let config = config::read(&variables).config;
        let rules = ResourceRules::new(&config, &Registration::default());
        let (pipeline, handle) = Pipeline::new(&config, rules.clone(), Vec::new());
        (SdkIntake::new(handle, &rules, config.batch_max_items), pipeline)
    }

    fn field(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag << 3 | 2];
        let len = u32::try_from(content.len()).unwrap();
        // Padded to the longest form, which decoders accept too.
        out.extend((0..4).map(|septet| u8::try_from(len >> (7 * septet) & 0x7f).unwrap() | 0x80));
        out.push(u8::try_from(len >> 28).unwrap());
        [out, content.to_vec()].concat()
    }

    /// Spans without content.
    fn spans(count: usize) -> Vec<u8> {
        field(2, &[0x12, 0x00].repeat(count))
    }

    /// A span with a name of this many bytes.
    fn named(len: usize) -> Bytes {
        Bytes::from(field(1, &field(2, &field(2, &field(5, &vec![b'x'; len])))))
    }

    #[tokio::test]
    async fn large_requests_are_checked_in_steps() {
        let (intake, _pipeline) = intake();
        let body = Bytes::from([field(1, &spans(100_000)), [0x0a, 0x00].repeat(100_000)].concat());
        assert_eq!(intake.accept(Signal::Traces, body).await, Ok(100_000));
        assert_eq!(intake.accept(Signal::Traces, Bytes::new()).await, Ok(0));
    }

    #[tokio::test]
    async fn amplified_requests_are_refused() {
        let (intake, _pipeline) = intake();
        let groups = field(1, &spans(1)).repeat(100_000);
        let refused = intake.accept(Signal::Traces, Bytes::from(groups)).await;
        assert_eq!(refused, Err(RequestRefusal::Amplified("it has too many resource groups for its size")));

        let resource = field(1, &field(1, &field(1, &vec![b'k'; MIB])));
        let group = |count| Bytes::from(field(1, &[resource.clone(), spans(count)].concat()));
        let refused = intake.accept(Signal::Traces, group(100_000)).await;
        assert_eq!(refused, Err(RequestRefusal::Amplified("its resource is too large for so many items")));
        assert_eq!(intake.accept(Signal::Traces, group(100)).await, Ok(100));
    }

    #[tokio::test]
    async fn accepted_requests_have_room() {
        let (intake, _pipeline) = intake();
        let refused = intake.accept(Signal::Traces, named(8 * MIB)).await;
        assert!(
            matches!(refused, Err(RequestRefusal::LargerThanBuffer { limit }) if limit < 7 * MIB),
            "{refused:?}"
        );
        assert_eq!(intake.accept(Signal::Traces, named(4 * MIB)).await, Ok(1));
        assert_eq!(intake.accept(Signal::Traces, named(4 * MIB)).await, Err(RequestRefusal::Busy));
        assert_eq!(intake.accept(Signal::Traces, named(2 * MIB)).await, Ok(1));
    }

    #[tokio::test]
    async fn invalid_utf8_is_replaced() {
        let (intake, _pipeline) = intake();
        let mut body = named(3).to_vec();
        let last = body.len() - 1;
        body[last] = 0xff;
        assert_eq!(intake.accept(Signal::Traces, Bytes::from(body.clone())).await, Ok(1));
        body.push(0xff);
        let refused = intake.accept(Signal::Traces, Bytes::from(body)).await;
        assert!(matches!(refused, Err(RequestRefusal::Malformed(_))), "{refused:?}");
    }
}
