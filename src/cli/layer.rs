//! The ARNs of layers.

use std::fmt;
use std::str::FromStr;

/// A layer, and perhaps one of its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LayerArn {
    /// `arn:aws:lambda:REGION:ACCOUNT:layer:NAME`
    pub(crate) layer: String,
    pub(crate) name: String,
    pub(crate) version: Option<i64>,
}

/// A text that is not the ARN of a layer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the ARN of a layer; write arn:aws:lambda:REGION:ACCOUNT:layer:NAME:VERSION")]
pub(crate) struct InvalidLayerArn(String);

impl FromStr for LayerArn {
    type Err = InvalidLayerArn;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<_> = text.split(':').collect();
        let (name, version) = match parts.as_slice() {
            ["arn", _, "lambda", _, _, "layer", name] => (name, None),
            ["arn", _, "lambda", _, _, "layer", name, version] => match version.parse() {
                Ok(version) => (name, Some(version)),
                Err(_) => return Err(InvalidLayerArn(text.to_owned())),
            },
            _ => return Err(InvalidLayerArn(text.to_owned())),
        };
        let layer = parts.get(..7).unwrap_or_default().join(":");
        Ok(Self { layer, name: (*name).to_owned(), version })
    }
}

impl fmt::Display for LayerArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.layer)?;
        self.version.map_or(Ok(()), |version| write!(f, ":{version}"))
    }
}

/// The layers that contain the extension.
#[derive(Clone, Debug)]
pub(crate) struct ExtensionLayers {
    /// The layers that `make publish` makes are named by this prefix and an architecture.
    pub(crate) prefix: String,
    /// A layer of another name, in any version.
    pub(crate) given: Option<LayerArn>,
}

impl ExtensionLayers {
    /// Returns true if the ARN is that of one of these layers.
    pub(crate) fn contain(&self, arn: &str) -> bool {
        let Ok(arn) = arn.parse::<LayerArn>() else { return false };
        let architecture = arn.name.strip_prefix(&self.prefix);
        let is_published = architecture.is_some_and(|rest| ["-amd64", "-arm64"].contains(&rest));
        is_published || self.given.as_ref().is_some_and(|given| given.layer == arn.layer)
    }
}

/// The architecture in the names of layers, for one of Lambda's architectures.
pub(crate) fn architecture_suffix(architecture: &str) -> &'static str {
    if architecture == "arm64" { "arm64" } else { "amd64" }
}

/// The architecture for which a layer with this name is built, if the name says so.
pub(crate) fn architecture(name: &str) -> Option<&'static str> {
    if name.contains("amd64") || name.contains("x86_64") {
        Some("x86_64")
    } else {
        name.contains("arm64").then_some("arm64")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_is_read_and_written() {
        for text in
            ["arn:aws:lambda:eu-west-1:1:layer:a-arm64:7", "arn:aws-cn:lambda:cn-north-1:1:layer:a-arm64"]
        {
            let arn: LayerArn = text.parse().expect("an ARN");
            assert_eq!(arn.to_string(), text);
            assert_eq!(arn.name, "a-arm64");
        }
        for text in
            ["a-arm64", "arn:aws:lambda:eu-west-1:1:layer:a:seven", "arn:aws:lambda:eu-west-1:1:function:a"]
        {
            assert_eq!(text.parse::<LayerArn>(), Err(InvalidLayerArn(text.to_owned())));
        }
    }

    #[test]
    fn layers_of_like_names_are_others() {
        let given = "arn:aws:lambda:eu-west-1:1:layer:telemetry-arm64".parse().ok();
        let layers = ExtensionLayers { prefix: "rotel-extension".to_owned(), given };
        for name in ["rotel-extension-amd64:1", "rotel-extension-arm64:2", "telemetry-arm64:9"] {
            assert!(layers.contain(&format!("arn:aws:lambda:eu-west-1:1:layer:{name}")), "{name}");
        }
        for name in ["rotel-extension-settings:1", "rotel-extension:1", "telemetry-amd64:9"] {
            assert!(!layers.contain(&format!("arn:aws:lambda:eu-west-1:1:layer:{name}")), "{name}");
        }
        assert!(!layers.contain("rotel-extension-amd64"));
    }

    #[test]
    fn a_name_gives_the_architecture() {
        assert_eq!(architecture("rotel-extension-amd64"), Some("x86_64"));
        assert_eq!(architecture("rotel-extension-arm64"), Some("arm64"));
        assert_eq!(architecture("telemetry"), None);
        assert_eq!(architecture_suffix("x86_64"), "amd64");
        assert_eq!(architecture_suffix("arm64"), "arm64");
    }
}
