// What the layers of OpenTelemetry for Lambda load with `node --require`, as far as spans need it.
const { registerInstrumentations } = require('@opentelemetry/instrumentation');
const { AwsLambdaInstrumentation } = require('@opentelemetry/instrumentation-aws-lambda');
const { BatchSpanProcessor, NodeTracerProvider } = require('@opentelemetry/sdk-trace-node');

const { OTLPTraceExporter } = require(
  process.env.OTEL_EXPORTER_OTLP_PROTOCOL === 'grpc'
    ? '@opentelemetry/exporter-trace-otlp-grpc'
    : '@opentelemetry/exporter-trace-otlp-proto',
);

const tracerProvider = new NodeTracerProvider({
  spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())],
});
tracerProvider.register();
registerInstrumentations({ tracerProvider, instrumentations: [new AwsLambdaInstrumentation()] });
