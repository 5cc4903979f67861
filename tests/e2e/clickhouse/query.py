"""Fills ClickStack's tables in ClickHouse with what is in a folder, then answers queries: one a line comes in, a line of JSON
with its rows goes out.

query.py FOLDER, which has OTLP/JSON in logs.json, traces.json and metrics.json, a request a line. The rows are made of it as
the OpenTelemetry Collector's exporter for ClickHouse makes them. A field or a kind of metric that the tables here have no
place for is an error.
"""

import json
import sys
from pathlib import Path

from chdb.session import Session

SPAN_KINDS = ["Unspecified", "Internal", "Server", "Client", "Producer", "Consumer"]
STATUS_CODES = ["Unset", "Ok", "Error"]


def requests(folder, signal):
    return map(json.loads, (folder / f"{signal}.json").read_text().splitlines())


def scopes(folder, signal, resources, scopes):
    for request in requests(folder, signal):
        for of_resource in request[resources]:
            for of_scope in of_resource[scopes]:
                yield of_resource, of_scope


def plain(value):
    """A value without OTLP's names of types."""
    if not value:
        return None
    ((kind, inner),) = value.items()
    if kind == "intValue":
        return int(inner)
    if kind == "arrayValue":
        return [plain(item) for item in inner.get("values", [])]
    if kind == "kvlistValue":
        return {item["key"]: plain(item["value"]) for item in inner.get("values", [])}
    if kind in ("stringValue", "boolValue", "doubleValue", "bytesValue"):
        return inner
    raise ValueError(f"a value of kind {kind}")


def text(value):
    """A value as the exporter writes it: text as it stands, the rest as JSON."""
    value = plain(value)
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def attributes(owner):
    return {item["key"]: text(item.get("value")) for item in (owner or {}).get("attributes", [])}


def time(nanos):
    seconds, rest = divmod(int(nanos), 10**9)
    return f"{seconds}.{rest:09}"


def seconds(nanos):
    return int(nanos) // 10**9


def common(of_resource, of_scope):
    resource, scope = attributes(of_resource.get("resource")), of_scope.get("scope") or {}
    return {
        "ServiceName": resource.get("service.name", ""),
        "ResourceAttributes": resource,
        "ScopeName": scope.get("name", ""),
        "ScopeVersion": scope.get("version", ""),
    }


def with_schema(row, of_resource, of_scope):
    return row | {
        "ResourceSchemaUrl": of_resource.get("schemaUrl", ""),
        "ScopeSchemaUrl": of_scope.get("schemaUrl", ""),
        "ScopeAttributes": attributes(of_scope.get("scope")),
    }


def logs(folder):
    for of_resource, of_scope in scopes(folder, "logs", "resourceLogs", "scopeLogs"):
        for log in of_scope["logRecords"]:
            yield "otel_logs", with_schema(common(of_resource, of_scope), of_resource, of_scope) | {
                "Timestamp": time(int(log.get("timeUnixNano", 0)) or log["observedTimeUnixNano"]),
                "TraceId": log.get("traceId", ""),
                "SpanId": log.get("spanId", ""),
                "TraceFlags": log.get("flags", 0) & 0xFF,
                "SeverityText": log.get("severityText", ""),
                "SeverityNumber": log.get("severityNumber", 0),
                "Body": text(log.get("body")),
                "LogAttributes": attributes(log),
                "EventName": log.get("eventName", ""),
            }


def spans(folder):
    for of_resource, of_scope in scopes(folder, "traces", "resourceSpans", "scopeSpans"):
        for span in of_scope["spans"]:
            start, end = int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])
            status, events, links = span.get("status") or {}, span.get("events", []), span.get("links", [])
            yield "otel_traces", common(of_resource, of_scope) | {
                "Timestamp": time(start),
                "TraceId": span["traceId"],
                "SpanId": span["spanId"],
                "ParentSpanId": span.get("parentSpanId", ""),
                "TraceState": span.get("traceState", ""),
                "SpanName": span["name"],
                "SpanKind": SPAN_KINDS[span.get("kind", 0)],
                "SpanAttributes": attributes(span),
                "Duration": end - start,
                "StatusCode": STATUS_CODES[status.get("code", 0)],
                "StatusMessage": status.get("message", ""),
                "Events.Timestamp": [time(event["timeUnixNano"]) for event in events],
                "Events.Name": [event["name"] for event in events],
                "Events.Attributes": [attributes(event) for event in events],
                "Links.TraceId": [link["traceId"] for link in links],
                "Links.SpanId": [link["spanId"] for link in links],
                "Links.TraceState": [link.get("traceState", "") for link in links],
                "Links.Attributes": [attributes(link) for link in links],
            }


def points(folder):
    for of_resource, of_scope in scopes(folder, "metrics", "resourceMetrics", "scopeMetrics"):
        for metric in of_scope["metrics"]:
            ((kind, data),) = ((key, metric[key]) for key in metric if key in ("gauge", "sum", "histogram"))
            for point in data["dataPoints"]:
                row = with_schema(common(of_resource, of_scope), of_resource, of_scope) | {
                    "MetricName": metric["name"],
                    "MetricDescription": metric.get("description", ""),
                    "MetricUnit": metric.get("unit", ""),
                    "Attributes": attributes(point),
                    "StartTimeUnix": seconds(point.get("startTimeUnixNano", 0)),
                    "TimeUnix": seconds(point["timeUnixNano"]),
                    "Flags": point.get("flags", 0),
                }
                if kind == "histogram":
                    row |= {
                        "Count": int(point["count"]),
                        "Sum": point.get("sum") or 0,
                        "BucketCounts": [int(count) for count in point["bucketCounts"]],
                        "ExplicitBounds": point["explicitBounds"],
                        "Min": point.get("min") or 0,
                        "Max": point.get("max") or 0,
                    }
                else:
                    row["Value"] = float(point.get("asDouble", point.get("asInt", 0)))
                if kind != "gauge":
                    row["AggregationTemporality"] = data["aggregationTemporality"]
                if kind == "sum":
                    row["IsMonotonic"] = data.get("isMonotonic", False)
                yield f"otel_metrics_{kind}", row


def main():
    folder = Path(sys.argv[1])
    clickhouse = Session()
    for statement in (Path(__file__).parent / "schema.sql").read_text().split(";"):
        if statement.strip():
            clickhouse.query(statement)
    rows = {}
    for read in (logs, spans, points):
        for table, row in read(folder):
            rows.setdefault(table, []).append(json.dumps(row))
    for table, lines in rows.items():
        clickhouse.query(f"INSERT INTO {table} FORMAT JSONEachRow\n" + "\n".join(lines))
    for query in sys.stdin:
        answer = str(clickhouse.query(query, "JSONCompactEachRow"))
        print(json.dumps([json.loads(line) for line in answer.splitlines()]), flush=True)


main()
