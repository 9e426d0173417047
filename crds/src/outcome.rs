//! What came of a pass over an object.

use crate::Unfit;

/// How far the last pass got.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Outcome {
    /// Everything the plan holds stands in the cluster.
    #[default]
    Applied,
    /// There is no plan; what runs was left alone.
    Unfit(Unfit),
    /// The plan was made but could not be written. The text names the act that failed.
    Failed(String),
}
