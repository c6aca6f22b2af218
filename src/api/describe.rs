//! The API, described by its own code (`/openapi.json`): its calls, and what all of them have in
//! common.

use std::collections::BTreeMap;

use utoipa::openapi::path::{Operation, ParameterIn, PathItem};
use utoipa::openapi::schema::ArrayItems;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Content, HeaderBuilder, ObjectBuilder, OpenApi as Document, Ref, RefOr, Required, Response,
    ResponseBuilder, Schema, Type,
};
use utoipa::{Modify, OpenApi, ToSchema as _};

use super::error::Problem;

/// The API, described by its own code.
#[derive(Debug, OpenApi)]
#[openapi(
    info(title = "Interlock", description = "One payment API over Alipay, WeChat Pay and \
                                             UnionPay."),
    paths(
        super::payments::create,
        super::payments::read,
        super::payments::list,
        super::payments::offer,
        super::payments::cancel,
        super::refunds::create,
        super::refunds::read,
        super::refunds::list,
        super::accounts::list,
        super::accounts::create,
        super::accounts::change,
        super::routes::list,
        super::routing::read,
        super::routing::write,
        super::routing::versions,
        super::routing::version,
        super::routing::rollback,
        super::preview::preview,
        super::webhooks::list,
        super::webhooks::create,
        super::webhooks::read,
        super::webhooks::change,
        super::webhooks::remove,
        super::webhooks::rotate,
        super::webhooks::test,
        super::webhooks::notify_secret,
        super::webhooks::rotate_notify_secret,
        super::events::list,
        super::events::read,
        super::events::replay,
        super::events::replay_all,
        super::events::deliveries,
        super::keys::list,
        super::keys::create,
        super::keys::revoke,
        super::incidents::list,
        super::incidents::read,
        super::status::page,
        super::status::json,
        super::ledger::list,
        super::ledger::balances,
        super::operations::list,
        super::operations::read,
        super::operations::resolve,
        super::system::healthz,
        super::system::readyz,
        super::system::metrics,
    ),
    modifiers(&Security, &Answers, &Lists)
)]
pub struct ApiDoc;

/// Every call but those of whoever watches the gateway needs a key.
struct Security;

impl Modify for Security {
    fn modify(&self, openapi: &mut Document) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        openapi
            .components
            .get_or_insert_with(Default::default)
            .add_security_scheme("api_key", scheme);
        openapi.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>(
            "api_key",
            [],
        )]);
    }
}

/// A refusal that many calls have in common. What a call alone refuses stands with it.
struct Refusal {
    status: u16,
    name: &'static str,
    why: &'static str,
    /// Whether a call can be answered so.
    may: fn(&Call<'_>) -> bool,
}

/// A call, as far as it is known which refusals it can meet.
struct Call<'a> {
    path: &'a str,
    operation: &'a Operation,
}

impl Call<'_> {
    fn needs_key(&self) -> bool {
        self.operation.security.is_none()
    }

    fn has_body(&self) -> bool {
        self.operation.request_body.is_some()
    }

    fn has_query(&self) -> bool {
        let is_of_query = |parameter: &RefOr<_>| match parameter {
            RefOr::T(utoipa::openapi::path::Parameter { parameter_in, .. }) => {
                *parameter_in == ParameterIn::Query
            }
            RefOr::Ref(_) => false,
        };
        self.operation.parameters.iter().flatten().any(is_of_query)
    }
}

const REFUSALS: &[Refusal] = &[
    Refusal {
        status: 400,
        name: "BadRequest",
        why: "The body is no strict JSON, or a header is missing, malformed or given twice.",
        may: |call| call.needs_key(),
    },
    Refusal {
        status: 401,
        name: "Unauthorized",
        why: "There is no API key, or it is not known.",
        may: |call| call.needs_key(),
    },
    Refusal {
        status: 403,
        name: "Forbidden",
        why: "The key does not have the scope.",
        may: |call| call.needs_key(),
    },
    Refusal {
        status: 404,
        name: "NotFound",
        why: "You have nothing with this id.",
        may: |call| call.path.contains('{'),
    },
    Refusal {
        status: 408,
        name: "BodyTimeout",
        why: "The body did not come in within its time.",
        may: |call| call.has_body(),
    },
    Refusal {
        status: 413,
        name: "BodyTooLarge",
        why: "The body is too large.",
        may: |call| call.has_body(),
    },
    Refusal {
        status: 415,
        name: "UnsupportedEncoding",
        why: "The body is encoded in a way that is not understood: send it as it is.",
        may: |call| call.has_body(),
    },
    Refusal {
        status: 422,
        name: "InvalidParameter",
        why: "A member or a parameter is wrong; `param` names it.",
        may: |call| call.has_body() || call.has_query(),
    },
    Refusal {
        status: 429,
        name: "TooManyRequests",
        why: "Too many requests. Nothing was done.",
        may: |call| call.needs_key(),
    },
    Refusal {
        status: 503,
        name: "ServiceUnavailable",
        why: "The service is in trouble, has too much to do, or is stopping. Repeat the request \
              with the same key.",
        may: |call| call.needs_key() || call.path.starts_with("/status"),
    },
];

impl Refusal {
    fn response(&self) -> Response {
        let schema = Ref::from_schema_name(Problem::name());
        let response = ResponseBuilder::new().description(self.why).content(
            "application/problem+json",
            Content::new(Some(RefOr::Ref(schema))),
        );
        if !matches!(self.status, 429 | 503) {
            return response.build();
        }
        let seconds = ObjectBuilder::new().schema_type(Type::Integer).build();
        let header = HeaderBuilder::new()
            .schema(Some(seconds))
            .description(Some("Seconds."))
            .build();
        response.header("Retry-After", header).build()
    }
}

/// Calls whose body can be left out.
const BODY_IS_OPTIONAL: [&str; 3] = [
    "replay_event",
    "rotate_notify_secret",
    "rotate_webhook_secret",
];

/// What most answers with this status are; every answer is to be described.
fn usual(status: &str) -> &'static str {
    match status {
        "201" => "Made",
        "202" => "Taken; it is being worked on",
        "204" => "Removed",
        "409" => "It does not fit what there is",
        _ => "As asked for",
    }
}

/// Says of every call how it is answered and can be refused, and whether its body can be left out.
struct Answers;

impl Modify for Answers {
    fn modify(&self, openapi: &mut Document) {
        let components = openapi.components.get_or_insert_with(Default::default);
        let shared = REFUSALS
            .iter()
            .map(|refusal| (refusal.name.to_owned(), RefOr::T(refusal.response())));
        components.responses.extend(shared);

        for (path, item) in &mut openapi.paths.paths {
            for operation in operations(item) {
                let call = Call { path, operation };
                let met = REFUSALS.iter().filter(|refusal| (refusal.may)(&call));
                let met: BTreeMap<String, RefOr<Response>> = met
                    .map(|refusal| {
                        (
                            refusal.status.to_string(),
                            RefOr::Ref(Ref::from_response_name(refusal.name)),
                        )
                    })
                    .collect();
                for (status, response) in met {
                    operation
                        .responses
                        .responses
                        .entry(status)
                        .or_insert(response);
                }
                describe(operation);
            }
        }
    }
}

fn describe(operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            response.description = usual(status).to_owned();
        }
    }
    let is_optional = operation
        .operation_id
        .as_deref()
        .is_some_and(|id| BODY_IS_OPTIONAL.contains(&id));
    if let Some(RefOr::T(body)) = operation.request_body.as_mut().filter(|_| is_optional) {
        body.required = Some(Required::False);
    }
}

/// What is in a list is the same type as alone, not one more that looks alike.
struct Lists;

impl Modify for Lists {
    fn modify(&self, openapi: &mut Document) {
        let components = openapi.components.get_or_insert_with(Default::default);
        for (name, schema) in &mut components.schemas {
            if let Some(item) = name.strip_prefix("List_")
                && let RefOr::T(Schema::Object(list)) = schema
                && let Some(RefOr::T(Schema::Array(data))) = list.properties.get_mut("data")
            {
                data.items =
                    ArrayItems::RefOrSchema(Box::new(RefOr::Ref(Ref::from_schema_name(item))));
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let all = [
        &mut item.get,
        &mut item.post,
        &mut item.put,
        &mut item.patch,
        &mut item.delete,
    ];
    all.into_iter().filter_map(Option::as_mut)
}
