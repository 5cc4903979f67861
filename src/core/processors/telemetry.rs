//! Visits the resources, scopes and items of a request, whatever its signal.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint, metric};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::{DecodeError, Message as _};

use super::ottl::{ContextItem, DataPoint, MetricHead, OttlContext};
use crate::signal::Signal;

/// A request of one signal. A trait object, so that processors are compiled once for all signals.
pub(super) trait DecodedRequest {
    fn visit_resources(&mut self, visit: &mut dyn FnMut(&mut Resource));

    fn visit_scopes(&mut self, visit: &mut dyn FnMut(&mut Resource, &mut InstrumentationScope));

    /// Visits each span, log record or metric, and removes those for which `visit` returns false. Scopes and resources without
    /// any are removed.
    fn retain(&mut self, visit: &mut ItemVisit<'_>);

    fn encode(&self) -> Vec<u8>;
}

/// Visits an item with its resource and scope. Returns false if the item is to be removed.
pub(super) type ItemVisit<'v> =
    dyn FnMut(&mut Resource, &mut InstrumentationScope, &mut dyn DecodedItem) -> bool + 'v;

macro_rules! request {
    ($request:ty, $resources:ident, $scopes:ident, $items:ident) => {
        impl DecodedRequest for $request {
            fn visit_resources(&mut self, visit: &mut dyn FnMut(&mut Resource)) {
                for group in &mut self.$resources {
                    visit(group.resource.get_or_insert_default());
                }
            }

            fn visit_scopes(&mut self, visit: &mut dyn FnMut(&mut Resource, &mut InstrumentationScope)) {
                for group in &mut self.$resources {
                    let resource = group.resource.get_or_insert_default();
                    for scope in &mut group.$scopes {
                        visit(resource, scope.scope.get_or_insert_default());
                    }
                }
            }

            fn retain(&mut self, visit: &mut ItemVisit<'_>) {
                self.$resources.retain_mut(|group| {
                    let resource = group.resource.get_or_insert_default();
                    group.$scopes.retain_mut(|group| {
                        let scope = group.scope.get_or_insert_default();
                        group.$items.retain_mut(|item| visit(resource, scope, item));
                        !group.$items.is_empty()
                    });
                    !group.$scopes.is_empty()
                });
            }

            fn encode(&self) -> Vec<u8> {
                self.encode_to_vec()
            }
        }
    };
}

request!(ExportTraceServiceRequest, resource_spans, scope_spans, spans);
request!(ExportLogsServiceRequest, resource_logs, scope_logs, log_records);
request!(ExportMetricsServiceRequest, resource_metrics, scope_metrics, metrics);

/// Decodes a request of this signal.
pub(super) fn decode(signal: Signal, request: &[u8]) -> Result<Box<dyn DecodedRequest>, DecodeError> {
    Ok(match signal {
        Signal::Traces => Box::new(ExportTraceServiceRequest::decode(request)?),
        Signal::Logs => Box::new(ExportLogsServiceRequest::decode(request)?),
        Signal::Metrics => Box::new(ExportMetricsServiceRequest::decode(request)?),
    })
}

/// A span, a log record or a metric.
pub(super) trait DecodedItem {
    /// Visits what this context has in the element, and removes that for which `visit` returns false. Returns false if the element
    /// itself is to be removed.
    fn visit(&mut self, context: OttlContext, visit: &mut dyn FnMut(ContextItem<'_>) -> bool) -> bool;

    /// Visits the attributes that the processor `attributes` changes.
    fn visit_attributes(&mut self, visit: &mut dyn FnMut(&mut Vec<KeyValue>));

    /// The number of items that it counts for.
    fn count(&mut self) -> usize {
        1
    }
}

impl DecodedItem for Span {
    fn visit(&mut self, context: OttlContext, visit: &mut dyn FnMut(ContextItem<'_>) -> bool) -> bool {
        match context {
            OttlContext::SpanEvent => {
                self.events.retain_mut(|event| visit(ContextItem::SpanEvent(event)));
                true
            }
            _ => visit(ContextItem::Span(self)),
        }
    }

    fn visit_attributes(&mut self, visit: &mut dyn FnMut(&mut Vec<KeyValue>)) {
        visit(&mut self.attributes);
    }
}

impl DecodedItem for LogRecord {
    fn visit(&mut self, _: OttlContext, visit: &mut dyn FnMut(ContextItem<'_>) -> bool) -> bool {
        visit(ContextItem::Log(self))
    }

    fn visit_attributes(&mut self, visit: &mut dyn FnMut(&mut Vec<KeyValue>)) {
        visit(&mut self.attributes);
    }
}

impl DecodedItem for Metric {
    fn visit(&mut self, context: OttlContext, visit: &mut dyn FnMut(ContextItem<'_>) -> bool) -> bool {
        if context != OttlContext::DataPoint {
            return visit(ContextItem::Metric(self));
        }
        let head = MetricHead::of(self);
        let mut kept = 0;
        visit_points(self, &head, &mut |point| {
            let keep = visit(ContextItem::DataPoint(point));
            kept += usize::from(keep);
            keep
        });
        kept > 0
    }

    fn visit_attributes(&mut self, visit: &mut dyn FnMut(&mut Vec<KeyValue>)) {
        visit_points(self, &MetricHead::default(), &mut |point| {
            visit(point.attributes);
            true
        });
    }

    fn count(&mut self) -> usize {
        let mut count = 0;
        visit_points(self, &MetricHead::default(), &mut |_| {
            count += 1;
            true
        });
        count
    }
}

/// Visits the data points of a metric, and removes those for which `visit` returns false.
fn visit_points(metric: &mut Metric, head: &MetricHead, visit: &mut dyn FnMut(DataPoint<'_>) -> bool) {
    macro_rules! points {
        ($points:expr) => {
            $points.retain_mut(|point| {
                visit(DataPoint { attributes: &mut point.attributes, value: None, metric: head })
            })
        };
    }
    let mut visit_number = |points: &mut Vec<NumberDataPoint>| {
        points.retain_mut(|point| {
            visit(DataPoint { attributes: &mut point.attributes, value: point.value, metric: head })
        });
    };
    match &mut metric.data {
        Some(metric::Data::Gauge(gauge)) => visit_number(&mut gauge.data_points),
        Some(metric::Data::Sum(sum)) => visit_number(&mut sum.data_points),
        Some(metric::Data::Histogram(histogram)) => points!(histogram.data_points),
        Some(metric::Data::ExponentialHistogram(histogram)) => points!(histogram.data_points),
        Some(metric::Data::Summary(summary)) => points!(summary.data_points),
        None => {}
    }
}
