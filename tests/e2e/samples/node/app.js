// A function as people write it; the instrumentations are loaded before it.
const { trace } = require('@opentelemetry/api');

console.log('the function is being loaded');
const tracer = trace.getTracer('orders');

exports.handler = async (event, context) => {
  console.log('a plain line');
  console.warn('a line of a level');
  await tracer.startActiveSpan('price the order', async (span) => {
    console.log('a line within a span of its own');
    span.end();
  });
  if (event.fail) {
    throw new TypeError('no stock');
  }
  console.log('line one of two\nline two of two');
  return { handled: context.awsRequestId };
};
