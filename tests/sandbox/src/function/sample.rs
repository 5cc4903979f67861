//! The demo function: some of everything that a function emits.

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};

use super::otlp::{attribute, counter, metrics, span, spans, text, trace_id};
use super::{Context, Failure, Transport};
use crate::clock;
use crate::otlp::{Payload, Signal};

/// Handles a made-up order.
pub(super) async fn handle(context: Context, transport: Transport) -> Result<Value, Failure> {
    let logs = Signal::Logs;
    context.log(format!("[INFO] order received {}", context.mark(logs)));
    context.log(format!("plain text without a level, no newline at its end {}", context.mark(logs)));
    context.log_json(json!({
        "timestamp": clock::rfc3339(clock::wall()),
        "level": "INFO",
        "requestId": context.request_id,
        "message": "order priced",
        "item": context.mark(logs),
        "price": {"amount": 12.5, "currency": "EUR"},
    }));
    context.log_json(json!({
        "timestamp": clock::rfc3339(clock::wall()),
        "level": "ERROR",
        "requestId": context.request_id,
        "message": "the payment service said no",
        "item": context.mark(logs),
        "errorType": "PaymentDeclined",
        "attempt": 2,
        "tags": ["payment", "retry"],
    }));
    let exports = [traces(&context), metrics(vec![points(&context)])];
    for payload in exports {
        context.exporter().send(transport, &payload).await.map_err(|error| {
            context.log(format!("[ERROR] the SDK could not export: {error}"));
            Failure::new("ExportError", error.to_string())
        })?;
    }
    if context.payload.get("fail") == Some(&Value::Bool(true)) {
        context.log(format!("[ERROR] the order cannot be delivered {}", context.mark(logs)));
        return Err(Failure::new("DeliveryError", "the order cannot be delivered"));
    }
    Ok(json!({"handled": context.request_id}))
}

/// The span of the invocation, as Lambda SDKs create it, and two child spans.
fn traces(context: &Context) -> Payload {
    let trace = trace_id();
    let mark = || text("sandbox.item", &context.mark(Signal::Traces));
    let attributes = vec![
        mark(),
        text("faas.invocation_id", &context.request_id),
        text("cloud.resource_id", &context.invoked_arn),
        text("faas.trigger", "other"),
        attribute("faas.coldstart", Any::BoolValue(context.cold_start)),
    ];
    let mut invocation = span("sample", &trace, &[], attributes);
    invocation.kind = SpanKind::Server.into();
    let parent = invocation.span_id.clone();
    let price = span("price the order", &trace, &parent, vec![mark()]);
    let pay = span("ask the payment service", &trace, &parent, vec![mark()]);
    spans(vec![invocation, price, pay])
}

fn points(context: &Context) -> opentelemetry_proto::tonic::metrics::v1::Metric {
    counter("orders.handled", vec![vec![text("sandbox.item", &context.mark(Signal::Metrics))]])
}
