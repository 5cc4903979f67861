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
pub(crate) struct NotALayer(String);

impl FromStr for LayerArn {
    type Err = NotALayer;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<_> = text.split(':').collect();
        let (name, version) = match parts.as_slice() {
            ["arn", _, "lambda", _, _, "layer", name] => (name, None),
            ["arn", _, "lambda", _, _, "layer", name, version] => match version.parse() {
                Ok(version) => (name, Some(version)),
                Err(_) => return Err(NotALayer(text.to_owned())),
            },
            _ => return Err(NotALayer(text.to_owned())),
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

/// The end of the names of the extension's layers for one of Lambda's architectures; `make publish` writes them so.
pub(crate) fn name_end(architecture: &str) -> &'static str {
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
            assert_eq!(text.parse::<LayerArn>(), Err(NotALayer(text.to_owned())));
        }
    }

    #[test]
    fn a_name_gives_the_architecture() {
        assert_eq!(architecture("rotel-extension-amd64"), Some("x86_64"));
        assert_eq!(architecture("rotel-extension-arm64"), Some("arm64"));
        assert_eq!(architecture("telemetry"), None);
        assert_eq!(name_end("x86_64"), "amd64");
        assert_eq!(name_end("arm64"), "arm64");
    }
}
