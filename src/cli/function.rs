//! A function's configuration, as far as the extension is concerned.

use std::fmt;

use rotel_core::config::Variables;

use crate::layer::{ExtensionLayers, LayerArn};

/// A function's configuration.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Function {
    /// The name or the ARN by which the person calls it, perhaps with a version or an alias.
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) region: String,
    /// The runtime, such as `python3.13`; empty for a container image.
    pub(crate) runtime: String,
    /// `x86_64` or `arm64`.
    pub(crate) architecture: String,
    pub(crate) memory_megabytes: i32,
    pub(crate) is_image: bool,
    /// The state, such as `Active`, with Lambda's reason if there is one.
    pub(crate) state: String,
    /// The ARNs of its layers, in their order.
    pub(crate) layers: Vec<String>,
    /// Its variables. They may hold credentials.
    pub(crate) variables: Variables,
    /// Lambda could not decrypt the variables, so that `variables` is not what the function gets.
    pub(crate) variables_hidden: bool,
    /// Published versions start from a snapshot.
    pub(crate) has_snap_start: bool,
    /// Lambda's id of this state. A change that gives it is refused if the function has changed meanwhile.
    pub(crate) revision: Option<String>,
    /// The stack of CloudFormation that the function belongs to.
    pub(crate) stack: Option<String>,
}

/// Leaves out the variables, which may be credentials.
impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function")
            .field("name", &self.name)
            .field("layers", &self.layers)
            .finish_non_exhaustive()
    }
}

impl Function {
    /// The layer of the extension.
    pub(crate) fn extension_layer(&self, layers: &ExtensionLayers) -> Option<LayerArn> {
        self.layers.iter().find(|arn| layers.contain(arn)).and_then(|arn| arn.parse().ok())
    }

    /// The version or alias in [`Self::id`].
    pub(crate) fn qualifier(&self) -> Option<&str> {
        let name = self.id.split_once(":function:").map_or(&*self.id, |(_, name)| name);
        let (_, qualifier) = name.split_once(':')?;
        // An ARN may leave out its beginning: `123456789012:function:orders`.
        Some(qualifier)
    }

    /// The variables with those that Lambda adds and the extension reads.
    pub(crate) fn environment(&self, variables: &Variables) -> Variables {
        let mut environment = variables.clone();
        environment.extend([
            ("AWS_LAMBDA_FUNCTION_NAME".to_owned(), self.name.clone()),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE".to_owned(), self.memory_megabytes.to_string()),
            ("AWS_REGION".to_owned(), self.region.clone()),
        ]);
        environment
    }
}

/// True if the variables come from a file that only the function's bundle has as well.
pub(crate) fn has_settings_in_bundle(variables: &Variables) -> bool {
    rotel_core::config::env_file_path(variables).is_some()
        || rotel_core::config::collector_yaml_uris(variables).is_some()
}
