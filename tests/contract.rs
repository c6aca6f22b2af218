//! `/openapi.json` says what the API does: each type and each call has a name of its own.

mod names;
