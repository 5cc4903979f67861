//! Visits the resources, scopes and items of a request, whatever its signal.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint, metric};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;

use super::ottl::{ContextItem, DataPoint, MetricHead, OttlContext};

/// A request of one signal.
pub(super) trait DecodedRequest: prost::Message + Default {
    type Item: DecodedItem;

    /// Visits each resource.
    fn visit_resources(&mut self, visit: impl FnMut(&mut Resource));

    /// Visits each scope with its resource, and the items of it. Items, scopes and resources without content are removed.
    fn visit_scopes(
        &mut self,
        visit: impl FnMut(&mut Resource, &mut InstrumentationScope, &mut Vec<Self::Item>),
    );

    /// The number of items, as the signal counts them.
    fn items(&mut self) -> usize;
}

macro_rules! request {
    ($request:ty, $item:ty, $resources:ident, $scopes:ident, $items:ident) => {
        impl DecodedRequest for $request {
            type Item = $item;

            fn visit_resources(&mut self, mut visit: impl FnMut(&mut Resource)) {
                for group in &mut self.$resources {
                    visit(group.resource.get_or_insert_default());
                }
            }

            fn visit_scopes(
                &mut self,
                mut visit: impl FnMut(&mut Resource, &mut InstrumentationScope, &mut Vec<Self::Item>),
            ) {
                self.$resources.retain_mut(|group| {
                    let resource = group.resource.get_or_insert_default();
                    group.$scopes.retain_mut(|scope| {
                        visit(resource, scope.scope.get_or_insert_default(), &mut scope.$items);
                        !scope.$items.is_empty()
                    });
                    !group.$scopes.is_empty()
                });
            }

            fn items(&mut self) -> usize {
                let mut count = 0;
                self.visit_scopes(|_, _, items| {
                    count += items.iter_mut().map(DecodedItem::count).sum::<usize>()
                });
                count
            }
        }
    };
}

request!(ExportTraceServiceRequest, Span, resource_spans, scope_spans, spans);
request!(ExportLogsServiceRequest, LogRecord, resource_logs, scope_logs, log_records);
request!(ExportMetricsServiceRequest, Metric, resource_metrics, scope_metrics, metrics);

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
