//! How the robots of chats want to be told: WeCom, DingTalk, Feishu and Slack. Writes and signs
//! messages, and judges answers: all but Slack answer errors with status 200. Sends nothing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use providers::address;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::message::{Message, Tone};
use crate::config::{Language, Receiver, Robot};
use crate::domain::Timestamp;
use crate::domain::webhook::End;
use crate::incidents::messages::say;

/// WeCom takes so many bytes of markdown.
const WECOM_BYTES: usize = 4_096;
/// Slack takes so many characters in a header, and in a section.
const SLACK_HEADER: usize = 150;
const SLACK_SECTION: usize = 3_000;

/// A message on its way to a robot.
#[derive(Clone, PartialEq, Eq)]
pub struct Post {
    /// Where to. As good as a password: never logged.
    pub url: String,
    /// JSON.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Post {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Post").finish_non_exhaustive()
    }
}

/// Names a receiver in rows, the same on every gateway: a digest that gives away nothing of its
/// address.
#[must_use]
pub fn id(receiver: &Receiver) -> String {
    let kind: &'static str = receiver.robot.into();
    let digest = Sha256::digest(format!("{kind} {}", receiver.url));
    let start: String = digest
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{kind}-{start}")
}

/// A message as this receiver wants it, signed at `now` if it has a secret.
#[must_use]
pub fn post(receiver: &Receiver, message: &Message, now: Timestamp) -> Post {
    let body = match receiver.robot {
        Robot::Wecom => wecom(receiver.language, message),
        Robot::Dingtalk => dingtalk(receiver.language, message),
        Robot::Feishu => feishu(receiver, message, now),
        Robot::Slack => slack(message),
    };
    let url = match (&receiver.secret, receiver.robot) {
        (Some(secret), Robot::Dingtalk) => dingtalk_signed(&receiver.url, secret, now),
        (Some(_) | None, Robot::Wecom | Robot::Dingtalk | Robot::Feishu | Robot::Slack) => {
            receiver.url.clone()
        }
    };

    Post {
        url,
        body: body.to_string().into_bytes(),
    }
}

/// Whether the robot has taken a message that was answered so with a good status.
#[must_use]
pub fn judge(robot: Robot, answer: Option<&str>) -> End {
    let answer = answer.unwrap_or_default();
    let taken = match robot {
        // Nothing but `ok`; errors have a status of their own.
        Robot::Slack => true,
        Robot::Wecom | Robot::Dingtalk => code(answer, &["errcode"]) == Some(0),
        Robot::Feishu => code(answer, &["code", "StatusCode"]) == Some(0),
    };
    if taken {
        End::Delivered
    } else {
        End::WrongBody
    }
}

fn code(answer: &str, members: &[&str]) -> Option<i64> {
    let answer: Value = serde_json::from_str(answer).ok()?;
    members
        .iter()
        .find_map(|member| answer.get(member)?.as_i64())
}

fn colon(language: Language) -> &'static str {
    say(language, "：", ": ")
}

fn wecom(language: Language, message: &Message) -> Value {
    let colour = match message.tone {
        Tone::Page => "warning",
        Tone::Notice => "comment",
        Tone::Over => "info",
    };
    let mut content = format!("**<font color=\"{colour}\">{}</font>**", message.title);
    for (label, text) in &message.lines {
        content.push_str(&format!("\n> **{label}**{}{text}", colon(language)));
    }
    json!({"msgtype": "markdown", "markdown": {"content": shortened(&content, WECOM_BYTES)}})
}

fn dingtalk(language: Language, message: &Message) -> Value {
    let mut text = format!("### {}", message.title);
    for (label, line) in &message.lines {
        text.push_str(&format!("\n\n**{label}**{}{line}", colon(language)));
    }
    json!({"msgtype": "markdown", "markdown": {"title": message.title, "text": text}})
}

/// The secret is the key, the time and the secret are what is signed.
fn dingtalk_signed(address: &str, secret: &str, now: Timestamp) -> String {
    let Ok(mut url) = address::stored(address) else {
        return address.to_owned();
    };
    let timestamp = now.0.to_string();
    let sign = hmac(
        secret.as_bytes(),
        format!("{timestamp}\n{secret}").as_bytes(),
    );
    url.query_pairs_mut()
        .append_pair("timestamp", &timestamp)
        .append_pair("sign", &sign);
    url.into()
}

fn feishu(receiver: &Receiver, message: &Message, now: Timestamp) -> Value {
    let template = match message.tone {
        Tone::Page => "red",
        Tone::Notice => "orange",
        Tone::Over => "green",
    };
    let elements: Vec<Value> = message
        .lines
        .iter()
        .map(|(label, text)| {
            let content = format!("**{label}**{}{text}", colon(receiver.language));
            json!({"tag": "div", "text": {"tag": "lark_md", "content": content}})
        })
        .collect();

    let mut body = json!({
        "msg_type": "interactive",
        "card": {
            "config": {"wide_screen_mode": true},
            "header": {"title": {"tag": "plain_text", "content": message.title},
                "template": template},
            "elements": elements,
        },
    });

    if let (Some(secret), Some(members)) = (&receiver.secret, body.as_object_mut()) {
        // The time and the secret are the key, and nothing is what is signed.
        let timestamp = now.0.div_euclid(1_000).to_string();
        let sign = hmac(format!("{timestamp}\n{secret}").as_bytes(), b"");
        members.insert("timestamp".to_owned(), timestamp.into());
        members.insert("sign".to_owned(), sign.into());
    }

    body
}

fn slack(message: &Message) -> Value {
    let mark = match message.tone {
        Tone::Page => ":red_circle:",
        Tone::Notice => ":large_orange_circle:",
        Tone::Over => ":large_green_circle:",
    };
    let title: String = message.title.chars().take(SLACK_HEADER).collect();
    let mut blocks = vec![json!({"type": "header", "text": {"type": "plain_text", "text": title}})];
    for (label, text) in &message.lines {
        let text: String = format!("*{}*\n{}", escaped(label), escaped(text))
            .chars()
            .take(SLACK_SECTION)
            .collect();
        blocks.push(json!({"type": "section", "text": {"type": "mrkdwn", "text": text}}));
    }
    json!({"text": format!("{mark} {}", escaped(&message.title)), "blocks": blocks})
}

/// What Slack would take for a link or a mention.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// At most so many bytes, whole characters.
fn shortened(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

fn hmac(key: &[u8], text: &[u8]) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return String::new();
    };
    mac.update(text);
    STANDARD.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use strum::IntoEnumIterator as _;

    use super::*;
    use crate::domain::incident::{Change, Severity};
    use crate::incidents::message::tests::incident;
    use crate::store::Figures;

    const NOW: Timestamp = Timestamp(1_767_196_800_000);

    fn receiver(robot: Robot, secret: Option<&str>) -> Receiver {
        let secret = secret.map(str::to_owned);
        let url = "https://chat.example/send?access_token=t".to_owned();
        Receiver {
            robot,
            url,
            secret,
            language: Language::En,
            severity: Severity::Notice,
        }
    }

    fn sent(receiver: &Receiver) -> (String, Value) {
        let message = Message::of(
            Language::En,
            &incident(),
            Change::Opened,
            &Figures::default(),
            NOW.plus_s(60),
        );
        let post = post(receiver, &message, NOW);
        (post.url, serde_json::from_slice(&post.body).unwrap())
    }

    /// The signatures were made by Python's hmac.
    #[test]
    fn messages_are_signed_as_dingtalk_and_feishu_ask() {
        let (url, _) = sent(&receiver(Robot::Dingtalk, Some("SEC000")));
        let sign = "mSIDKVKQqpX8Rugr%2FqNRmfjHAU7MT%2FA9FaOAzuOVxls%3D";
        assert_eq!(
            url,
            format!("https://chat.example/send?access_token=t&timestamp=1767196800000&sign={sign}")
        );
        let (url, body) = sent(&receiver(Robot::Feishu, Some("demo")));
        assert_eq!(url, "https://chat.example/send?access_token=t");
        assert_eq!(body["timestamp"], "1767196800");
        assert_eq!(body["sign"], "zxC8wfOoFaDv606y4Tvi1Qf1fCd1vQN9q7SoHKUhTB4=");
        assert!(sent(&receiver(Robot::Feishu, None)).1.get("sign").is_none());
    }

    #[test]
    fn each_chat_gets_the_whole_message_in_its_own_format() {
        for robot in Robot::iter() {
            let (_, body) = sent(&receiver(robot, None));
            let (title, last) = match robot {
                Robot::Wecom => (&body["markdown"]["content"], &body["markdown"]["content"]),
                Robot::Dingtalk => (&body["markdown"]["title"], &body["markdown"]["text"]),
                Robot::Feishu => (
                    &body["card"]["header"]["title"]["content"],
                    &body["card"]["elements"][4]["text"]["content"],
                ),
                Robot::Slack => (&body["text"], &body["blocks"][5]["text"]["text"]),
            };
            assert!(
                title
                    .as_str()
                    .unwrap()
                    .contains("Alipay · Scan a QR code: out of order"),
                "{body:#}"
            );
            assert!(
                last.as_str().unwrap().contains("interlock incident inc_1"),
                "{body:#}"
            );
        }
    }

    #[test]
    fn an_error_in_a_good_answer_is_an_error() {
        for (robot, answer, end) in [
            (
                Robot::Wecom,
                r#"{"errcode":0,"errmsg":"ok"}"#,
                End::Delivered,
            ),
            (
                Robot::Wecom,
                r#"{"errcode":45009,"errmsg":"api freq out of limit"}"#,
                End::WrongBody,
            ),
            (
                Robot::Dingtalk,
                r#"{"errcode":310000,"errmsg":"sign not match"}"#,
                End::WrongBody,
            ),
            (
                Robot::Feishu,
                r#"{"StatusCode":0,"StatusMessage":"success"}"#,
                End::Delivered,
            ),
            (
                Robot::Feishu,
                r#"{"code":0,"msg":"success","data":{}}"#,
                End::Delivered,
            ),
            (
                Robot::Feishu,
                r#"{"code":19021,"msg":"sign match fail"}"#,
                End::WrongBody,
            ),
            (Robot::Feishu, "<html>", End::WrongBody),
            (Robot::Slack, "ok", End::Delivered),
        ] {
            assert_eq!(judge(robot, Some(answer)), end, "{answer}");
        }

        assert_eq!(judge(Robot::Wecom, None), End::WrongBody);
    }

    #[test]
    fn what_a_chat_does_not_take_is_cut_or_escaped() {
        assert_eq!(shortened("付款", 4), "付");
        assert_eq!(shortened("ab", 4), "ab");
        assert_eq!(escaped("<!channel> & co"), "&lt;!channel&gt; &amp; co");
    }

    #[test]
    fn a_receivers_name_is_the_same_everywhere_and_gives_nothing_away() {
        let (one, other) = (
            id(&receiver(Robot::Slack, None)),
            id(&receiver(Robot::Wecom, None)),
        );
        assert_eq!(one, id(&receiver(Robot::Slack, None)));
        assert_ne!(one, other);
        assert!(
            one.starts_with("slack-") && one.len() == 18 && !one.contains("chat"),
            "{one}"
        );
    }
}
