// A function whose logs and traces go to ClickStack through the rotel-extension layer.
import { Arn, ArnFormat, CfnOutput, Duration, Stack, type StackProps } from 'aws-cdk-lib';
import { ManagedPolicy, PolicyStatement, Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import { Architecture, Code, Function, LayerVersion, Runtime } from 'aws-cdk-lib/aws-lambda';
import type { Construct } from 'constructs';

export interface OrdersProps extends StackProps {
  /** The layer's version in the stack's region, for x86_64 (rotel-extension-amd64). */
  readonly layerArn: string;
  /** The ClickStack OTLP endpoint, such as https://clickstack.example.com:4317. */
  readonly endpoint: string;
  /** The Secrets Manager secret, or the Parameter Store parameter, that holds the ingestion API key. */
  readonly keyArn: string;
  /** Only if that is encrypted with a KMS key of your own, the KMS key. */
  readonly kmsKeyArn: string | undefined;
  /** Whether the logs go to CloudWatch Logs too. */
  readonly cloudWatchLogs: boolean;
}

export class OrdersStack extends Stack {
  constructor(scope: Construct, id: string, props: OrdersProps) {
    super(scope, id, props);

    // A role of its own: the one that a function gets otherwise always has AWSLambdaBasicExecutionRole.
    const role = new Role(this, 'Role', {
      assumedBy: new ServicePrincipal('lambda.amazonaws.com'),
      managedPolicies: props.cloudWatchLogs
        ? [ManagedPolicy.fromAwsManagedPolicyName('service-role/AWSLambdaBasicExecutionRole')]
        : [],
    });
    // Several secrets are fetched by secretsmanager:BatchGetSecretValue, if the role has it, on '*': it knows no resources,
    // and gives no value without GetSecretValue on its secret.
    role.addToPolicy(new PolicyStatement({
      actions: [keyIsSecret(props.keyArn) ? 'secretsmanager:GetSecretValue' : 'ssm:GetParameters'],
      resources: [props.keyArn],
    }));
    // AWS's own keys, aws/secretsmanager and aws/ssm, need no permission.
    if (props.kmsKeyArn !== undefined) {
      role.addToPolicy(new PolicyStatement({ actions: ['kms:Decrypt'], resources: [props.kmsKeyArn] }));
    }

    const orders = new Function(this, 'Function', {
      code: Code.fromAsset('../function'),
      handler: 'index.handler',
      runtime: Runtime.NODEJS_24_X,
      architecture: Architecture.X86_64,
      memorySize: 256,
      timeout: Duration.seconds(10),
      role,
      layers: [LayerVersion.fromLayerVersionArn(this, 'RotelExtension', props.layerArn)],
      environment: {
        ROTEL_OTLP_EXPORTER_ENDPOINT: props.endpoint,
        // ${…} is TypeScript's here, $<…> the extension's.
        ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS: `Authorization=$<${props.keyArn}>`,
        ROTEL_OTEL_RESOURCE_ATTRIBUTES: 'service.name=orders,service.version=1.0.0',
      },
    });

    new CfnOutput(this, 'FunctionName', { value: orders.functionName, description: 'For aws lambda invoke' });
  }
}

/** Throws for what is neither a secret nor a parameter. */
function keyIsSecret(arn: string): boolean {
  const { service } = Arn.split(arn, ArnFormat.NO_RESOURCE_NAME);
  if (service !== 'secretsmanager' && service !== 'ssm') {
    throw new Error(`keyArn is of ${service}; give the ARN of a Secrets Manager secret or of a Parameter Store parameter`);
  }
  return service === 'secretsmanager';
}
