"""Checks the templates with the tools that people deploy them with, and what comes out of them against what they promise.

`make templates` installs the tools and runs this in target/templates/work, on a copy of the templates.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import hcl2
import hcl2.utils
from samcli.yamlhelper import yaml_parse

EXTENSION = os.environ["EXTENSION"]
TOOLS = Path(sys.executable).parent

LAYER = "arn:aws:lambda:us-east-1:123456789012:layer:rotel-extension-amd64:7"
ENDPOINT = "https://clickstack.example.com:4317"
SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:clickstack-api-key-abc123"
PARAMETER = "arn:aws:ssm:us-east-1:123456789012:parameter/clickstack-api-key"
KMS_KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
LOGGING = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"]

# Two deployments that differ in everything that there is to choose.
DEPLOYMENTS = [
    {"layerArn": LAYER, "endpoint": ENDPOINT, "keyArn": SECRET},
    {"layerArn": LAYER, "endpoint": ENDPOINT, "keyArn": PARAMETER, "kmsKeyArn": KMS_KEY, "cloudWatchLogs": "off"},
]


class Finding(Exception):
    """Something is wrong with a template."""


def run(*command, folder=".", **variables):
    """Runs a tool, which must succeed; what it says is shown only if it does not."""
    environment = {**os.environ, "SAM_CLI_TELEMETRY": "0", "CDK_DISABLE_CLI_TELEMETRY": "true", **variables}
    done = subprocess.run(list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise Finding(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def expect(what, seen, wanted):
    if seen != wanted:
        raise Finding(f"{what}: {json.dumps(seen, indent=2)}\nwanted: {json.dumps(wanted, indent=2)}")


def check_function():
    """The handler, called as the runtime calls it."""
    script = """
        const { handler } = await import(process.argv[1]);
        const total = await handler({ lines: [{ price: 2, quantity: 3 }, { price: 5, quantity: 7 }] });
        const none = await handler({});
        const wrong = await handler({ lines: [{}] }).catch((error) => error.name);
        console.log(JSON.stringify([total, none, wrong]));
    """
    said = run("node", "--input-type=module", "--eval", script, Path("function/index.mjs").resolve())
    *logged, answers = map(json.loads, said.splitlines())
    expect("the function's answers", answers, [{"total": 41}, {"total": 0}, "TypeError"])
    expect("the function's log lines", [line["level"] for line in logged], ["info", "warn"])


def check_sam():
    template = "sam/template.yaml"
    run(TOOLS / "cfn-lint", template)
    run(TOOLS / "sam", "validate", "--lint", "--region", "us-east-1", "--template", template)
    document = yaml_parse(Path(template).read_text())
    for deployment in DEPLOYMENTS:
        # The parameters are those of the other templates, in CloudFormation's spelling.
        given = {name[0].upper() + name[1:]: value for name, value in deployment.items()}
        stack = CloudFormation(document, given)
        function = stack.only("AWS::Serverless::Function")
        check_what_runs(function, deployment)
        # SAM adds AWSLambdaBasicExecutionRole by itself.
        statements = [statement for policy in function["Policies"] for statement in policy["Statement"]]
        denied = {"Effect": "Deny", "Action": LOGGING, "Resource": "*"}
        wanted = permissions(deployment) + ([denied] if deployment.get("cloudWatchLogs") == "off" else [])
        expect("SAM's policy", statements, wanted)
        if not Path("sam", function["CodeUri"], "index.mjs").is_file():
            raise Finding(f"CodeUri: {function['CodeUri']} has no index.mjs")


def check_cdk():
    for number, deployment in enumerate(DEPLOYMENTS):
        context = [argument for name, value in deployment.items() for argument in ("-c", f"{name}={value}")]
        run("npx", "--no-install", "cdk", "synth", "--quiet", "--no-notices", "--output", f"out-{number}", *context, folder="cdk")
        template = Path(f"cdk/out-{number}/Orders.template.json")
        # W3005: the CDK names dependencies that CloudFormation sees by itself.
        run(TOOLS / "cfn-lint", "--ignore-checks", "W3005", "--", template)
        stack = CloudFormation(json.loads(template.read_text()), {})
        check_what_runs(stack.only("AWS::Lambda::Function"), deployment)
        check_role(stack.only("AWS::IAM::Role"), deployment)
        statements = stack.only("AWS::IAM::Policy")["PolicyDocument"]["Statement"]
        expect("the CDK's policy", statements, permissions(deployment))


def check_serverless():
    for deployment in DEPLOYMENTS:
        # It leaves a KMS key to the reader.
        deployment = {name: value for name, value in deployment.items() if name != "kmsKeyArn"}
        parameters = [argument for pair in deployment.items() for argument in ("--param", "=".join(pair))]
        # It asks nothing of AWS here, but wants to be able to.
        credentials = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}
        run("npx", "--no-install", "osls", "package", *parameters, folder="serverless", **credentials)
        template = Path("serverless/.serverless/cloudformation-template-update-stack.json")
        # W3005: the framework names dependencies that CloudFormation sees by itself. W8003: its variables are filled in, so
        # that conditions on them are constant.
        run(TOOLS / "cfn-lint", "--ignore-checks", "W3005", "W8003", "--", template)
        stack = CloudFormation(json.loads(template.read_text()), {})
        check_what_runs(stack.only("AWS::Lambda::Function"), deployment)
        role = stack.only("AWS::IAM::Role")
        check_role(role, deployment)
        statements = [statement for policy in role["Policies"] for statement in policy["PolicyDocument"]["Statement"]]
        expect("the framework's policy", statements, permissions(deployment))
        groups = stack.all("AWS::Logs::LogGroup")
        expect("log groups", len(groups), 0 if deployment.get("cloudWatchLogs") == "off" else 1)


def check_terraform():
    """What shows without the providers, which no package registry has: syntax, and that all that is named is there."""
    source = Path("terraform/main.tf").read_text()
    options = hcl2.utils.SerializationOptions(with_comments=False, strip_string_quotes=True)
    document = hcl2.loads(source, serialization_options=options)
    declared = {f"var.{name}" for block in document["variable"] for name in names(block)}
    declared |= {f"local.{name}" for block in document["locals"] for name in names(block)}
    for kind, prefix in [("resource", ""), ("data", "data.")]:
        declared |= {f"{prefix}{type_}.{name}" for block in document[kind] for type_ in names(block) for name in names(block[type_])}
    providers = {name for block in document["terraform"] for wanted in block["required_providers"] for name in names(wanted)}
    types = {name.removeprefix("data.").split(".")[0] for name in declared if not name.startswith(("var.", "local."))}
    expect("the providers that are used", sorted({name.split("_")[0] for name in types}), sorted(providers))

    used = set()
    for expression in expressions(document):
        found = re.findall(r"\b(?:var\.\w+|local\.\w+|data\.\w+\.\w+|(?<!data\.)(?:aws|archive)_\w+\.\w+)", expression)
        used |= set(found)
    expect("what is used and not declared", sorted(used - declared), [])
    unused = {name for name in declared - used if name.startswith(("var.", "local.", "data."))}
    expect("what is declared and not used", sorted(unused), [])

    [function] = [block["aws_lambda_function"]["orders"] for block in document["resource"] if "aws_lambda_function" in block]
    variables = function["environment"][0]["variables"]
    for deployment in DEPLOYMENTS:
        values = {"var.layer_arn": LAYER, "var.endpoint": ENDPOINT, "var.key_arn": deployment["keyArn"]}
        filled = {
            name: re.sub(r"\$\{([^}]*)\}", lambda match: values[match[1]], value) for name, value in variables.items() if name != "__is_block__"
        }
        expect("Terraform's layers", function["layers"], ["${var.layer_arn}"])
        check_variables(filled, deployment)


def names(block):
    return [name for name in block if not name.startswith("__")]


def expressions(node):
    """Every text of a document of HCL; what is computed stands in ${…} there."""
    if isinstance(node, dict):
        return [text for name, value in node.items() for text in expressions(value)]
    if isinstance(node, list):
        return [text for value in node for text in expressions(value)]
    return [node] if isinstance(node, str) and "${" in node else []


def permissions(deployment):
    """The least that the role needs."""
    action = "secretsmanager:GetSecretValue" if deployment["keyArn"] == SECRET else "ssm:GetParameters"
    statements = [{"Effect": "Allow", "Action": action, "Resource": deployment["keyArn"]}]
    if "kmsKeyArn" in deployment:
        statements.append({"Effect": "Allow", "Action": "kms:Decrypt", "Resource": deployment["kmsKeyArn"]})
    return statements


def check_role(role, deployment):
    """The managed policy for CloudWatch Logs is there or not; the rest is in statements."""
    managed = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
    wanted = [] if deployment.get("cloudWatchLogs") == "off" else [managed]
    expect("managed policies", role.get("ManagedPolicyArns", []), wanted)


def check_what_runs(function, deployment):
    expect("layers", function["Layers"], [LAYER])
    expect("the handler", function["Handler"], "index.handler")
    check_variables(function["Environment"]["Variables"], deployment)


def check_variables(variables, deployment):
    """Checks that the extension accepts the variables without error or warning, and that the key is their only secret."""
    command = [EXTENSION, "--check", "--offline"]
    done = subprocess.run(command, env={**variables, "AWS_LAMBDA_FUNCTION_NAME": "orders"}, capture_output=True, text=True)
    sections = dict(section.split("\n", 1) for section in done.stdout.strip().split("\n\n") if "\n" in section)
    if done.returncode != 0 or set(sections) != {"Configuration", "Secrets (not fetched)"}:
        raise Finding(f"rotel-extension --check --offline with {variables}:\n{done.stdout}{done.stderr}")
    expect("the secrets", sections["Secrets (not fetched)"].split(), [deployment["keyArn"]])
    expect("the endpoint", variables["ROTEL_OTLP_EXPORTER_ENDPOINT"], ENDPOINT)


class CloudFormation:
    """A template whose parameters, conditions and functions are worked out, as far as these templates use them."""

    PSEUDO = {"AWS::Partition": "aws", "AWS::Region": "us-east-1", "AWS::AccountId": "123456789012"}
    NOTHING = object()

    def __init__(self, template, given):
        declared = template.get("Parameters", {})
        self.values = {name: given.get(name, parameter.get("Default")) for name, parameter in declared.items()}
        unknown = set(given) - set(declared)
        if unknown:
            raise Finding(f"no such parameters: {unknown}")
        for name, value in given.items():
            if not re.match(declared[name].get("AllowedPattern", ""), value):
                raise Finding(f"{name}: {value} does not match its pattern")
        self.conditions = template.get("Conditions", {})
        self.resources = template["Resources"]

    def all(self, type_):
        return [self.evaluate(resource["Properties"]) for resource in self.resources.values() if resource["Type"] == type_]

    def only(self, type_):
        resources = self.all(type_)
        expect(f"how many {type_}", len(resources), 1)
        return resources[0]

    def evaluate(self, node):
        if isinstance(node, list):
            values = [self.evaluate(value) for value in node]
            return [value for value in values if value is not self.NOTHING]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            [(name, argument)] = node.items()
            if name == "Ref":
                return self.reference(argument)
            if name.startswith("Fn::"):
                return self.call(name.removeprefix("Fn::"), argument)
        values = {name: self.evaluate(value) for name, value in node.items()}
        return {name: value for name, value in values.items() if value is not self.NOTHING}

    def reference(self, name):
        if name == "AWS::NoValue":
            return self.NOTHING
        # What only a deployment knows stays a name.
        return {**self.PSEUDO, **self.values}.get(name, f"<{name}>")

    def call(self, function, argument):
        if function == "If":
            condition, then, otherwise = argument
            return self.evaluate(then if self.evaluate(self.conditions[condition]) else otherwise)
        if function == "GetAtt":
            return f"<{argument}>"
        argument = self.evaluate(argument)
        if function == "Sub":
            return re.sub(r"\$\{([^}]*)\}", lambda match: self.reference(match[1]), argument)
        if function == "Equals":
            return argument[0] == argument[1]
        if function == "Not":
            return not argument[0]
        if function == "Select":
            return argument[1][argument[0]]
        if function == "Split":
            return argument[1].split(argument[0])
        if function == "Join":
            return argument[0].join(argument[1])
        raise Finding(f"Fn::{function} is not known to this check; teach it")


def main():
    failed = False
    for check in [check_function, check_sam, check_cdk, check_terraform, check_serverless]:
        name = check.__name__.removeprefix("check_")
        try:
            check()
            print(f"{name}: ok", flush=True)
        except Finding as finding:
            failed = True
            print(f"{name}: FAILED\n{finding}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
