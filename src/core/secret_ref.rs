//! What is asked of AWS for the references in the variables.

/// An AWS service that keeps secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// AWS Secrets Manager.
    SecretsManager,
    /// The Parameter Store of AWS Systems Manager.
    ParameterStore,
}

/// Secrets that one call can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Where they are kept.
    pub service: Service,
    /// The region in their ARNs.
    pub region: String,
    /// Their ARNs: distinct ones, at most ten.
    pub arns: Vec<String>,
}
