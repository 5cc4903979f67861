//! `layer/publish`, with a fake AWS CLI first on the `PATH`. It checks its arguments, records them and publishes nothing.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

const REGIONS: [&str; 16] = [
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
    "ca-central-1",
    "eu-central-1",
    "eu-north-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-south-1",
    "sa-east-1",
];
const ARCHITECTURES: [(&str, &str); 2] = [("amd64", "x86_64"), ("arm64", "arm64")];
const PUBLISH: &str = "publish-layer-version";
const PERMIT: &str = "add-layer-version-permission";
/// The SHA-256 of "a zip".
const CHECKSUM: &str = "9a44557465efc644b7117e93eaf13c33cd956f5f4f12ca21bd51ae94ea97169a";

/// The file that `layer/build` writes next to a zip.
fn checksum(arch: &str) -> String {
    format!("{CHECKSUM}  rotel-extension-{arch}.zip\n")
}

/// A folder with zips and an AWS CLI, and the variables set for the script.
struct Publishing {
    folder: TempDir,
    variables: Vec<(&'static str, String)>,
    path: String,
}

/// The result of a run.
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    calls: Vec<Call>,
    /// The table's file.
    arns: Option<String>,
}

/// The arguments of one call of the AWS CLI.
struct Call(Vec<String>);

impl Publishing {
    fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        for (arch, _) in ARCHITECTURES {
            let zip = format!("rotel-extension-{arch}.zip");
            fs::write(folder.path().join(&zip), "a zip").expect("a zip");
            fs::write(folder.path().join(zip + ".sha256"), checksum(arch)).expect("a checksum");
        }
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).expect("a folder");
        symlink(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/aws"), bin.join("aws")).expect("a link");
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display());
        Self { folder, variables: Vec::new(), path }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self) -> Outcome {
        let calls = self.file("calls");
        let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/layer/publish"))
            .env_clear()
            .env("PATH", &self.path)
            .env("DIST", self.folder.path())
            .env("CALLS", &calls)
            .env("REVISION", "0123456789ab")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .output()
            .expect("layer/publish can be run");
        let calls = fs::read_to_string(calls).unwrap_or_default();
        Outcome {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("text"),
            stderr: String::from_utf8(output.stderr).expect("text"),
            calls: calls.lines().map(|line| Call(line.split('\t').map(str::to_owned).collect())).collect(),
            arns: fs::read_to_string(self.file("arns.md")).ok(),
        }
    }
}

impl Outcome {
    /// The rows of the table on standard output, which equals the file's.
    fn rows(&self) -> Vec<&str> {
        assert_eq!(
            self.arns.as_deref().unwrap_or_default(),
            self.stdout,
            "the file and standard output differ"
        );
        self.stdout.lines().skip(2).collect()
    }

    fn calls_of(&self, operation: &str) -> Vec<&Call> {
        self.calls.iter().filter(|call| call.0.get(1).is_some_and(|name| name == operation)).collect()
    }
}

impl Call {
    /// The comma-separated values of an option.
    fn option(&self, name: &str) -> String {
        let values = self.0.iter().skip_while(|argument| *argument != name).skip(1);
        values.take_while(|value| !value.starts_with("--")).cloned().collect::<Vec<_>>().join(",")
    }
}

fn row(region: &str, arch: &str) -> String {
    format!("| {region} | {arch} | `arn:aws:lambda:{region}:123456789012:layer:rotel-extension-{arch}:7` |")
}

fn everywhere() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    REGIONS.into_iter().flat_map(|region| ARCHITECTURES.map(|(arch, lambdas)| (region, arch, lambdas)))
}

#[test]
fn both_architectures_are_public_in_every_region() {
    let outcome = Publishing::new().run();
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    let wanted: Vec<_> = everywhere().map(|(region, arch, _)| row(region, arch)).collect();
    assert_eq!(outcome.rows(), wanted);
    let seen: Vec<_> = outcome
        .calls_of(PUBLISH)
        .iter()
        .map(|call| {
            ["--region", "--layer-name", "--compatible-architectures", "--license-info"]
                .map(|name| call.option(name))
        })
        .collect();
    let wanted: Vec<_> = everywhere()
        .map(|(region, arch, lambdas)| {
            [
                region.to_owned(),
                format!("rotel-extension-{arch}"),
                lambdas.to_owned(),
                "Apache-2.0".to_owned(),
            ]
        })
        .collect();
    assert_eq!(seen, wanted);
    let seen: Vec<_> = outcome
        .calls_of(PERMIT)
        .iter()
        .map(|call| {
            ["--region", "--layer-name", "--version-number", "--principal"].map(|name| call.option(name))
        })
        .collect();
    let wanted: Vec<_> = everywhere()
        .map(|(region, arch, _)| [region, &format!("rotel-extension-{arch}"), "7", "*"].map(str::to_owned))
        .collect();
    assert_eq!(seen, wanted);
}

#[test]
fn a_release_publishes_to_the_same_regions() {
    let workflow = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/.github/workflows/release.yml"));
    let workflow = workflow.expect("release.yml");
    let (_, matrix) = workflow.split_once("\n        region:\n").expect("a matrix of regions");
    let regions: Vec<_> = matrix.lines().map_while(|line| line.strip_prefix("          - ")).collect();
    assert_eq!(regions, REGIONS);
}

#[test]
fn layer_has_its_zip_version_and_revision() {
    let publishing = Publishing::new().with("REGIONS", "eu-west-1");
    let outcome = publishing.run();
    for (call, (arch, _)) in outcome.calls_of(PUBLISH).iter().zip(ARCHITECTURES) {
        let zip = publishing.file(&format!("rotel-extension-{arch}.zip"));
        assert_eq!(call.option("--zip-file"), format!("fileb://{}", zip.display()));
        let description =
            format!("rotel-lambda-extension {}, revision 0123456789ab", env!("CARGO_PKG_VERSION"));
        assert_eq!(call.option("--description"), description);
        let runtimes = call.option("--compatible-runtimes");
        assert!(runtimes.ends_with("provided.al2,provided.al2023"), "{runtimes}");
    }
    assert_eq!(outcome.calls.len(), 4);
}

#[test]
fn regions_architectures_and_names_can_be_chosen() {
    let publishing = Publishing::new()
        .with("REGIONS", "eu-south-2 me-central-1")
        .with("ARCHS", "arm64")
        .with("LAYER_PREFIX", "telemetry");
    // What is not asked for need not be there.
    fs::remove_file(publishing.file("rotel-extension-amd64.zip")).expect("a zip");
    let outcome = publishing.run();
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    let names: Vec<_> = outcome
        .calls_of(PERMIT)
        .iter()
        .map(|call| call.option("--region") + " " + &call.option("--layer-name"))
        .collect();
    assert_eq!(names, ["eu-south-2 telemetry-arm64", "me-central-1 telemetry-arm64"]);
}

#[test]
fn refusing_region_spares_others() {
    let outcome = Publishing::new().with("REFUSED", "eu-west-3 publish-layer-version").run();
    assert_eq!(outcome.code, Some(1));
    let denied = "An error occurred (AccessDeniedException) when calling the publish-layer-version operation: \
                  User: arn:aws:iam::123456789012:user/someone is not authorized to perform it on resource: \
                  arn:aws:lambda:eu-west-3:123456789012:layer:rotel-extension";
    assert_eq!(
        outcome.stderr,
        format!(
            "publish: eu-west-3 amd64: not published: {denied}-amd64\n\
             publish: eu-west-3 arm64: not published: {denied}-arm64\n\
             publish: failed: eu-west-3 amd64, eu-west-3 arm64\n"
        )
    );
    let wanted: Vec<_> = everywhere()
        .filter(|(region, _, _)| *region != "eu-west-3")
        .map(|(region, arch, _)| row(region, arch))
        .collect();
    assert_eq!(outcome.rows(), wanted);
    assert!(outcome.calls_of(PERMIT).iter().all(|call| call.option("--region") != "eu-west-3"));
}

#[test]
fn private_layer_is_named_and_not_listed() {
    let outcome = Publishing::new()
        .with("REGIONS", "us-east-1 sa-east-1")
        .with("ARCHS", "amd64")
        .with("REFUSED", "us-east-1 add-layer-version-permission")
        .run();
    assert_eq!(outcome.code, Some(1));
    let fault = "publish: us-east-1 amd64: arn:aws:lambda:us-east-1:123456789012:layer:rotel-extension-amd64:7 is \
                 published but not public: An error occurred (AccessDeniedException)";
    assert!(outcome.stderr.starts_with(fault), "{}", outcome.stderr);
    assert!(outcome.stderr.ends_with("publish: failed: us-east-1 amd64\n"), "{}", outcome.stderr);
    assert_eq!(outcome.rows(), [row("sa-east-1", "amd64")]);
}

#[test]
fn failed_publish_leaves_no_old_table() {
    let publishing =
        Publishing::new().with("REGIONS", "us-east-1").with("REFUSED", "us-east-1 publish-layer-version");
    fs::write(publishing.file("arns.md"), "of another time").expect("a file");
    let outcome = publishing.run();
    assert_eq!((outcome.code, outcome.stdout.as_str(), outcome.arns), (Some(1), "", None));
}

#[test]
fn dry_run_prints_commands_and_calls_nothing() {
    let publishing = Publishing::new().with("DRY_RUN", "1");
    fs::write(publishing.file("arns.md"), "of another time").expect("a file");
    let outcome = publishing.run();
    assert_eq!((outcome.code, outcome.stderr.as_str(), outcome.calls.len()), (Some(0), "", 0));
    assert_eq!(outcome.arns.as_deref(), Some("of another time"));
    assert_eq!(outcome.stdout.lines().count(), 2 * 2 * REGIONS.len());
    // The very calls of a run that is not dry, once the version that it answered stands in them.
    let script = outcome.stdout.replace("VERSION", "7");
    let calls = publishing.file("calls");
    let status = Command::new("bash")
        .args(["-euc", &script])
        .env("PATH", &publishing.path)
        .env("CALLS", &calls)
        .stdout(std::process::Stdio::null())
        .status()
        .expect("bash");
    assert!(status.success(), "{script}");
    let dry = fs::read_to_string(&calls).expect("calls");
    fs::remove_file(&calls).expect("a file");
    let wet = Publishing { variables: Vec::new(), ..publishing };
    assert_eq!(wet.run().code, Some(0));
    assert_eq!(dry, fs::read_to_string(calls).expect("calls"));
}

#[test]
fn missing_zip_stops_before_publishing() {
    for variables in [&[][..], &[("DRY_RUN", "1")]] {
        let publishing = variables
            .iter()
            .fold(Publishing::new(), |publishing, (name, value)| publishing.with(name, value));
        let zip = publishing.file("rotel-extension-arm64.zip");
        fs::remove_file(&zip).expect("a zip");
        let outcome = publishing.run();
        assert_eq!(
            (outcome.code, outcome.calls.len(), outcome.stdout.as_str(), outcome.stderr),
            (
                Some(2),
                0,
                "",
                format!("publish: {}: no such file; make it with: make layer ARCH=arm64\n", zip.display())
            )
        );
    }
}

#[test]
fn zip_without_its_checksum_is_refused() {
    let other = format!("{CHECKSUM}  rotel-extension-amd64.zip\n");
    for (zip, checksum) in [
        ("another zip", Some(checksum("arm64"))),
        ("a zip", None),
        ("a zip", Some(String::new())),
        ("a zip", Some("nonsense\n".to_owned())),
        // The checksum of the other file, which is there.
        ("another zip", Some(other)),
    ] {
        let publishing = Publishing::new();
        let path = publishing.file("rotel-extension-arm64.zip");
        fs::write(&path, zip).expect("a zip");
        let written = publishing.file("rotel-extension-arm64.zip.sha256");
        match checksum {
            Some(checksum) => fs::write(written, checksum).expect("a checksum"),
            None => fs::remove_file(written).expect("a checksum"),
        }
        let outcome = publishing.run();
        let path = path.display();
        let refusal = format!(
            "publish: {path}: not the file of {path}.sha256; make both with: make layer ARCH=arm64\n"
        );
        assert_eq!((outcome.code, outcome.calls.len(), outcome.stderr), (Some(2), 0, refusal));
    }
}

#[test]
fn actions_are_pinned_by_commit() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/.github/workflows");
    let mut pins = 0;
    for file in fs::read_dir(folder).expect("workflows") {
        let text = fs::read_to_string(file.expect("an entry").path()).expect("a workflow");
        for action in text.lines().filter_map(|line| line.split_once("uses: ").map(|(_, action)| action)) {
            let (commit, version) =
                action.split_once('@').and_then(|(_, pin)| pin.split_once(" # v")).unwrap_or_default();
            let is_commit = commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit());
            assert!(is_commit && version.split('.').count() == 3, "{action}");
            pins += 1;
        }
    }
    assert!(pins > 0);
}

#[test]
fn missing_aws_cli_is_reported_with_remedy() {
    let mut publishing = Publishing::new();
    // All that the script calls before it would call that.
    let bin = publishing.file("bin");
    fs::remove_file(bin.join("aws")).expect("a link");
    for tool in ["bash", "dirname", "sed", "git", "mktemp", "rm", "sha256sum"] {
        symlink(PathBuf::from("/usr/bin").join(tool), bin.join(tool)).expect("a link");
    }
    publishing.path = bin.display().to_string();
    let outcome = publishing.run();
    assert_eq!(
        (outcome.code, outcome.stderr.as_str()),
        (
            Some(2),
            "publish: aws: not found; install the AWS CLI, or see what would be run with: make publish DRY_RUN=1\n"
        )
    );
}

#[test]
fn an_unknown_architecture_is_refused() {
    let outcome = Publishing::new().with("ARCHS", "amd64 x86_64").run();
    assert_eq!(
        (outcome.code, outcome.calls.len(), outcome.stderr.as_str()),
        (Some(2), 0, "publish: ARCHS: \"x86_64\" is no architecture of Lambda; write amd64, arm64 or both\n")
    );
}
