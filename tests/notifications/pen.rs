//! The provider's side of the wire: notifications that the sandbox would not send, with genuine
//! signatures where they are wanted.

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use providers::sandbox::book::{Event, Order};
use providers::sandbox::simulator::{Alteration, Notice, Outgoing, Simulator};
use providers::signing::Signer;
use providers::wechatpay::sign::{ResourceKey, answer_message};
use serde_json::{Value, json};

use crate::helpers::{TestApp, keys};

/// The provider's side of the wire, to make notifications that the sandbox would not send.
pub(super) struct Pen {
    pub(super) provider: &'static str,
    keys: Value,
    face: Arc<dyn Simulator>,
    pub(super) now: DateTime<Utc>,
}

impl Pen {
    pub(super) fn new(app: &TestApp, provider: &'static str) -> Self {
        Self::with(app, provider, |_| {})
    }

    /// With other keys or names than the sandbox's.
    pub(super) fn with(
        app: &TestApp,
        provider: &'static str,
        change: impl FnOnce(&mut Value),
    ) -> Self {
        let mut keys = keys().of(provider).unwrap().clone();
        change(&mut keys);
        let face = (providers::sandbox::simulated(provider).unwrap().open)(&keys).unwrap();
        Self {
            provider,
            keys,
            face,
            now: app.app().clock.now().utc(),
        }
    }

    pub(super) fn at(self, offset_s: i64) -> Self {
        Self {
            now: self.now + TimeDelta::seconds(offset_s),
            ..self
        }
    }

    pub(super) fn paid(&self, order: &Order, id: u32, alteration: Alteration) -> Outgoing {
        self.write(
            order,
            &Event::Paid {
                order: order.key.clone(),
            },
            id,
            alteration,
        )
    }

    /// What the provider would send of this; nothing, where it has nothing to say yet.
    fn try_write(
        &self,
        order: &Order,
        event: &Event,
        id: u32,
        alteration: Alteration,
    ) -> Option<Outgoing> {
        let id = format!("{id:032x}");
        self.face.notification(&Notice {
            event,
            order,
            id: &id,
            now: self.now,
            alteration,
        })
    }

    pub(super) fn write(
        &self,
        order: &Order,
        event: &Event,
        id: u32,
        alteration: Alteration,
    ) -> Outgoing {
        self.try_write(order, event, id, alteration).unwrap()
    }

    /// That an order's only refund has ended, as soon as it has.
    pub(super) async fn refund_ended(&self, app: &TestApp, order_no: &str, id: u32) -> Outgoing {
        for pause in crate::helpers::pauses() {
            let order = app.sandbox().book().lock().by_order_no(order_no).cloned();
            let told = order.and_then(|order| {
                let event = Event::RefundEnded {
                    order: order.key.clone(),
                    refund_no: order.refunds.keys().next()?.clone(),
                };
                self.try_write(&order, &event, id, Alteration::None)
            });
            if let Some(told) = told {
                return told;
            }
            tokio::time::sleep(pause).await;
        }
        panic!("the refund of {order_no} never ends")
    }

    /// Changes what a genuine notification says, and signs it again with the provider's own key.
    pub(super) fn edited(
        &self,
        outgoing: &Outgoing,
        member: &str,
        value: Option<&str>,
    ) -> Outgoing {
        match self.provider {
            "alipay" => self.edited_form(outgoing, member, value),
            _ => self.edited_resource(outgoing, member, value),
        }
    }

    fn edited_form(&self, outgoing: &Outgoing, member: &str, value: Option<&str>) -> Outgoing {
        let mut fields: Vec<(String, String)> = form_urlencoded::parse(&outgoing.body)
            .into_owned()
            .collect();
        fields.retain(|(name, _)| !["sign", "sign_type", member].contains(&name.as_str()));
        fields.extend(value.map(|value| (member.to_owned(), value.to_owned())));
        fields.sort();
        let text: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let sign = self
            .signer("alipay_private_key")
            .sign(text.join("&").as_bytes());
        fields.push(("sign_type".to_owned(), "RSA2".to_owned()));
        fields.push(("sign".to_owned(), sign));
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();

        Outgoing {
            body: body.into(),
            ..outgoing.clone()
        }
    }

    fn edited_resource(&self, outgoing: &Outgoing, member: &str, value: Option<&str>) -> Outgoing {
        let key = ResourceKey::new(self.keys["apiv3_key"].as_str().unwrap()).unwrap();
        let mut envelope: Value = serde_json::from_slice(&outgoing.body).unwrap();
        let resource = envelope["resource"].clone();
        let text = |name: &str| resource[name].as_str().unwrap();
        let plain = key
            .open(text("nonce"), text("associated_data"), text("ciphertext"))
            .unwrap();
        let mut plain: Value = serde_json::from_slice(&plain).unwrap();

        let (last, path) = {
            let mut path: Vec<&str> = member.split('.').collect();
            (path.pop().unwrap(), path)
        };
        let place = path
            .iter()
            .fold(&mut plain, |at, name| &mut at[*name])
            .as_object_mut()
            .unwrap();

        match value {
            Some(value) => {
                let is_number = place.get(last).is_some_and(Value::is_number);
                let value = if is_number {
                    json!(value.parse::<i64>().unwrap())
                } else {
                    json!(value)
                };
                place.insert(last.to_owned(), value);
            }
            None => drop(place.remove(last)),
        }

        let sealed = key
            .seal(
                text("nonce"),
                text("associated_data"),
                plain.to_string().as_bytes(),
            )
            .unwrap();

        envelope["resource"]["ciphertext"] = json!(sealed);
        self.signed(outgoing, envelope.to_string().into())
    }

    /// Any body, with a genuine WeChat Pay signature over it.
    pub(super) fn signed(&self, outgoing: &Outgoing, body: Bytes) -> Outgoing {
        let mut headers = outgoing.headers.clone();
        let header = |name: &str| outgoing.headers[name].to_str().unwrap();
        let message = answer_message(
            header("wechatpay-timestamp"),
            header("wechatpay-nonce"),
            &body,
        );
        let signature = self.signer("public_key_private").sign(&message);
        headers.insert("wechatpay-signature", signature.parse().unwrap());
        Outgoing {
            headers,
            body,
            ..outgoing.clone()
        }
    }

    pub(super) fn signer(&self, name: &str) -> Signer {
        Signer::from_text(self.keys[name].as_str().unwrap()).unwrap()
    }
}
