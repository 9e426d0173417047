//! Why an object cannot become a plan, in the words of whoever has to mend it.

/// A decision that cannot be made. Nothing running is touched while it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The author of the object has to change it.
    #[error("{field} is {value}: {problem}; {possible}")]
    Refused {
        /// Path of the field, as in `kubectl explain`.
        field: String,
        /// What it holds.
        value: String,
        /// Why that cannot be.
        problem: String,
        /// What would do.
        possible: String,
    },
    /// Something this depends on is not there yet; it may come by itself.
    #[error("{field} waits for {on}")]
    Waiting {
        /// Path of the field that names it.
        field: String,
        /// What is missing.
        on: String,
    },
    /// An object with a name this plan needs belongs to something else.
    #[error("{kind} {name} exists and belongs to {holder}; rename this object, or remove that one")]
    Taken {
        /// Kind of the object that is in the way.
        kind: String,
        /// Its name.
        name: String,
        /// Whose it is.
        holder: String,
    },
}

impl Unfit {
    /// A value that cannot be, why, and what could.
    pub fn refused(
        field: impl Into<String>,
        value: impl std::fmt::Display,
        problem: impl Into<String>,
        possible: impl Into<String>,
    ) -> Self {
        Self::Refused {
            field: field.into(),
            value: format!("`{value}`"),
            problem: problem.into(),
            possible: possible.into(),
        }
    }

    /// Something that is not there yet.
    pub fn waiting(field: impl Into<String>, on: impl Into<String>) -> Self {
        Self::Waiting { field: field.into(), on: on.into() }
    }

    /// A word for the condition's `reason`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "Unfit",
            Self::Waiting { .. } => "Waiting",
            Self::Taken { .. } => "NameTaken",
        }
    }

    /// True when looking again later may help without anybody changing this object.
    pub fn may_pass(&self) -> bool {
        !matches!(self, Self::Refused { .. })
    }
}
