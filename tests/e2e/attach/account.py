"""An account of moto with functions and layers, as people have them.

    account.py URL seed          creates it
    account.py URL show NAME     prints the layers and variables of a function as JSON
"""

import io
import json
import sys
import urllib.request
import zipfile

import boto3

url, command, *names = sys.argv[1:]
credentials = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "eu-central-1"}
lambda_ = boto3.client("lambda", endpoint_url=url, **credentials)


def zipped():
    """A bundle with an empty file."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as bundle:
        bundle.writestr("index.js", "")
    return content.getvalue()


def seed():
    # Without it, moto runs functions in containers.
    config = json.dumps({"lambda": {"use_docker": False}}).encode()
    urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/config", data=config, method="POST"))
    iam = boto3.client("iam", endpoint_url=url, **credentials)
    role = iam.create_role(RoleName="orders", AssumeRolePolicyDocument="{}")["Role"]["Arn"]

    def layer(name, description):
        content = {"ZipFile": zipped()}
        return lambda_.publish_layer_version(LayerName=name, Description=description, Content=content)["LayerVersionArn"]

    own = layer("shared-code", "")
    for version in ["0.1.0", "0.2.0"]:
        for architecture in ["amd64", "arm64"]:
            layer(f"rotel-extension-{architecture}", f"rotel-lambda-extension {version}, revision 0")

    def function(name, **settings):
        lambda_.create_function(FunctionName=name, Role=role, **settings)

    bundle = {"Code": {"ZipFile": zipped()}, "Runtime": "nodejs20.x", "Handler": "index.handler"}
    function("orders", **bundle, Architectures=["arm64"], Layers=[own], Environment={"Variables": {"TABLE": "orders"}})
    function("plain", **bundle)
    # That of the guide.
    function("my-function", **bundle)


def show(name):
    found = lambda_.get_function_configuration(FunctionName=name)
    layers = [layer["Arn"] for layer in found.get("Layers", [])]
    print(json.dumps({"layers": layers, "variables": found.get("Environment", {}).get("Variables", {})}))


{"seed": seed, "show": show}[command](*names)
