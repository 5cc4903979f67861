"""A function as people write it. `opentelemetry-instrument` starts it, so it knows only OpenTelemetry's API."""

import logging

from opentelemetry import trace

print("the function is being loaded")
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
