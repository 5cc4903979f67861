// A plain loop over the Runtime API, which writes as Lambda's runtime for Node.js does:
// `time\trequestId\tLEVEL\tmessage`, newlines within a message as carriage returns.
const http = require('node:http');
const path = require('node:path');
const { format } = require('node:util');

const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');
let requestId;

function write(level, ...words) {
  const message = format(...words).replaceAll('\n', '\r');
  process.stdout.write(`${new Date().toISOString()}\t${requestId}\t${level}\t${message}\n`);
}
console.log = (...words) => write('INFO', ...words);
console.warn = (...words) => write('WARN', ...words);
console.error = (...words) => write('ERROR', ...words);

function call(method, route, body) {
  return new Promise((resolve, reject) => {
    const request = http.request(
      { host, port, method, path: `/2018-06-01/runtime/invocation/${route}` },
      (answer) => {
        const parts = [];
        answer.on('data', (part) => parts.push(part));
        answer.on('end', () => resolve({ headers: answer.headers, body: Buffer.concat(parts) }));
      },
    );
    request.on('error', reject);
    request.end(body);
  });
}

async function main() {
  const [file, name] = process.env._HANDLER.split('.');
  const handler = require(path.resolve(process.env.LAMBDA_TASK_ROOT, file))[name];
  for (;;) {
    const { headers, body } = await call('GET', 'next');
    requestId = headers['lambda-runtime-aws-request-id'];
    process.env._X_AMZN_TRACE_ID = headers['lambda-runtime-trace-id'];
    const context = {
      awsRequestId: requestId,
      functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
      invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
    };
    try {
      const result = await handler(JSON.parse(body), context);
      await call('POST', `${requestId}/response`, JSON.stringify(result));
    } catch (error) {
      const told = { errorType: error.name, errorMessage: error.message, stack: error.stack.split('\n') };
      console.error('Invoke Error', JSON.stringify(told));
      await call('POST', `${requestId}/error`, JSON.stringify(told));
    }
  }
}

main();
