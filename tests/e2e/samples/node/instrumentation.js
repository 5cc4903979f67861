// What the layers of OpenTelemetry for Lambda load with `node --require`: the instrumentations get the provider itself, for that
// of Lambda has it send its spans before an invocation ends. `auto-instrumentations-node/register` gives them one that stands
// in for it, and the spans come with a later invocation.
const { getNodeAutoInstrumentations } = require('@opentelemetry/auto-instrumentations-node');
const { registerInstrumentations } = require('@opentelemetry/instrumentation');
const { BatchSpanProcessor, NodeTracerProvider } = require('@opentelemetry/sdk-trace-node');

const exporters = { grpc: 'grpc', 'http/protobuf': 'proto', 'http/json': 'http' };
const { OTLPTraceExporter } = require(
  `@opentelemetry/exporter-trace-otlp-${exporters[process.env.OTEL_EXPORTER_OTLP_PROTOCOL]}`,
);

const tracerProvider = new NodeTracerProvider({
  spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())],
});
tracerProvider.register();
registerInstrumentations({ tracerProvider, instrumentations: [getNodeAutoInstrumentations()] });
