//! An answer before it is signed. It carries no money: what it says was done in the book before.

use super::super::wire::Fields;

/// `respCode`, `respMsg`, and fields beside those that are repeated from the request.
#[derive(Debug)]
pub(super) struct Said {
    pub code: String,
    pub message: String,
    pub fields: Fields,
}

impl Said {
    pub(super) fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            fields: Fields::new(),
        }
    }

    pub(super) fn ok() -> Self {
        Self::new("00", "成功[0000000]")
    }

    #[must_use]
    pub(super) fn with<'a>(mut self, fields: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        self.fields.extend(
            fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value)),
        );
        self
    }

    /// The issuer was asked and has not answered: a question that was answered has that where it
    /// tells of the money.
    pub(super) fn of_a_silent_issuer(self) -> Self {
        let (code, message) = ("30", "交易未通过，发卡方应答超时[1000068]");
        if self.fields.contains_key("origRespCode") {
            return self.with([
                ("origRespCode", code.to_owned()),
                ("origRespMsg", message.to_owned()),
            ]);
        }
        Self::new(code, message)
    }

    pub(super) fn invalid(field: &str) -> Self {
        Self::new("10", format!("[9100003]Invalid field[{field}]"))
    }

    pub(super) fn not_signed() -> Self {
        Self::new("11", "[9100004]Signature verification failed")
    }

    pub(super) fn no_permission() -> Self {
        Self::new("32", "无此权限[1000032]")
    }

    pub(super) fn duplicate() -> Self {
        Self::new("12", "重复交易[2010002]")
    }

    pub(super) fn not_found() -> Self {
        Self::new("34", "查无此交易[2600000]")
    }

    pub(super) fn no_original() -> Self {
        Self::new("35", "原交易不存在或状态不正确[2040004]")
    }

    pub(super) fn too_often() -> Self {
        Self::new("37", "已超过最大查询次数或操作过于频繁[1000037]")
    }

    pub(super) fn gone_back() -> Self {
        Self::new("45", "原交易已被成功退货或已被成功撤销[2050002]")
    }

    pub(super) fn busy() -> Self {
        Self::new("06", "系统繁忙，请稍后再试[1000006]")
    }
}
