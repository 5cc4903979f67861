//! Encodes requests with telemetry that is created here: items of one resource and one scope.

use bytes::Bytes;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

use crate::otlp::wire::{WireType, delimited_len, put_delimited_head, put_key};

/// The scope of telemetry that is derived from the function's and extensions' records, and of the extension's
/// own.
pub const SCOPE: &str = "rotel-lambda-extension";

/// The tag of `resource_logs`, `resource_metrics` and `resource_spans` in their requests.
const RESOURCE_GROUPS: u32 = 1;
/// The tag of `scope_logs`, `scope_metrics` and `scope_spans` in a resource group.
const SCOPE_GROUPS: u32 = 2;
/// The tag of `log_records`, `metrics` and `spans` in a scope group.
const ITEMS: u32 = 2;
/// The tag of `resource` in a resource group, and of `scope` in a scope group.
const HEADER: u32 = 1;

/// The encoded resource and scope around the items of a request. A source of telemetry keeps one for all its
/// requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestEnvelope {
    /// The field `resource`.
    resource: Vec<u8>,
    /// The field `scope`.
    scope: Vec<u8>,
}

impl RequestEnvelope {
    /// Encodes the resource and the scope.
    pub fn new(resource: &Resource, scope: &InstrumentationScope) -> Self {
        let mut envelope = Self { resource: Vec::new(), scope: Vec::new() };
        put(&mut envelope.resource, HEADER, resource);
        put(&mut envelope.scope, HEADER, scope);
        envelope
    }

    /// Encodes a request of log records, metrics or spans. The fields around the items are the same for all
    /// three.
    pub fn wrap<T: Message>(&self, items: &[T]) -> Bytes {
        let mut encoded = EncodedItems::default();
        for item in items {
            encoded.push(item);
        }
        self.wrap_items(&encoded)
    }

    /// Encodes a request of items that are already encoded.
    pub fn wrap_items(&self, EncodedItems { encoded, .. }: &EncodedItems) -> Bytes {
        let scope_len = self.scope.len() + encoded.len();
        let resource_len = self.resource.len() + delimited_len(SCOPE_GROUPS, scope_len);
        let mut request = Vec::with_capacity(delimited_len(RESOURCE_GROUPS, resource_len));
        put_delimited_head(&mut request, RESOURCE_GROUPS, resource_len);
        request.extend_from_slice(&self.resource);
        put_delimited_head(&mut request, SCOPE_GROUPS, scope_len);
        request.extend_from_slice(&self.scope);
        request.extend_from_slice(encoded);
        request.into()
    }
}

/// The items of a request, each encoded as it is added: this takes a fraction of the memory of the items themselves.
#[derive(Debug, Default)]
pub struct EncodedItems {
    encoded: Vec<u8>,
    count: usize,
}

impl EncodedItems {
    /// Encodes an item and appends it.
    pub fn push(&mut self, item: &impl Message) {
        put(&mut self.encoded, ITEMS, item);
        self.count += 1;
    }

    pub fn count(&self) -> usize {
        self.count
    }
}

/// A scope with the version of this extension.
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
    // Encoding fails only without capacity, and a vector grows.
    let _ = message.encode_length_delimited(out);
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};

    use super::*;
    use crate::otlp::attribute::{string, text};

    #[test]
    fn wrapped_items_equal_the_encoded_request() {
        let record = |body: &str| LogRecord { body: Some(text(body)), ..LogRecord::default() };
        let resource = Resource { attributes: vec![string("service.name", "orders")], ..Resource::default() };
        for (resource, scope) in
            [(resource, scope(SCOPE)), (Resource::default(), InstrumentationScope::default())]
        {
            for log_records in [vec![], vec![record("one")], vec![record("one"), record(&"two".repeat(100))]]
            {
                let encoded = RequestEnvelope::new(&resource, &scope).wrap(&log_records);
                let scope_logs =
                    ScopeLogs { scope: Some(scope.clone()), log_records, ..ScopeLogs::default() };
                let resource_len = ResourceLogs {
                    resource: Some(resource.clone()),
                    scope_logs: vec![scope_logs],
                    ..ResourceLogs::default()
                };
                let whole = ExportLogsServiceRequest { resource_logs: vec![resource_len] };
                assert_eq!(encoded, whole.encode_to_vec());
            }
        }
    }
}
