"""A function as people write it, instrumented by the published packages, on `awslambdaric`."""

import logging
import os

from opentelemetry import trace
from opentelemetry.instrumentation.aws_lambda import AwsLambdaInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

if os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"] == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
else:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

print("the function is being loaded")
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("orders")
logger = logging.getLogger("orders")


def handler(event, context):
    print("a plain line")
    logger.warning("a line through logging")
    with tracer.start_as_current_span("price the order"):
        print("a line within a span of its own")
    if event.get("fail"):
        raise ValueError("no stock")
    print("line one of two\nline two of two")
    return {"handled": context.aws_request_id}


AwsLambdaInstrumentor().instrument()
