//! Requests of telemetry that is made here: items of one resource and one scope.

use bytes::Bytes;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

use crate::otlp::wire::{WireType, delimited_len, put_delimited_head, put_key};

/// The scope of what is made of the function's and the extensions' records, and of what the extension tells of itself.
pub const SCOPE: &str = "rotel-lambda-extension";

/// The tag of `resource_logs`, `resource_metrics` and `resource_spans` in their requests.
const OF_RESOURCE: u32 = 1;
/// The tag of `scope_logs`, `scope_metrics` and `scope_spans` in those.
const OF_SCOPE: u32 = 2;
/// The tag of `log_records`, `metrics` and `spans` in those.
const ITEMS: u32 = 2;
/// The tag of `resource` beside the one and of `scope` beside the other.
const HEADER: u32 = 1;

/// What stands around the items of a request, encoded apart from them, so that a source can keep it for all its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The field `resource`.
    resource: Vec<u8>,
    /// The field `scope`.
    scope: Vec<u8>,
}

impl Envelope {
    /// For items of this resource and this scope.
    pub fn new(resource: &Resource, scope: &InstrumentationScope) -> Self {
        let mut envelope = Self { resource: Vec::new(), scope: Vec::new() };
        put(&mut envelope.resource, HEADER, resource);
        put(&mut envelope.scope, HEADER, scope);
        envelope
    }

    /// The encoding of a request of log records, of metrics or of spans. The three have the same fields around them.
    pub fn around<T: Message>(&self, items: &[T]) -> Bytes {
        let mut encoded = Items::default();
        for item in items {
            encoded.push(item);
        }
        self.around_items(&encoded)
    }

    /// The same of items that are encoded already.
    pub fn around_items(&self, Items { encoded, .. }: &Items) -> Bytes {
        let of_scope = self.scope.len() + encoded.len();
        let of_resource = self.resource.len() + delimited_len(OF_SCOPE, of_scope);
        let mut request = Vec::with_capacity(delimited_len(OF_RESOURCE, of_resource));
        put_delimited_head(&mut request, OF_RESOURCE, of_resource);
        request.extend_from_slice(&self.resource);
        put_delimited_head(&mut request, OF_SCOPE, of_scope);
        request.extend_from_slice(&self.scope);
        request.extend_from_slice(encoded);
        request.into()
    }
}

/// Items of a request, encoded one by one: that takes a fraction of the memory that the items themselves would.
#[derive(Debug, Default)]
pub struct Items {
    encoded: Vec<u8>,
    count: usize,
}

impl Items {
    /// Encodes one more.
    pub fn push(&mut self, item: &impl Message) {
        put(&mut self.encoded, ITEMS, item);
        self.count += 1;
    }

    /// Returns their number.
    pub fn count(&self) -> usize {
        self.count
    }
}

/// A scope of this version's.
pub fn scope(name: &str) -> InstrumentationScope {
    InstrumentationScope {
        name: name.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

/// Writes a message as a field.
fn put(out: &mut Vec<u8>, tag: u32, message: &impl Message) {
    put_key(out, tag, WireType::Delimited);
    // It would fail where there is no room, and a vector makes some.
    let _ = message.encode_length_delimited(out);
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};

    use super::*;
    use crate::otlp::attribute::{string, text};

    #[test]
    fn what_is_put_into_an_envelope_is_what_encoding_the_whole_gives() {
        let record = |body: &str| LogRecord { body: Some(text(body)), ..LogRecord::default() };
        let resource = Resource { attributes: vec![string("service.name", "orders")], ..Resource::default() };
        for (resource, scope) in
            [(resource, scope(SCOPE)), (Resource::default(), InstrumentationScope::default())]
        {
            for log_records in [vec![], vec![record("one")], vec![record("one"), record(&"two".repeat(100))]]
            {
                let made = Envelope::new(&resource, &scope).around(&log_records);
                let scope_logs =
                    ScopeLogs { scope: Some(scope.clone()), log_records, ..ScopeLogs::default() };
                let of_resource = ResourceLogs {
                    resource: Some(resource.clone()),
                    scope_logs: vec![scope_logs],
                    ..ResourceLogs::default()
                };
                let whole = ExportLogsServiceRequest { resource_logs: vec![of_resource] };
                assert_eq!(made, whole.encode_to_vec());
            }
        }
    }
}
