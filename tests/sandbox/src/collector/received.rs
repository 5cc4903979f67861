//! The requests received by the collector, decoded and kept.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::HeaderMap;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;

use crate::otlp::{self, Payload, Signal};

/// All requests so far, oldest first. A snapshot: cloning shares the requests.
#[derive(Clone, Debug, Default)]
pub struct Received {
    requests: Vec<Arc<Request>>,
    counts: Counts,
    of_platform: Counts,
}

/// The number of items the collector holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Log records.
    pub logs: usize,
    /// Metric data points.
    pub metric_points: usize,
    /// Spans.
    pub spans: usize,
}

impl Counts {
    /// The count of one signal.
    pub fn of(self, signal: Signal) -> usize {
        match signal {
            Signal::Logs => self.logs,
            Signal::Metrics => self.metric_points,
            Signal::Traces => self.spans,
        }
    }

    fn add(&mut self, signal: Signal, items: usize) {
        match signal {
            Signal::Logs => self.logs += items,
            Signal::Metrics => self.metric_points += items,
            Signal::Traces => self.spans += items,
        }
    }
}

/// The protocol of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// OTLP/gRPC.
    Grpc,
    /// OTLP/HTTP.
    Http,
}

/// One export request that reached the collector.
#[derive(Clone, Debug)]
pub struct Request {
    pub signal: Signal,
    pub protocol: Protocol,
    /// The arrival of its head, for measuring.
    pub at: Instant,
    /// The arrival of its head, by the wall clock.
    pub time: SystemTime,
    /// HTTP headers, or gRPC metadata.
    pub headers: HeaderMap,
    /// `gzip`, `zstd` …; none if the body was sent uncompressed.
    pub compression: Option<String>,
    /// The size of the body on the wire, compressed and with gRPC framing.
    pub wire_bytes: usize,
    /// The number of its TCP connection.
    pub connection: u64,
    /// The other end of that connection.
    pub peer: SocketAddr,
    pub outcome: Outcome,
    /// Its content; none if it was rejected unread.
    pub payload: Option<Payload>,
}

/// The way the collector handled a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Kept and acknowledged.
    Kept,
    /// Kept, and acknowledged as a partial success that claims to reject some items. They are kept here anyway.
    KeptInPart {
        /// The number of rejected items sent to the client.
        rejected: i64,
    },
    /// Kept, but the connection was cut before the answer.
    KeptUnanswered,
    /// Rejected with this HTTP status (over gRPC, with the corresponding code).
    Refused(u16),
    /// Not kept and never answered.
    Hung,
    /// The connection was cut while the body was being read.
    Cut,
}

/// A log record, a metric or a span, with its request, resource and scope.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a, T> {
    /// The request that contained it.
    pub request: &'a Request,
    /// The attributes of its resource.
    pub resource: &'a [KeyValue],
    pub scope: Option<&'a InstrumentationScope>,
    pub item: &'a T,
}

impl<T> Item<'_, T> {
    /// Returns true if the extension built it from platform events.
    pub fn is_of_platform(&self) -> bool {
        otlp::is_of_platform(self.scope)
    }

    /// A resource attribute, as text.
    pub fn resource_attribute(&self, key: &str) -> Option<String> {
        otlp::attribute(self.resource, key)
    }
}

impl Item<'_, LogRecord> {
    /// An attribute of the record, as text.
    pub fn attribute(&self, key: &str) -> Option<String> {
        otlp::attribute(&self.item.attributes, key)
    }

    /// The body, as text.
    pub fn body(&self) -> String {
        self.item.body.as_ref().map_or_else(String::new, |body| otlp::Text(body).to_string())
    }
}

impl Item<'_, Span> {
    /// An attribute of the span, as text.
    pub fn attribute(&self, key: &str) -> Option<String> {
        otlp::attribute(&self.item.attributes, key)
    }
}

impl Received {
    /// Every request that reached the collector, kept or not.
    pub fn requests(&self) -> impl Iterator<Item = &Request> {
        self.requests.iter().map(AsRef::as_ref)
    }

    /// The requests that were kept.
    pub fn kept(&self) -> impl Iterator<Item = &Request> {
        self.requests().filter(|request| request.outcome.is_kept())
    }

    /// The number of items in the kept requests, without those that the extension built from platform events.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The number of items in the kept requests that the extension built from platform events.
    pub fn platform_counts(&self) -> Counts {
        self.of_platform
    }

    /// Every log record kept.
    pub fn logs(&self) -> impl Iterator<Item = Item<'_, LogRecord>> {
        self.kept().flat_map(|request| {
            let resources = match &request.payload {
                Some(Payload::Logs(logs)) => logs.resource_logs.as_slice(),
                _ => &[],
            };
            resources.iter().flat_map(move |of| {
                of.scope_logs.iter().flat_map(move |scope| {
                    scope.log_records.iter().map(move |item| Item {
                        request,
                        resource: attributes(of.resource.as_ref()),
                        scope: scope.scope.as_ref(),
                        item,
                    })
                })
            })
        })
    }

    /// Every span kept.
    pub fn spans(&self) -> impl Iterator<Item = Item<'_, Span>> {
        self.kept().flat_map(|request| {
            let resources = match &request.payload {
                Some(Payload::Traces(traces)) => traces.resource_spans.as_slice(),
                _ => &[],
            };
            resources.iter().flat_map(move |of| {
                of.scope_spans.iter().flat_map(move |scope| {
                    scope.spans.iter().map(move |item| Item {
                        request,
                        resource: attributes(of.resource.as_ref()),
                        scope: scope.scope.as_ref(),
                        item,
                    })
                })
            })
        })
    }

    /// Every metric kept; each may hold several data points.
    pub fn metrics(&self) -> impl Iterator<Item = Item<'_, Metric>> {
        self.kept().flat_map(|request| {
            let resources = match &request.payload {
                Some(Payload::Metrics(metrics)) => metrics.resource_metrics.as_slice(),
                _ => &[],
            };
            resources.iter().flat_map(move |of| {
                of.scope_metrics.iter().flat_map(move |scope| {
                    scope.metrics.iter().map(move |item| Item {
                        request,
                        resource: attributes(of.resource.as_ref()),
                        scope: scope.scope.as_ref(),
                        item,
                    })
                })
            })
        })
    }

    pub(super) fn push(&mut self, request: Request) {
        if let (true, Some(payload)) = (request.outcome.is_kept(), &request.payload) {
            let of_platform = payload.items_of_platform();
            self.counts.add(request.signal, payload.items() - of_platform);
            self.of_platform.add(request.signal, of_platform);
        }
        self.requests.push(Arc::new(request));
    }
}

impl Outcome {
    /// Returns true if the collector has the items.
    pub fn is_kept(self) -> bool {
        matches!(self, Self::Kept | Self::KeptInPart { .. } | Self::KeptUnanswered)
    }
}

fn attributes(resource: Option<&Resource>) -> &[KeyValue] {
    resource.map_or(&[], |resource| resource.attributes.as_slice())
}
