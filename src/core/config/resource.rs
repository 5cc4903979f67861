//! The rules for resource attributes.
//!
//! Telemetry created by the extension gets the attributes of all sources, where later ones override earlier ones: Lambda's
//! facts; `service.name` = the function's name; the SDK's variables `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME`, so that
//! logs carry the same service as the SDK's traces; `ROTEL_OTEL_RESOURCE_ATTRIBUTES`.
//!
//! `deployment.environment` and `deployment.environment.name` are set together, if one of them is.
//!
//! On SDK telemetry, `ROTEL_OTEL_RESOURCE_ATTRIBUTES` replaces existing attributes. Lambda's facts and the service name are
//! added only if missing.
//!
//! Names and types follow OpenTelemetry's semantic conventions for `faas`, `cloud` and `service`.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;

use crate::config::{Config, FunctionInfo};
use crate::otlp::attribute::{int, string};

const SERVICE_NAME: &str = "service.name";
/// The attribute for the deployment environment, by its old and its current name. ClickStack has a column for the latter.
const ENVIRONMENTS: [&str; 2] = ["deployment.environment", "deployment.environment.name"];

/// The answer of the Extensions API to the registration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registration {
    pub function_name: String,
    /// `$LATEST` or a number.
    pub function_version: String,
    /// The function's account; absent if the platform does not support the `accountId` feature.
    pub account_id: Option<String>,
}

/// The attributes for each kind of resource.
#[derive(Clone, Debug)]
pub struct ResourceRules {
    /// The attributes of telemetry created by the extension, after precedence is applied.
    own: Vec<KeyValue>,
    /// The attributes that are set on an SDK's resource, replacing existing values.
    forced: Vec<KeyValue>,
    /// The attributes that are added to an SDK's resource if missing.
    facts: Vec<KeyValue>,
}

impl ResourceRules {
    /// Merges the sources by their precedence.
    pub fn new(config: &Config, registration: &Registration) -> Self {
        let mut forced: Vec<KeyValue> =
            config.resource_attributes.iter().map(|(key, text)| string(key, text)).collect();
        add_other_environment(&mut forced);
        let mut facts = lambda_facts(&config.function, registration);
        let mut own = facts.clone();
        for (key, text) in &config.sdk_resource_attributes {
            set(&mut own, string(key, text));
        }
        for attribute in &forced {
            set(&mut own, attribute.clone());
        }
        add_other_environment(&mut own);
        // A service without a name gets the same name as its logs.
        for attribute in own.iter().filter(|attribute| attribute.key == SERVICE_NAME) {
            set(&mut facts, attribute.clone());
        }
        Self { own, forced, facts }
    }

    /// Adds `faas.instance`, unless the user has set it. Platform: only `platform.initStart` contains it.
    pub fn set_instance(&mut self, instance_id: &str) {
        let instance = string("faas.instance", instance_id);
        set_if_missing(&mut self.own, instance.clone());
        set_if_missing(&mut self.facts, instance);
    }

    /// The resource of telemetry created by the extension.
    pub fn own(&self) -> Resource {
        Resource { attributes: self.own.clone(), ..Resource::default() }
    }

    /// Applies the rules to an SDK's resource; returns true if anything changed.
    pub fn apply(&self, resource: &mut Resource) -> bool {
        let attributes = &mut resource.attributes;
        let mut changed = false;
        for attribute in &self.forced {
            changed |= set(attributes, attribute.clone());
        }
        if attributes.iter().any(is_unknown_service) {
            attributes.retain(|attribute| !is_unknown_service(attribute));
            changed = true;
        }
        for attribute in &self.facts {
            changed |= set_if_missing(attributes, attribute.clone());
        }
        changed | add_other_environment(attributes)
    }
}

/// The `service.name` of a function's telemetry.
pub fn service_name(config: &Config, function_name: &str) -> String {
    let registration = Registration { function_name: function_name.to_owned(), ..Registration::default() };
    let attributes = ResourceRules::new(config, &registration).own;
    let named = attributes.into_iter().find(|attribute| attribute.key == SERVICE_NAME);
    match named.and_then(|attribute| attribute.value?.value) {
        Some(Value::StringValue(name)) => name,
        _ => function_name.to_owned(),
    }
}

fn lambda_facts(function: &FunctionInfo, registration: &Registration) -> Vec<KeyValue> {
    let name = &registration.function_name;
    let version = &registration.function_version;
    let mut facts = vec![
        string("cloud.provider", "aws"),
        string("cloud.platform", "aws_lambda"),
        string("faas.name", name),
        string("faas.version", version),
        string(SERVICE_NAME, name),
    ];
    // Not "$LATEST", which says nothing of the code.
    if !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit()) {
        facts.push(string("service.version", version));
    }
    if let Some(region) = &function.region {
        facts.push(string("cloud.region", region));
    }
    if let Some(account) = &registration.account_id {
        facts.push(string("cloud.account.id", account));
    }
    if let (Some(region), Some(account)) = (&function.region, &registration.account_id) {
        let partition = partition(region);
        let mut arn = format!("arn:{partition}:lambda:{region}:{account}:function:{name}");
        if version != "$LATEST" {
            arn.push(':');
            arn.push_str(version);
        }
        facts.push(string("cloud.resource_id", &arn));
    }
    if let Some(bytes) = function.memory_bytes.and_then(|bytes| i64::try_from(bytes).ok()) {
        facts.push(int("faas.max_memory", bytes));
    }
    facts
}

/// The ARN partition of a region, which follows from the region's prefix.
fn partition(region: &str) -> &'static str {
    if region.starts_with("cn-") {
        "aws-cn"
    } else if region.starts_with("us-gov-") {
        "aws-us-gov"
    } else {
        "aws"
    }
}

/// Adds the deployment environment by its other name, if only one is set; returns true if it was added.
fn add_other_environment(attributes: &mut Vec<KeyValue>) -> bool {
    let set = ENVIRONMENTS.map(|key| attributes.iter().find(|attribute| attribute.key == key));
    let other = match (ENVIRONMENTS, set) {
        ([_, missing], [Some(set), None]) | ([missing, _], [None, Some(set)]) => {
            KeyValue { key: missing.to_owned(), ..set.clone() }
        }
        _ => return false,
    };
    attributes.push(other);
    true
}

/// Sets or replaces an attribute; returns true if anything changed.
fn set(attributes: &mut Vec<KeyValue>, attribute: KeyValue) -> bool {
    match attributes.iter_mut().find(|existing| existing.key == attribute.key) {
        Some(existing) if *existing == attribute => false,
        Some(existing) => {
            *existing = attribute;
            true
        }
        None => {
            attributes.push(attribute);
            true
        }
    }
}

/// Adds an attribute if its key is missing; returns true if it was added.
fn set_if_missing(attributes: &mut Vec<KeyValue>, attribute: KeyValue) -> bool {
    let missing = attributes.iter().all(|existing| existing.key != attribute.key);
    if missing {
        attributes.push(attribute);
    }
    missing
}

/// Returns true for the default of SDKs without a configured name: `unknown_service`, or `unknown_service:` with the process
/// name.
fn is_unknown_service(attribute: &KeyValue) -> bool {
    let text = match &attribute.value {
        Some(AnyValue { value: Some(Value::StringValue(text)) }) => text.as_str(),
        _ => "",
    };
    attribute.key == SERVICE_NAME
        && (text.is_empty() || text == "unknown_service" || text.starts_with("unknown_service:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(pairs: &[(&str, &str)]) -> ResourceRules {
        let variables = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let registration = Registration {
            function_name: "my-function".to_owned(),
            function_version: "7".to_owned(),
            account_id: Some("123456789012".to_owned()),
        };
        ResourceRules::new(&crate::config::read(&variables).config, &registration)
    }

    fn shown(resource: &Resource) -> Vec<String> {
        let show = |attribute: &KeyValue| match attribute.value.clone().and_then(|value| value.value) {
            Some(Value::StringValue(text)) => format!("{} = {text:?}", attribute.key),
            other => format!("{} = {other:?}", attribute.key),
        };
        resource.attributes.iter().map(show).collect()
    }

    #[test]
    fn own_resource_has_lambdas_facts() {
        let rules = rules(&[("AWS_REGION", "us-east-1"), ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")]);
        insta::assert_snapshot!(shown(&rules.own()).join("\n"), @r#"
        cloud.provider = "aws"
        cloud.platform = "aws_lambda"
        faas.name = "my-function"
        faas.version = "7"
        service.name = "my-function"
        service.version = "7"
        cloud.region = "us-east-1"
        cloud.account.id = "123456789012"
        cloud.resource_id = "arn:aws:lambda:us-east-1:123456789012:function:my-function:7"
        faas.max_memory = Some(IntValue(134217728))
        "#);
    }

    #[test]
    fn rotel_attributes_override_sdk_and_lambda() {
        let rules = rules(&[
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=sdk,team=sdk"),
            ("ROTEL_OTEL_RESOURCE_ATTRIBUTES", "team=rotel,faas.name=mine"),
        ]);
        let own = shown(&rules.own());
        for expected in ["service.name = \"sdk\"", "team = \"rotel\"", "faas.name = \"mine\""] {
            assert!(own.iter().any(|line| line == expected), "{own:?}");
        }
    }

    #[test]
    fn service_name_defaults_to_the_function() {
        let config = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            crate::config::read(&pairs.collect()).config
        };
        let named = config(&[("ROTEL_OTEL_RESOURCE_ATTRIBUTES", "service.name=my-api")]);
        assert_eq!(service_name(&config(&[]), "my-function"), "my-function");
        assert_eq!(service_name(&named, "my-function"), "my-api");
    }

    #[test]
    fn sdk_resource_gets_missing_attributes_only() {
        let rules = rules(&[("ROTEL_OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=production")]);
        let mut resource = Resource {
            attributes: vec![string("service.name", "orders"), string("faas.name", "theirs")],
            ..Resource::default()
        };
        assert!(rules.apply(&mut resource));
        let after = shown(&resource);
        assert_eq!(
            after[..3],
            [
                "service.name = \"orders\"",
                "faas.name = \"theirs\"",
                "deployment.environment = \"production\""
            ]
        );
        assert!(after.contains(&"cloud.provider = \"aws\"".to_owned()));
        assert!(!rules.apply(&mut resource), "a second time changes nothing");
    }

    #[test]
    fn unknown_service_gets_the_functions_name() {
        for unknown in ["", "unknown_service", "unknown_service:python3"] {
            let mut resource =
                Resource { attributes: vec![string("service.name", unknown)], ..Resource::default() };
            assert!(rules(&[]).apply(&mut resource));
            let named: Vec<_> =
                shown(&resource).into_iter().filter(|line| line.starts_with("service.name")).collect();
            assert_eq!(named, ["service.name = \"my-function\""], "{unknown:?}");
        }
    }

    #[test]
    fn sdk_variables_only_set_the_service_name() {
        let rules = rules(&[("OTEL_RESOURCE_ATTRIBUTES", "team=a"), ("OTEL_SERVICE_NAME", "orders")]);
        let mut resource = Resource::default();
        assert!(rules.apply(&mut resource));
        let after = shown(&resource);
        assert!(after.contains(&"service.name = \"orders\"".to_owned()), "{after:?}");
        assert!(!after.iter().any(|line| line.starts_with("team")), "{after:?}");
    }

    #[test]
    fn instance_is_added_to_own_resource() {
        let mut rules = rules(&[]);
        rules.set_instance("82561ce0");
        assert!(shown(&rules.own()).contains(&"faas.instance = \"82561ce0\"".to_owned()));
    }

    #[test]
    fn region_prefix_selects_the_partition() {
        assert_eq!(
            ["cn-north-1", "us-gov-west-1", "eu-west-3"].map(partition),
            ["aws-cn", "aws-us-gov", "aws"]
        );
    }

    #[test]
    fn both_names_of_the_environment_are_set() {
        let environments = |resource: &Resource| {
            let all = shown(resource);
            all.into_iter().filter(|text| text.starts_with("deployment.")).collect::<Vec<_>>()
        };
        let sdk = |pairs: &[(&str, &str)]| Resource {
            attributes: pairs.iter().map(|(key, value)| string(key, value)).collect(),
            ..Resource::default()
        };
        for (variable, expected) in [
            ("ROTEL_OTEL_RESOURCE_ATTRIBUTES", "prod"),
            // That of the SDK's own variable stays with the SDK.
            ("OTEL_RESOURCE_ATTRIBUTES", "dev"),
        ] {
            for key in ENVIRONMENTS {
                let rules = rules(&[(variable, &format!("{key}=prod"))]);
                let mut own = environments(&rules.own());
                own.sort();
                assert_eq!(own, ENVIRONMENTS.map(|key| format!("{key} = \"prod\"")), "{variable}");
                let mut resource = sdk(&[("deployment.environment", "dev")]);
                assert!(rules.apply(&mut resource));
                let expected = ENVIRONMENTS.map(|key| format!("{key} = {expected:?}"));
                assert_eq!(environments(&resource), expected, "{variable}");
                assert!(!rules.apply(&mut resource), "a second time changes nothing");
            }
        }
        let mut different = sdk(&[("deployment.environment", "a"), ("deployment.environment.name", "b")]);
        rules(&[]).apply(&mut different);
        assert_eq!(environments(&different).len(), 2);
        assert_eq!(environments(&rules(&[]).own()), Vec::<String>::new());
    }
}
