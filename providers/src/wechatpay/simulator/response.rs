//! An answer before it is signed. It carries no money: what it says was done in the book before.

use http::StatusCode;
use serde_json::{Value, json};

use crate::sandbox::simulator::ScriptedRefusal;

/// Status, internal reason and body.
#[derive(Debug)]
pub(super) struct Said {
    pub status: StatusCode,
    /// Goes into `Request-ID`; 0 names no reason.
    pub reason: u32,
    pub body: Option<Value>,
    /// Everything but an answer to an unauthenticated request.
    pub signed: bool,
}

impl Said {
    pub(super) fn ok(body: Value) -> Self {
        Self {
            status: StatusCode::OK,
            reason: 0,
            body: Some(body),
            signed: true,
        }
    }

    pub(super) fn no_content() -> Self {
        Self {
            status: StatusCode::NO_CONTENT,
            reason: 0,
            body: None,
            signed: true,
        }
    }

    pub(super) fn no(status: StatusCode, code: &str, reason: u32, message: &str) -> Self {
        Self {
            status,
            reason,
            body: Some(json!({"code": code, "message": message})),
            signed: true,
        }
    }

    pub(super) fn bad_request(code: &str, reason: u32, message: &str) -> Self {
        Self::no(StatusCode::BAD_REQUEST, code, reason, message)
    }

    /// The documented body when a service inside of WeChat Pay fails.
    pub(super) fn system_error() -> Self {
        Self::no(
            StatusCode::INTERNAL_SERVER_ERROR,
            "SYSTEM_ERROR",
            0,
            "系统异常，请稍后重试",
        )
    }

    /// `PARAM_ERROR` about a member.
    pub(super) fn param_error(field: &str, value: &Value, issue: &str, reason: u32) -> Self {
        let detail = json!({"field": field, "value": value, "issue": issue, "location": "body"});
        let message = format!("输入源“/body{field}”校验失败：{issue}");
        let body = json!({"code": "PARAM_ERROR", "detail": detail, "message": message});
        Self {
            status: StatusCode::BAD_REQUEST,
            reason,
            body: Some(body),
            signed: true,
        }
    }

    /// Status, code, and the number of a reason or a member: `400 PARAM_ERROR /amount/total`.
    pub(super) fn of(word: &ScriptedRefusal) -> Self {
        let mut parts = word.code.split(' ');
        let status = parts
            .next()
            .and_then(|status| status.parse().ok())
            .unwrap_or(StatusCode::BAD_REQUEST);
        let code = parts.next().unwrap_or_default();
        let more = parts.next().unwrap_or_default();
        let body = if more.starts_with('/') {
            let detail = json!({"field": more, "issue": word.message, "location": "body"});
            json!({"code": code, "message": word.message, "detail": detail})
        } else {
            json!({"code": code, "message": word.message})
        };

        let reason = more.parse().unwrap_or_default();
        Self {
            status,
            reason,
            body: Some(body),
            signed: status != StatusCode::UNAUTHORIZED,
        }
    }

    /// 401, which is never signed.
    pub(super) fn unauthorized(message: &str, detail: Value) -> Self {
        let body = json!({"code": "SIGN_ERROR", "detail": detail, "message": message});
        Self {
            status: StatusCode::UNAUTHORIZED,
            reason: 268_443_699,
            body: Some(body),
            signed: false,
        }
    }
}
