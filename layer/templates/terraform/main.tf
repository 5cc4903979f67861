# A function whose logs and traces go to ClickStack through the rotel-extension layer.
#
#   terraform init && terraform apply -var layer_arn=… -var endpoint=https://… -var key_arn=…

terraform {
  required_version = ">= 1.5"

  required_providers {
    archive = {
      source  = "hashicorp/archive"
      version = "~> 2.4"
    }
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.0, < 7.0"
    }
  }
}

variable "layer_arn" {
  type        = string
  description = "The layer's version in the provider's region, for x86_64 (rotel-extension-amd64)"
}

variable "endpoint" {
  type        = string
  description = "The ClickStack OTLP endpoint, such as https://clickstack.example.com:4317"
}

variable "key_arn" {
  type        = string
  description = "The Secrets Manager secret, or the Parameter Store parameter, that holds the ingestion API key"

  validation {
    condition     = can(regex("^arn:[a-z-]+:(secretsmanager|ssm):[a-z0-9-]+:[0-9]{12}:(secret:|parameter/)", var.key_arn))
    error_message = "Give the ARN of a Secrets Manager secret or of a Parameter Store parameter."
  }
}

variable "kms_key_arn" {
  type        = string
  description = "Only if that is encrypted with a KMS key of your own, the KMS key"
  default     = null
}

variable "cloudwatch_logs" {
  type        = bool
  description = "Whether the logs go to CloudWatch Logs too"
  default     = true
}

locals {
  key_is_secret = split(":", var.key_arn)[2] == "secretsmanager"
}

data "aws_partition" "current" {}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "key" {
  # Several secrets are fetched by secretsmanager:BatchGetSecretValue, if the role has it, on "*": it knows no resources, and
  # gives no value without GetSecretValue on its secret.
  statement {
    actions   = [local.key_is_secret ? "secretsmanager:GetSecretValue" : "ssm:GetParameters"]
    resources = [var.key_arn]
  }

  # AWS's own keys, aws/secretsmanager and aws/ssm, need no permission.
  dynamic "statement" {
    for_each = var.kms_key_arn == null ? [] : [var.kms_key_arn]

    content {
      actions   = ["kms:Decrypt"]
      resources = [statement.value]
    }
  }
}

resource "aws_iam_role" "orders" {
  name_prefix        = "orders-"
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

resource "aws_iam_role_policy" "key" {
  name   = "ingestion-key"
  role   = aws_iam_role.orders.id
  policy = data.aws_iam_policy_document.key.json
}

# Without it the function cannot write to CloudWatch Logs.
resource "aws_iam_role_policy_attachment" "cloudwatch_logs" {
  count = var.cloudwatch_logs ? 1 : 0

  role       = aws_iam_role.orders.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
}

data "archive_file" "function" {
  type        = "zip"
  source_dir  = "${path.module}/../function"
  output_path = "${path.module}/.terraform/function.zip"
}

resource "aws_lambda_function" "orders" {
  function_name    = "orders"
  role             = aws_iam_role.orders.arn
  filename         = data.archive_file.function.output_path
  source_code_hash = data.archive_file.function.output_base64sha256
  handler          = "index.handler"
  runtime          = "nodejs24.x"
  architectures    = ["x86_64"]
  memory_size      = 256
  timeout          = 10
  layers           = [var.layer_arn]

  environment {
    variables = {
      ROTEL_OTLP_EXPORTER_ENDPOINT = var.endpoint
      # ${…} is Terraform's here, $<…> the extension's.
      ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS = "Authorization=$<${var.key_arn}>"
      ROTEL_OTEL_RESOURCE_ATTRIBUTES     = "service.name=orders,service.version=1.0.0"
    }
  }

  # The key must be readable when the first environment starts.
  depends_on = [aws_iam_role_policy.key]
}

output "function_name" {
  description = "For aws lambda invoke"
  value       = aws_lambda_function.orders.function_name
}
