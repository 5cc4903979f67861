//! The changes, without Lambda.

use clap::CommandFactory as _;
use clap::Parser as _;
use insta::assert_snapshot;
use rotel_core::config::Variables;
use rotel_core::secret::Secret;

use crate::arguments::Arguments;
use crate::change::{Additions, Change, Refusal, VariableRemoval, attach, detach};
use crate::function::Function;
use crate::layer::{ExtensionLayers, LayerArn};

const ENDPOINT: &str = "https://clickstack.example.com:4317";
const KEY: &str = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:clickstack-key-abc123";

fn layer(text: &str) -> String {
    format!("arn:aws:lambda:eu-central-1:123456789012:layer:{text}")
}

fn layers() -> ExtensionLayers {
    ExtensionLayers { prefix: "rotel-extension".to_owned(), given: None }
}

fn extension() -> LayerArn {
    layer("rotel-extension-arm64:7").parse().expect("an ARN")
}

fn variables<const N: usize>(variables: [(&str, &str); N]) -> Variables {
    variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// A function of somebody who has layers and variables already.
fn orders() -> Function {
    Function {
        id: "orders".to_owned(),
        name: "orders".to_owned(),
        region: "eu-central-1".to_owned(),
        runtime: "nodejs24.x".to_owned(),
        architecture: "arm64".to_owned(),
        memory_megabytes: 128,
        state: "Active".to_owned(),
        layers: vec![layer("opentelemetry-nodejs-0_20_0:1")],
        variables: variables([("TABLE", "orders"), ("AWS_LAMBDA_EXEC_WRAPPER", "/opt/otel-handler")]),
        revision: Some("1".to_owned()),
        ..Function::default()
    }
}

fn usual<'a>() -> Additions<'a> {
    Additions { endpoint: Some(ENDPOINT), key_secret: Some(KEY), assignments: &[] }
}

/// The change as a person sees it.
fn shown(change: &Result<Change, Refusal>) -> String {
    match change {
        Ok(change) => {
            change.notes.iter().fold(change.to_string(), |lines, note| lines + "note: " + note + "\n")
        }
        Err(refusal) => format!("{refusal}\n"),
    }
}

/// The function after a change.
fn after(change: Change) -> Function {
    let function = change.function().clone();
    Function { layers: change.layers, variables: change.variables, ..function }
}

#[test]
fn attaching_keeps_what_is_there() {
    let change = attach(orders(), &extension(), &layers(), &usual());
    assert_snapshot!(shown(&change), @"
      + layer arn:aws:lambda:eu-central-1:123456789012:layer:rotel-extension-arm64:7
      + ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS=Authorization=${arn:aws:secretsmanager:eu-central-1:123456789012:secret:clickstack-key-abc123}
      + ROTEL_OTLP_EXPORTER_ENDPOINT=https://clickstack.example.com:4317
    note: the function's role must allow secretsmanager:GetSecretValue on arn:aws:secretsmanager:eu-central-1:123456789012:secret:clickstack-key-abc123
    ");
    let changed = after(change.expect("a change"));
    assert_eq!(changed.layers, [layer("opentelemetry-nodejs-0_20_0:1"), extension().to_string()]);
    for (name, value) in &orders().variables {
        assert_eq!(changed.variables.get(name), Some(value));
    }
    assert_eq!(
        changed.variables.get("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS"),
        Some(&format!("Authorization=${{{KEY}}}"))
    );
}

#[test]
fn attaching_twice_changes_nothing() {
    let once = after(attach(orders(), &extension(), &layers(), &usual()).expect("a change"));
    let twice = attach(once, &extension(), &layers(), &usual()).expect("a change");
    assert!(twice.is_empty(), "{twice}");
}

#[test]
fn detaching_undoes_attaching() {
    let attached = after(attach(orders(), &extension(), &layers(), &usual()).expect("a change"));
    let change = detach(attached.clone(), &layers(), VariableRemoval::Attached);
    assert_snapshot!(shown(&change), @"
    - layer arn:aws:lambda:eu-central-1:123456789012:layer:rotel-extension-arm64:7
    - ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS=Authorization=${arn:aws:secretsmanager:eu-central-1:123456789012:secret:clickstack-key-abc123}
    - ROTEL_OTLP_EXPORTER_ENDPOINT=https://clickstack.example.com:4317
    ");
    assert_eq!(after(change.expect("a change")), orders());
    let kept = after(detach(attached.clone(), &layers(), VariableRemoval::Nothing).expect("a change"));
    assert_eq!(kept.variables, attached.variables);
    assert_eq!(kept.layers, orders().layers);
}

#[test]
fn another_version_is_replaced_at_its_place() {
    let mut function = orders();
    function.layers.insert(0, layer("rotel-extension-arm64:3"));
    let change = attach(function, &extension(), &layers(), &usual());
    assert_snapshot!(shown(&change), @"
      - layer arn:aws:lambda:eu-central-1:123456789012:layer:rotel-extension-arm64:3
      + layer arn:aws:lambda:eu-central-1:123456789012:layer:rotel-extension-arm64:7
      + ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS=Authorization=${arn:aws:secretsmanager:eu-central-1:123456789012:secret:clickstack-key-abc123}
      + ROTEL_OTLP_EXPORTER_ENDPOINT=https://clickstack.example.com:4317
    note: the function's role must allow secretsmanager:GetSecretValue on arn:aws:secretsmanager:eu-central-1:123456789012:secret:clickstack-key-abc123
    ");
    assert_eq!(
        after(change.expect("a change")).layers,
        [extension().to_string(), layer("opentelemetry-nodejs-0_20_0:1")]
    );
}

#[test]
fn protocol_follows_the_port() {
    let protocol = |function: &Function| function.variables.get("ROTEL_OTLP_EXPORTER_PROTOCOL").cloned();
    let http = Additions { endpoint: Some("https://clickstack.example.com:4318"), ..usual() };
    let first = after(attach(orders(), &extension(), &layers(), &http).expect("a change"));
    assert_eq!(protocol(&first).as_deref(), Some("http"));
    let second = after(attach(first.clone(), &extension(), &layers(), &usual()).expect("a change"));
    assert_eq!(protocol(&second), None);
    let assignments = [Secret::new("ROTEL_OTLP_EXPORTER_PROTOCOL=http")];
    let chosen = Additions { assignments: &assignments, ..usual() };
    let third = after(attach(first, &extension(), &layers(), &chosen).expect("a change"));
    assert_eq!(protocol(&third).as_deref(), Some("http"));
}

/// Settings that were there before stay, because a removed credential cannot be restored.
#[test]
fn detaching_keeps_settings_of_others() {
    for (before, attached) in [
        ("X-Team=a", "X-Team=a,Authorization=${KEY}"),
        ("\"X-Team=a,X-Key=hunter2\"", "\"X-Team=a,X-Key=hunter2,Authorization=${KEY}\""),
        ("'X-Team=a'", "'X-Team=a,Authorization=${KEY}'"),
    ] {
        let mut function = orders();
        function.variables.insert("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS".to_owned(), before.to_owned());
        function.variables.insert("ROTEL_FLUSH_TIMEOUT".to_owned(), "2s".to_owned());
        let changed = after(attach(function.clone(), &extension(), &layers(), &usual()).expect("a change"));
        let headers = changed.variables.get("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS");
        assert_eq!(headers, Some(&attached.replace("KEY", KEY)));
        let change = detach(changed.clone(), &layers(), VariableRemoval::Attached).expect("a change");
        assert_eq!(
            change.notes,
            [
                "these variables stay; --all-variables removes them: ROTEL_FLUSH_TIMEOUT, ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS"
            ]
        );
        assert_eq!(after(change), function);
        let all = after(detach(changed, &layers(), VariableRemoval::All).expect("a change"));
        assert_eq!(all, orders());
    }
}

#[test]
fn headers_of_like_names_stay() {
    let mut function = after(attach(orders(), &extension(), &layers(), &usual()).expect("a change"));
    let headers = format!("X-Team=a,Proxy-Authorization=${{{KEY}}}");
    function.variables.insert("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS".to_owned(), headers.clone());
    let detached = after(detach(function, &layers(), VariableRemoval::Attached).expect("a change"));
    assert_eq!(detached.variables.get("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS"), Some(&headers));
}

#[test]
fn layers_of_other_names_are_found_if_given() {
    let given: LayerArn = layer("telemetry-arm64:3").parse().expect("an ARN");
    let named = ExtensionLayers { given: Some(given.clone()), ..layers() };
    let mut function = orders();
    function.layers.push(layer("rotel-extension-settings:1"));
    let attached = after(attach(function.clone(), &given, &named, &usual()).expect("a change"));
    assert!(attached.extension_layer(&named).is_some());
    assert_eq!(
        after(detach(attached.clone(), &named, VariableRemoval::Attached).expect("a change")),
        function
    );
    for removal in [VariableRemoval::Nothing, VariableRemoval::Attached] {
        let unnamed = detach(attached.clone(), &layers(), removal).err();
        assert_eq!(unnamed, Some(Refusal::NoLayer("orders".to_owned())));
    }
    assert!(detach(attached, &layers(), VariableRemoval::All).is_ok());
}

#[test]
fn versions_and_aliases_are_refused() {
    let arn = "arn:aws:lambda:eu-central-1:123456789012:function:orders";
    for (id, qualifier) in [
        ("orders:prod".to_owned(), Some("prod")),
        (format!("{arn}:7"), Some("7")),
        ("123456789012:function:orders:prod".to_owned(), Some("prod")),
        ("orders".to_owned(), None),
        (arn.to_owned(), None),
        ("123456789012:function:orders".to_owned(), None),
    ] {
        let function = Function { id, ..orders() };
        assert_eq!(function.qualifier(), qualifier);
        let refused = attach(function.clone(), &extension(), &layers(), &usual()).is_err();
        assert_eq!(refused, qualifier.is_some(), "{}", function.id);
        assert_eq!(detach(function, &layers(), VariableRemoval::All).is_err(), refused);
    }
}

#[test]
fn the_size_of_variables_is_that_of_their_json() {
    let mut function = orders();
    for number in 0..30 {
        function.variables.insert(format!("VARIABLE_{number:02}"), "x".repeat(115));
    }
    let refused = attach(function, &extension(), &layers(), &usual()).err();
    assert!(matches!(refused, Some(Refusal::TooManyVariables(4_097..))), "{refused:?}");
}

#[test]
fn permissions_name_the_resource_of_a_policy() {
    let said = |key: &str| {
        let additions = Additions { key_secret: Some(key), ..usual() };
        attach(orders(), &extension(), &layers(), &additions).expect("a change").notes.join("\n")
    };
    let secret = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:clickstack";
    assert_snapshot!([
        said(&format!("{secret}-abc123#key")),
        said(secret),
        said("secretsmanager:clickstack"),
        said("arn:aws:ssm:eu-central-1:123456789012:parameter/clickstack"),
    ].join("\n"), @"
    the function's role must allow secretsmanager:GetSecretValue on arn:aws:secretsmanager:eu-central-1:123456789012:secret:clickstack-abc123
    the function's role must allow secretsmanager:GetSecretValue on arn:aws:secretsmanager:eu-central-1:123456789012:secret:clickstack-??????
    the function's role must allow secretsmanager:GetSecretValue on the secret clickstack
    the function's role must allow ssm:GetParameters on arn:aws:ssm:eu-central-1:123456789012:parameter/clickstack
    ");
}

#[test]
fn other_headers_stay() {
    let mut function = orders();
    function.variables.insert("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS".to_owned(), "\"X-Team=a\"".to_owned());
    let change = attach(function.clone(), &extension(), &layers(), &usual()).expect("a change");
    assert_eq!(
        change.variables.get("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS"),
        Some(&format!("\"X-Team=a,Authorization=${{{KEY}}}\""))
    );
    function
        .variables
        .insert("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS".to_owned(), "authorization=hunter2".to_owned());
    assert_eq!(attach(function, &extension(), &layers(), &usual()).err(), Some(Refusal::HasKey));
}

#[test]
fn values_of_credentials_are_not_shown() {
    let mut function = orders();
    function
        .variables
        .insert("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS".to_owned(), "Authorization=hunter2".to_owned());
    function.variables.insert("ROTEL_NOT_KNOWN".to_owned(), "hunter3".to_owned());
    let assignments = [Secret::new("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS=Authorization=hunter4")];
    let additions = Additions { endpoint: Some(ENDPOINT), key_secret: None, assignments: &assignments };
    let attached = shown(&attach(function.clone(), &extension(), &layers(), &additions));
    let detached = shown(&detach(function, &layers(), VariableRemoval::All));
    assert!(!format!("{attached}{detached}").contains("hunter"), "{attached}{detached}");
    assert_snapshot!(format!("{attached}\n{detached}"), @"
      + layer arn:aws:lambda:eu-central-1:123456789012:layer:rotel-extension-arm64:7
      - ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS=Authorization=[redacted]
      + ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS=Authorization=[redacted]
      + ROTEL_OTLP_EXPORTER_ENDPOINT=https://clickstack.example.com:4317
    note: ROTEL_NOT_KNOWN: unknown variable, so it has no effect; remove it, or find the right name with --help

      - ROTEL_NOT_KNOWN=[redacted]
      - ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS=Authorization=[redacted]
    ");
}

#[test]
fn what_would_break_the_function_is_refused() {
    let full = (1..6).map(|number| layer(&format!("a:{number}"))).collect();
    let big = variables([("A", &"x".repeat(4_000))]);
    let functions = [
        Function { is_image: true, ..orders() },
        Function { variables_hidden: true, ..orders() },
        Function { architecture: "x86_64".to_owned(), ..orders() },
        Function { layers: full, ..orders() },
        Function { variables: big, ..orders() },
    ];
    let mut said: String = functions
        .into_iter()
        .map(|function| shown(&attach(function, &extension(), &layers(), &usual())))
        .collect();
    let nonsense = [Secret::new("ROTEL_FLUSH_TIMEOUT=hunter2")];
    let unnamed = [Secret::new("hunter2")];
    let foreign = [Secret::new("PATH=hunter2")];
    for additions in [
        Additions::default(),
        Additions { key_secret: Some("clickstack-key"), ..usual() },
        Additions { key_secret: Some("arn:aws:s3:::key"), ..usual() },
        Additions { endpoint: Some("clickstack.example.com"), ..usual() },
        Additions { assignments: &nonsense, ..usual() },
        Additions { assignments: &unnamed, ..usual() },
        Additions { assignments: &foreign, ..usual() },
    ] {
        said.push_str(&shown(&attach(orders(), &extension(), &layers(), &additions)));
    }
    assert!(!said.contains("hunter2"), "{said}");
    assert_snapshot!(said, @r#"
    orders is a container image, which cannot have layers; add the extension in its Dockerfile: see "Container images" in docs/layer.md
    Lambda could not decrypt the variables of orders, so a change would lose them; allow your identity kms:Decrypt with the function's key
    the function is x86_64, but arn:aws:lambda:eu-central-1:123456789012:layer:rotel-extension-arm64:7 is built for arm64; choose the layer that ends with -amd64
    the function has 5 layers already, and Lambda allows no more; remove one first: arn:aws:lambda:eu-central-1:123456789012:layer:a:1, arn:aws:lambda:eu-central-1:123456789012:layer:a:2, arn:aws:lambda:eu-central-1:123456789012:layer:a:3, arn:aws:lambda:eu-central-1:123456789012:layer:a:4, arn:aws:lambda:eu-central-1:123456789012:layer:a:5
    the variables would have 4211 bytes, and Lambda allows 4096; put some into a file: see ROTEL_ENV_FILE
    the function would send nothing; give --endpoint, such as --endpoint https://clickstack.example.com:4317
    --key-secret: it is not the ARN of a secret or a parameter; write arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME or arn:aws:ssm:REGION:ACCOUNT:parameter/NAME
    --key-secret: a secret reference has the unsupported service "s3"; use secretsmanager or ssm
    the variables would have errors, so nothing was changed:
      ROTEL_OTLP_EXPORTER_ENDPOINT: "clickstack.example.com" has no scheme; set http://clickstack.example.com or https://clickstack.example.com
    the variables would have errors, so nothing was changed:
      ROTEL_FLUSH_TIMEOUT: a value of 7 characters is not a duration; use a number with a unit, such as 250ms, 5s or 1m
    --set: one has no "="; write NAME=VALUE
    --set: PATH is not a variable of the extension; their names begin with ROTEL_
    "#);
}

#[test]
fn what_a_person_should_know_is_noted() {
    let function = Function {
        has_snap_start: true,
        stack: Some("shop".to_owned()),
        layers: vec![layer("opentelemetry-collector-arm64-0_20_0:1")],
        ..orders()
    };
    assert_snapshot!(shown(&attach(function.clone(), &extension(), &layers(), &usual())), @"
      + layer arn:aws:lambda:eu-central-1:123456789012:layer:rotel-extension-arm64:7
      + ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS=Authorization=${arn:aws:secretsmanager:eu-central-1:123456789012:secret:clickstack-key-abc123}
      + ROTEL_OTLP_EXPORTER_ENDPOINT=https://clickstack.example.com:4317
    note: the function belongs to the CloudFormation stack shop; a deployment that changes the function undoes this, unless its template has the layer, too
    note: the function has SnapStart; publish a version to use the change
    note: arn:aws:lambda:eu-central-1:123456789012:layer:opentelemetry-collector-arm64-0_20_0:1 also listens on localhost:4317; remove it, because only one can use the port
    note: the function's role must allow secretsmanager:GetSecretValue on arn:aws:secretsmanager:eu-central-1:123456789012:secret:clickstack-key-abc123
    ");
    let mut in_bundle = orders();
    in_bundle.variables.insert("ROTEL_ENV_FILE".to_owned(), "/var/task/rotel.env".to_owned());
    assert_snapshot!(shown(&attach(in_bundle, &extension(), &layers(), &Additions::default())), @"
      + layer arn:aws:lambda:eu-central-1:123456789012:layer:rotel-extension-arm64:7
    note: the function's bundle has more settings; run `rotel-extension --check` where that file is
    ");
}

#[test]
fn arguments_are_consistent() {
    Arguments::command().debug_assert();
    let parsed =
        Arguments::try_parse_from(["rotel-lambda", "attach", "--function", "a", "--set", "ROTEL_A=hunter2"]);
    let parsed = format!("{:?}", parsed.expect("arguments"));
    assert!(!parsed.contains("hunter2"), "{parsed}");
}
