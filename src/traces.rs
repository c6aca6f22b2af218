//! Traces by OTLP: one for each payment, over its attempts, the resolver, notifications, refunds
//! and webhooks, on whichever gateway they happen. Off unless a collector is configured; no payment
//! ever waits for it.
//!
//! Nobody has to hand a trace on: its id is the payment's own 128 random bits, and the id of its
//! root span follows from them, so whoever works on a payment knows where its spans belong. Spans
//! name rows, providers and outcomes; never a payer, a code, a credential, or what a provider
//! wrote.

mod calls;
#[cfg(feature = "otlp")]
mod collector;
mod settings;

use std::cell::Cell;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::context::FutureExt as _;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{
    SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId,
    TraceState, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, IdGenerator, RandomIdGenerator, Sampler, SdkTracer,
    SdkTracerProvider,
};

use crate::domain::id::{self, PaymentId};
pub use settings::{NoTraces, Settings};

/// Spans in one request to the collector.
const BATCH: usize = 512;
/// How long a stop waits for the last ones.
const FLUSH: Duration = Duration::from_secs(5);

/// Makes spans. Shared by cloning.
#[derive(Debug, Clone)]
pub struct Traces {
    /// `None`: nothing is traced.
    on: Option<Arc<On>>,
}

#[derive(Debug)]
struct On {
    tracer: SdkTracer,
    provider: SdkTracerProvider,
    /// One for each sampled id or not, decided by the id alone.
    percent: u8,
}

impl Traces {
    /// Nothing is traced, at no cost.
    #[must_use]
    pub const fn off() -> Self {
        Self { on: None }
    }

    /// Traces to this collector. `runtime` is where requests to it run.
    ///
    /// # Errors
    /// [`NoTraces`].
    #[cfg(feature = "otlp")]
    pub fn open(settings: &Settings, runtime: tokio::runtime::Handle) -> Result<Self, NoTraces> {
        let exporter = collector::Collector::exporter(settings, runtime)?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(settings.queue)
            .with_max_export_batch_size(BATCH.min(settings.queue))
            .with_scheduled_delay(settings.interval)
            .build();

        let resource = Resource::builder_empty()
            .with_service_name("interlock")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new(
                "service.instance.id",
                settings.gateway.clone(),
            ))
            .build();

        let provider = SdkTracerProvider::builder()
            .with_span_processor(
                BatchSpanProcessor::builder(exporter)
                    .with_batch_config(batches)
                    .build(),
            )
            .with_id_generator(Ids)
            .with_sampler(Sampler::AlwaysOn)
            .with_resource(resource)
            .build();
        let tracer = provider.tracer("interlock");

        Ok(Self {
            on: Some(Arc::new(On {
                tracer,
                provider,
                percent: settings.percent,
            })),
        })
    }

    /// This build cannot.
    ///
    /// # Errors
    /// [`NoTraces::NotBuiltIn`].
    #[cfg(not(feature = "otlp"))]
    pub fn open(_: &Settings, _: tokio::runtime::Handle) -> Result<Self, NoTraces> {
        Err(NoTraces::NotBuiltIn)
    }

    /// The root of a payment's trace: the request that makes it, which began at `began`. Made once,
    /// by whoever made the payment.
    pub fn root(
        &self,
        payment_id: &PaymentId,
        name: &'static str,
        began: SystemTime,
        caller: Option<&Caller>,
    ) -> Span {
        let Some((on, ids)) = self.of(payment_id) else {
            return Span(None);
        };
        let builder = on
            .tracer
            .span_builder(name)
            .with_kind(SpanKind::Server)
            .with_start_time(began);
        NEXT.set(Some(ids));
        let span = on
            .tracer
            .build_with_context(linked(builder, caller), &Context::new());
        NEXT.set(None);
        Span::of(Context::new().with_span(span), payment_id)
    }

    /// Something that is done for a payment. It stands below what is traced around it, if that is
    /// the same payment's, and below its root otherwise.
    pub fn span(&self, payment_id: &PaymentId, name: &'static str) -> Span {
        self.begin(payment_id, name, SpanKind::Internal, None, None)
    }

    /// The same for what came from outside: a request of the merchant's, or a notification. `began`
    /// is when it did.
    pub fn incoming(
        &self,
        payment_id: &PaymentId,
        name: &'static str,
        began: SystemTime,
        caller: Option<&Caller>,
    ) -> Span {
        self.begin(payment_id, name, SpanKind::Server, Some(began), caller)
    }

    /// The same for what goes out.
    pub fn outgoing(&self, payment_id: &PaymentId, name: &'static str) -> Span {
        self.begin(payment_id, name, SpanKind::Client, None, None)
    }

    fn begin(
        &self,
        payment_id: &PaymentId,
        name: &'static str,
        kind: SpanKind,
        began: Option<SystemTime>,
        caller: Option<&Caller>,
    ) -> Span {
        let Some((on, (trace, root))) = self.of(payment_id) else {
            return Span(None);
        };
        let here = Context::current();
        let parent = if here.span().span_context().trace_id() == trace {
            here
        } else {
            let root = SpanContext::new(
                trace,
                root,
                TraceFlags::SAMPLED,
                true,
                TraceState::default(),
            );
            Context::new().with_remote_span_context(root)
        };

        let mut builder = linked(on.tracer.span_builder(name).with_kind(kind), caller);
        if let Some(began) = began {
            builder = builder.with_start_time(began);
        }
        let span = on.tracer.build_with_context(builder, &parent);

        Span::of(parent.with_span(span), payment_id)
    }

    /// A call to a provider, below what is traced around it; nothing when nothing is: probes are
    /// nobody's.
    fn call(&self, name: &'static str) -> Span {
        let here = Context::current();
        let Some(on) = self.on.as_ref().filter(|_| here.has_active_span()) else {
            return Span(None);
        };
        let span = on.tracer.build_with_context(
            on.tracer.span_builder(name).with_kind(SpanKind::Client),
            &here,
        );
        Span(Some(here.with_span(span)))
    }

    /// The ids of a payment's trace and its root, if it is traced.
    fn of(&self, payment_id: &PaymentId) -> Option<(&On, (TraceId, SpanId))> {
        let on = self.on.as_deref()?;
        let bits = id::bits(payment_id)?;
        let traced = bits % 100 < u128::from(on.percent);
        traced.then(|| (on, (TraceId::from_bytes(bits.to_be_bytes()), root_of(bits))))
    }

    /// Sends what is left, for a while.
    pub async fn stop(&self) {
        let Some(on) = self.on.clone() else { return };
        let stopped =
            tokio::task::spawn_blocking(move || on.provider.shutdown_with_timeout(FLUSH)).await;
        if !matches!(stopped, Ok(Ok(()))) {
            tracing::warn!("the last spans may not have reached the collector");
        }
    }
}

/// The root's id: the two halves of the trace's id over each other, and never 0, which is none.
fn root_of(bits: u128) -> SpanId {
    let (high, low) = (bits >> 64, bits & u128::from(u64::MAX));
    let folded = u64::try_from(high ^ low).unwrap_or(0).max(1);
    SpanId::from_bytes(folded.to_be_bytes())
}

fn linked(builder: SpanBuilder, caller: Option<&Caller>) -> SpanBuilder {
    match caller {
        Some(Caller(context)) => {
            builder.with_links(vec![opentelemetry::trace::Link::with_context(
                context.clone(),
            )])
        }
        None => builder,
    }
}

/// Carries what is traced here into work that runs elsewhere.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    work.with_current_context()
}

/// Where a request came from, in the trace of whoever sent it (`traceparent`).
#[derive(Debug, Clone)]
pub struct Caller(SpanContext);

impl Caller {
    /// Reads the headers of W3C Trace Context; `header` finds one. What is not well-formed is no
    /// caller.
    pub fn read(header: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let found = Headers {
            parent: header("traceparent")?,
            state: header("tracestate"),
        };
        let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &found);
        let context = context.span().span_context().clone();
        context.is_valid().then_some(Self(context))
    }
}

struct Headers {
    parent: String,
    state: Option<String>,
}

impl Extractor for Headers {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => Some(&self.parent),
            "tracestate" => self.state.as_deref(),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

/// A span on its way. It ends when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Span(Option<Context>);

impl Span {
    fn of(context: Context, payment_id: &PaymentId) -> Self {
        context
            .span()
            .set_attribute(KeyValue::new("payment.id", payment_id.to_string()));
        Self(Some(context))
    }

    /// Says something about it.
    pub fn set(&self, key: &'static str, value: impl Into<Value>) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new(key, value));
        }
    }

    /// Says that it failed, and with which code.
    pub fn failed(&self, code: &str) {
        if let Some(context) = &self.0 {
            context.span().set_status(Status::error(code.to_owned()));
        }
    }

    /// Does this work within it: what is traced in there stands below it.
    pub async fn around<F: Future>(&self, work: F) -> F::Output {
        match &self.0 {
            Some(context) => work.with_context(context.clone()).await,
            None => work.await,
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }
}

thread_local! {
    /// The ids of the span that this thread is about to make, when they are not drawn.
    static NEXT: Cell<Option<(TraceId, SpanId)>> = const { Cell::new(None) };
}

/// Draws ids, but for roots.
#[derive(Debug)]
struct Ids;

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        NEXT.get().map_or_else(
            || RandomIdGenerator::default().new_trace_id(),
            |(trace, _)| trace,
        )
    }

    fn new_span_id(&self) -> SpanId {
        NEXT.get().map_or_else(
            || RandomIdGenerator::default().new_span_id(),
            |(_, span)| span,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roots_id_follows_from_the_payments_bits_and_is_never_none() {
        assert_eq!(
            root_of(0x1122_3344_5566_7788_0000_0000_0000_00ff).to_string(),
            "1122334455667777"
        );
        assert_eq!(root_of(5 << 64 | 5).to_string(), "0000000000000001");
    }

    #[test]
    fn a_caller_is_read_and_nonsense_is_none() {
        let read =
            |text: &str| Caller::read(|name| (name == "traceparent").then(|| text.to_owned()));
        let caller = read("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();

        assert_eq!(
            caller.0.trace_id().to_string(),
            "0af7651916cd43dd8448eb211c80319c"
        );

        for text in [
            "",
            "00-0-0-0",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "pay",
        ] {
            assert!(read(text).is_none(), "{text}");
        }

        assert!(Caller::read(|_| None).is_none());
    }
}
