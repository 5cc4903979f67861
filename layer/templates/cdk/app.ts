// npm ci && npx cdk deploy -c layerArn=… -c endpoint=https://… -c keyArn=… [-c kmsKeyArn=…] [-c cloudWatchLogs=off]
import { App } from 'aws-cdk-lib';
import { OrdersStack } from './stack';

const app = new App();

function context(name: string): string | undefined {
  const value: unknown = app.node.tryGetContext(name);
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function required(name: string): string {
  const value = context(name);
  if (value === undefined) {
    throw new Error(`${name} is missing; give it with: -c ${name}=…`);
  }
  return value;
}

const cloudWatchLogs = context('cloudWatchLogs') ?? 'on';
if (cloudWatchLogs !== 'on' && cloudWatchLogs !== 'off') {
  throw new Error(`cloudWatchLogs is "${cloudWatchLogs}"; write on or off`);
}

new OrdersStack(app, 'Orders', {
  layerArn: required('layerArn'),
  endpoint: required('endpoint'),
  keyArn: required('keyArn'),
  kmsKeyArn: context('kmsKeyArn'),
  cloudWatchLogs: cloudWatchLogs === 'on',
});
