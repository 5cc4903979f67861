//! The attributes that say where telemetry comes from.
//!
//! Two rules, one for each kind of resource. On what is made here all sources lie over each other, the weakest first:
//! Lambda's facts, `service.name` = the function's name, what the function's SDK is told through
//! `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` (so that logs carry the service of the SDK's traces),
//! `ROTEL_OTEL_RESOURCE_ATTRIBUTES`. On what the SDK made itself, the last of these is set or replaced, and the rest
//! only fills what is missing. Names and types are those of OpenTelemetry's semantic conventions for `faas`, `cloud`
//! and `service`.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;

use crate::config::{Config, FunctionInfo};
use crate::otlp::attribute::{int, string};

const SERVICE_NAME: &str = "service.name";

/// What the Extensions API tells when the extension registers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registration {
    /// The function's name.
    pub function_name: String,
    /// `$LATEST` or a number.
    pub function_version: String,
    /// The account of the function; absent where the platform does not know the `accountId` feature.
    pub account_id: Option<String>,
}

/// The rules by which resources get their attributes.
#[derive(Clone, Debug)]
pub struct ResourceRules {
    /// What holds on a resource made here, ending with `service.name` and its rivals already decided.
    own: Vec<KeyValue>,
    /// What is set or replaced on an SDK's resource.
    forced: Vec<KeyValue>,
    /// What is added to an SDK's resource where it is missing.
    facts: Vec<KeyValue>,
}

impl ResourceRules {
    /// Lays the sources over each other.
    pub fn new(config: &Config, registration: &Registration) -> Self {
        let forced: Vec<KeyValue> =
            config.resource_attributes.iter().map(|(key, text)| string(key, text)).collect();
        let mut facts = lambda_facts(&config.function, registration);
        let mut own = facts.clone();
        for (key, text) in &config.sdk_resource_attributes {
            set(&mut own, string(key, text));
        }
        for attribute in &forced {
            set(&mut own, attribute.clone());
        }
        // A nameless service gets the name that its logs have.
        for attribute in own.iter().filter(|attribute| attribute.key == SERVICE_NAME) {
            set(&mut facts, attribute.clone());
        }
        Self { own, forced, facts }
    }

    /// Adds `faas.instance`, which the platform tells only in `platform.initStart`. What the user has set stays.
    pub fn learn_instance(&mut self, instance_id: &str) {
        let instance = string("faas.instance", instance_id);
        fill(&mut self.own, instance.clone());
        fill(&mut self.facts, instance);
    }

    /// The resource of what is made here.
    pub fn own(&self) -> Resource {
        Resource { attributes: self.own.clone(), ..Resource::default() }
    }

    /// Brings an SDK's resource in line; says whether anything changed.
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
            changed |= fill(attributes, attribute.clone());
        }
        changed
    }
}

/// The service under which a function's telemetry is found.
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

/// The partition of an ARN: AWS gives the regions of each a prefix of their own.
fn partition(region: &str) -> &'static str {
    if region.starts_with("cn-") {
        "aws-cn"
    } else if region.starts_with("us-gov-") {
        "aws-us-gov"
    } else {
        "aws"
    }
}

/// Sets or replaces an attribute; says whether anything changed.
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

/// Adds an attribute where its key is missing; says whether it did.
fn fill(attributes: &mut Vec<KeyValue>, attribute: KeyValue) -> bool {
    let missing = attributes.iter().all(|existing| existing.key != attribute.key);
    if missing {
        attributes.push(attribute);
    }
    missing
}

/// SDKs that were told no name call the service `unknown_service` or `unknown_service:` and the process's name.
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
    fn a_resource_made_here_carries_lambdas_facts_with_their_types() {
        let rules = rules(&[("AWS_REGION", "us-east-1"), ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")]);
        insta::assert_snapshot!(shown(&rules.own()).join("\n"), @r#"
        cloud.provider = "aws"
        cloud.platform = "aws_lambda"
        faas.name = "my-function"
        faas.version = "7"
        service.name = "my-function"
        cloud.region = "us-east-1"
        cloud.account.id = "123456789012"
        cloud.resource_id = "arn:aws:lambda:us-east-1:123456789012:function:my-function:7"
        faas.max_memory = Some(IntValue(134217728))
        "#);
    }

    #[test]
    fn the_users_attributes_win_over_the_sdks_and_those_over_lambdas() {
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
    fn the_service_is_that_of_the_function_unless_it_is_named() {
        let config = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            crate::config::read(&pairs.collect()).config
        };
        let named = config(&[("ROTEL_OTEL_RESOURCE_ATTRIBUTES", "service.name=my-api")]);
        assert_eq!(service_name(&config(&[]), "my-function"), "my-function");
        assert_eq!(service_name(&named, "my-function"), "my-api");
    }

    #[test]
    fn an_sdks_resource_keeps_its_own_name_and_gets_what_it_lacks() {
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
        assert!(!rules.apply(&mut resource), "the second time nothing is left to change");
    }

    #[test]
    fn a_service_without_a_name_gets_the_functions() {
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
    fn the_sdks_own_variables_are_not_repeated_on_its_resources_but_for_the_name() {
        let rules = rules(&[("OTEL_RESOURCE_ATTRIBUTES", "team=a"), ("OTEL_SERVICE_NAME", "orders")]);
        let mut resource = Resource::default();
        assert!(rules.apply(&mut resource));
        let after = shown(&resource);
        assert!(after.contains(&"service.name = \"orders\"".to_owned()), "{after:?}");
        assert!(!after.iter().any(|line| line.starts_with("team")), "{after:?}");
    }

    #[test]
    fn the_instance_is_added_once_it_is_known() {
        let mut rules = rules(&[]);
        rules.learn_instance("82561ce0");
        assert!(shown(&rules.own()).contains(&"faas.instance = \"82561ce0\"".to_owned()));
    }

    #[test]
    fn china_and_govcloud_have_partitions_of_their_own() {
        assert_eq!(
            ["cn-north-1", "us-gov-west-1", "eu-west-3"].map(partition),
            ["aws-cn", "aws-us-gov", "aws"]
        );
    }
}
