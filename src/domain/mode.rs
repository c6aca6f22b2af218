//! Test or live: whether money is real. The two share nothing but the program.

/// Whether money is real.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    strum::Display,
    strum::EnumString,
    strum::EnumIter,
    strum::IntoStaticStr,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Mode {
    /// Sandboxes and providers' test environments: nothing is real.
    Test,
    /// Real money.
    Live,
}

impl Mode {
    /// What `livemode` says in rows and in the API.
    #[must_use]
    pub const fn of(livemode: bool) -> Self {
        if livemode { Self::Live } else { Self::Test }
    }

    /// Real money?
    #[must_use]
    pub const fn is_live(self) -> bool {
        match self {
            Self::Test => false,
            Self::Live => true,
        }
    }

    /// As labels and log lines say it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
