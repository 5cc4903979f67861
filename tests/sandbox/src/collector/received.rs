//! What the collector was sent, decoded and kept.

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

/// How many items the collector holds.
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

/// Which of the two protocols a request came by.
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
    /// What it carries.
    pub signal: Signal,
    /// How it came.
    pub protocol: Protocol,
    /// When its head arrived, for measuring.
    pub at: Instant,
    /// When its head arrived, by the clock on the wall.
    pub time: SystemTime,
    /// HTTP headers, or gRPC metadata.
    pub headers: HeaderMap,
    /// `gzip`, `zstd` …; none if the body was sent plain.
    pub compression: Option<String>,
    /// Bytes of the body as they came over the wire, compressed and with gRPC's framing.
    pub wire_bytes: usize,
    /// Which TCP connection it came by; each has its own number.
    pub connection: u64,
    /// The other end of that connection.
    pub peer: SocketAddr,
    /// What became of it.
    pub outcome: Outcome,
    /// Its content; none if it was turned away unread.
    pub payload: Option<Payload>,
}

/// What the collector did with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Kept, and acknowledged.
    Kept,
    /// Kept, and acknowledged as a partial success that rejects so many items. They are kept here all the same.
    KeptInPart {
        /// As sent to the client.
        rejected: i64,
    },
    /// Kept, but the connection was cut before the answer.
    KeptUnanswered,
    /// Turned away with this HTTP status (over gRPC, with the code that goes with it).
    Refused(u16),
    /// Not kept and never answered.
    Hung,
    /// The connection was cut while the body was being read.
    Cut,
}

/// A log record, a metric or a span with what it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a, T> {
    /// The request that brought it.
    pub request: &'a Request,
    /// The attributes of its resource.
    pub resource: &'a [KeyValue],
    /// Its scope.
    pub scope: Option<&'a InstrumentationScope>,
    /// Itself.
    pub item: &'a T,
}

impl<T> Item<'_, T> {
    /// Whether the extension made it of the platform's events.
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

    /// Items in the requests that were kept, without those that the extension made of the platform's events.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Items in the requests that were kept that the extension made of the platform's events.
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
    /// Whether the collector has the items.
    pub fn is_kept(self) -> bool {
        matches!(self, Self::Kept | Self::KeptInPart { .. } | Self::KeptUnanswered)
    }
}

fn attributes(resource: Option<&Resource>) -> &[KeyValue] {
    resource.map_or(&[], |resource| resource.attributes.as_slice())
}
