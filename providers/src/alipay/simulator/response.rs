//! What the gateway says: the members of a node, and its "no".

use serde_json::Value;

/// A "no" of the gateway's: code, `sub_code`, `sub_msg`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refused(
    pub(super) &'static str,
    pub(super) &'static str,
    pub(super) &'static str,
);

/// "Failed" by its code, and by its `sub_code` nobody knows.
pub(super) const UNDECIDED: Refused = Refused("40004", "ACQ.SYSTEM_ERROR", "接口返回错误");

/// The members of a node, in order; nearly all of them are texts.
#[derive(Debug, Clone)]
pub(super) struct Said(pub(super) Vec<(&'static str, Value)>);

impl Said {
    pub(super) fn success(members: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let mut said = Self(vec![("code", "10000".into()), ("msg", "Success".into())]);
        said.extend(members);
        said
    }

    pub(super) fn push(&mut self, name: &'static str, value: impl Into<Value>) {
        self.0.push((name, value.into()));
    }

    pub(super) fn extend(&mut self, members: impl IntoIterator<Item = (&'static str, String)>) {
        self.0.extend(
            members
                .into_iter()
                .map(|(name, value)| (name, value.into())),
        );
    }

    pub(super) fn is(&self, sub_code: &str) -> bool {
        self.0
            .iter()
            .any(|(name, value)| *name == "sub_code" && value == sub_code)
    }

    pub(super) fn to_json(&self) -> String {
        let members: Vec<String> = self
            .0
            .iter()
            .map(|(name, value)| format!(r#""{name}":{value}"#))
            .collect();
        format!("{{{}}}", members.join(","))
    }
}

impl From<Refused> for Said {
    fn from(Refused(code, sub_code, sub_msg): Refused) -> Self {
        let msg = match code {
            "40001" => "Missing Required Arguments",
            "40002" => "Invalid Arguments",
            "40005" => "Call Limited",
            _ => "Business Failed",
        };
        let members = [
            ("code", code),
            ("msg", msg),
            ("sub_code", sub_code),
            ("sub_msg", sub_msg),
        ];
        Self(members.map(|(name, value)| (name, value.into())).to_vec())
    }
}
