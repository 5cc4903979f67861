"""Checks calls of the AWS CLI, a line each with tabs between the arguments, against AWS's own description of its operations:
that the options are members of the operation's input, and that values in JSON are what it takes."""

import json
import sys

import botocore.session
import botocore.validate
from botocore import xform_name

# What is the CLI's own.
OF_THE_CLI = {"region", "query", "output", "cli-binary-format", "max-items", "zip-file"}
WITHOUT_OPERATION = {"tail"}


def check(session, arguments):
    service, operation, *rest = arguments
    if operation in WITHOUT_OPERATION:
        return 0
    model = session.get_service_model(service)
    operations = {xform_name(name).replace("_", "-"): name for name in model.operation_names}
    members = model.operation_model(operations[operation]).input_shape.members
    options = {xform_name(name).replace("_", "-"): shape for name, shape in members.items()}
    for argument, value in zip(rest, rest[1:] + [""]):
        name = argument.removeprefix("--")
        if not argument.startswith("--") or name in OF_THE_CLI:
            continue
        shape = options[name]
        if shape.type_name == "structure":
            report = botocore.validate.ParamValidator().validate(json.loads(value), shape)
            assert not report.has_errors(), report.generate_report()
        if getattr(shape, "enum", None):
            assert value in shape.enum, f"{argument} {value}"
    return 1


calls = [line.split("\t") for line in sys.stdin.read().splitlines()]
print(sum(check(botocore.session.get_session(), call) for call in calls))
