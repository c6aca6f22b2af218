//! Why a configuration is none: which key is wrong, and where it was given.

/// What is wrong with the configuration, and where.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or a variable that cannot be read, or a wrong type.
    #[error("configuration: {}", one_line(&.0.to_string()))]
    Read(#[from] config::ConfigError),
    /// The file.
    #[error("configuration file {}: {problem}", path.display())]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// Why it cannot be read.
        problem: std::io::Error,
    },
    /// A key that does not exist.
    #[error("configuration: there is no key {key} (given in {origin})")]
    Unknown {
        /// `section.key`.
        key: String,
        /// Which file, or the environment.
        origin: String,
    },
    /// A value that cannot be.
    #[error("configuration: {key} = {value:?}, given {origin}: {problem}")]
    Value {
        /// `section.key`.
        key: &'static str,
        /// What was given.
        value: String,
        /// Where.
        origin: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// A value that cannot be.
pub(super) struct Wrong {
    pub(super) key: &'static str,
    pub(super) value: String,
    pub(super) problem: &'static str,
}

/// Errors in TOML come with a drawing of the place, over several lines.
fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.contains('|'))
        .collect();
    lines.join(" ")
}
