//! The collector's processors `attributes`, `resource`, `filter` and `transform`, as a `collector.yaml` configures them.
//!
//! They act on decoded telemetry, which costs what the rest of the extension avoids: a signal without processors never comes here.
//! Promises that a request grows by at most four times its size, or by 64 KiB if it is small; beyond that it is dropped. At most
//! 16 MiB of it are decoded at a time, so that a request of many empty items does not take a function's memory.

mod actions;
mod growth;
mod ottl;
mod telemetry;
#[cfg(test)]
mod tests;
mod value;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;

pub(crate) use self::actions::{ActionOperation, ActionSource, ActionTarget, AttributeAction, SetWhen};
use self::growth::GrowthBudget;
pub(crate) use self::ottl::pattern;
use self::ottl::{ContextItem, OttlCondition, OttlContext, OttlSubject, Statement};
use self::telemetry::DecodedRequest;
pub(crate) use self::value::OttlValue;
use crate::otlp::{Limits, RequestPart, decoded_size, split};
use crate::signal::{PerSignal, Signal};

/// The memory that a decoded request may take. A larger one is processed in parts.
const DECODED_LIMIT: usize = 16 << 20;
/// The parts of a larger request. Empty items and attributes of this many bytes take less than [`DECODED_LIMIT`].
const PART_LIMITS: Limits = Limits { items: 4096, bytes: 128 << 10 };

/// The processors of each signal, in the order of its pipelines.
#[derive(Clone, Default)]
pub struct Processors(PerSignal<Vec<Processor>>);

/// Leaves out the statements: their values may be credentials.
impl fmt::Debug for Processors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Processors").field(&PerSignal::from_fn(|signal| self.0.of(signal).len())).finish()
    }
}

/// One processor.
#[derive(Clone, Debug)]
pub(crate) enum Processor {
    /// Acts on the attributes of spans, log records and data points.
    Attributes(Vec<AttributeAction>),
    /// Acts on the attributes of resources.
    Resource(Vec<AttributeAction>),
    /// Removes each item of a context for which the condition holds.
    Filter(Vec<Removal>),
    Transform(Vec<Change>),
}

/// The items that a filter removes.
#[derive(Clone, Debug)]
pub(crate) struct Removal {
    context: OttlContext,
    condition: OttlCondition,
}

/// A statement with its context.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    context: OttlContext,
    /// One of these must hold, if there are any.
    conditions: Arc<Vec<OttlCondition>>,
    statement: Statement,
}

/// The conditions of a group of statements. They are parsed once for each context, because all statements of it share them.
#[derive(Default)]
pub(crate) struct GroupConditions {
    texts: Vec<String>,
    parsed: Vec<(OttlContext, Arc<Vec<OttlCondition>>)>,
}

/// The result of processing a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Processed {
    /// A request with this many items. Others were dropped, because they take too much memory once decoded.
    Kept { bytes: Bytes, items: usize, too_large: usize },
    /// No item is left.
    Filtered,
    /// The result is too large, or the request is invalid. It must not be sent as it came.
    Failed,
}

impl Processors {
    pub(crate) fn of_mut(&mut self, signal: Signal) -> &mut Vec<Processor> {
        self.0.of_mut(signal)
    }

    /// Returns true if no processor acts on the signal.
    pub fn is_empty(&self, signal: Signal) -> bool {
        self.0.of(signal).is_empty()
    }

    /// The types of the processors that act on the signal, in their order.
    pub fn types(&self, signal: Signal) -> Vec<&'static str> {
        self.0.of(signal).iter().map(Processor::type_name).collect()
    }

    /// The actions on resources, if no other processor acts on the signal. They need no decoded items.
    pub fn resource_edit(&self, signal: Signal) -> Option<impl Fn(&mut Resource) + '_> {
        let processors = self.0.of(signal);
        if !processors.iter().all(|processor| matches!(processor, Processor::Resource(_))) {
            return None;
        }
        Some(move |resource: &mut Resource| {
            let budget = GrowthBudget::of(resource.encoded_len());
            for processor in processors {
                let Processor::Resource(list) = processor else { continue };
                actions::apply(list, &mut resource.attributes, &budget);
            }
        })
    }

    /// Processes a validated request.
    pub fn process(&self, signal: Signal, request: RequestPart) -> Processed {
        let budget = GrowthBudget::of(request.bytes.len());
        // Usually the only part.
        let parts = if decoded_size(signal, &request.bytes) <= DECODED_LIMIT {
            Limits { items: usize::MAX, bytes: usize::MAX }
        } else {
            PART_LIMITS
        };
        let (mut bytes, mut kept, mut too_large) = (Vec::new(), 0, 0);
        for part in split(signal, request, parts) {
            if decoded_size(signal, &part.bytes) > DECODED_LIMIT {
                too_large += part.items;
                continue;
            }
            let Some((processed, items)) = self.process_part(signal, &part.bytes, &budget) else {
                return Processed::Failed;
            };
            if items == 0 {
                continue;
            }
            kept += items;
            if bytes.is_empty() {
                bytes = processed;
            } else {
                // Requests laid end to end are one request.
                bytes.extend(processed);
            }
        }
        if kept == 0 && too_large == 0 {
            return Processed::Filtered;
        }
        Processed::Kept { bytes: bytes.into_boxed_slice().into(), items: kept, too_large }
    }

    /// The processed request and the number of its items; `None` if it would become too large, or cannot be decoded.
    fn process_part(
        &self,
        signal: Signal,
        request: &[u8],
        budget: &GrowthBudget,
    ) -> Option<(Vec<u8>, usize)> {
        let mut decoded = telemetry::decode(signal, request).ok()?;
        for processor in self.0.of(signal) {
            processor.apply(&mut *decoded, budget);
            if budget.is_exceeded() {
                return None;
            }
        }
        let mut items = 0;
        decoded.retain(&mut |_, _, item| {
            items += item.count();
            true
        });
        Some((decoded.encode(), items))
    }
}

impl Removal {
    /// Parses a condition. Without a context, its paths name it.
    pub(crate) fn parse(condition: &str, context: Option<&str>, signal: Signal) -> Result<Self, String> {
        let parsed = ottl::condition(condition, known_context(context, signal)?)?;
        is_of_signal(parsed.context, signal)?;
        if parsed.context < OttlContext::Span {
            return Err("filters on resources and scopes alone are not supported".to_owned());
        }
        Ok(Self { context: parsed.context, condition: parsed.content })
    }
}

impl Change {
    /// Parses a statement of a group with these conditions.
    pub(crate) fn parse(
        statement: &str,
        context: Option<&str>,
        conditions: &mut GroupConditions,
        signal: Signal,
    ) -> Result<Self, String> {
        let parsed = ottl::statement(statement, known_context(context, signal)?)?;
        is_of_signal(parsed.context, signal)?;
        let conditions = conditions.of(parsed.context)?;
        Ok(Self { context: parsed.context, conditions, statement: parsed.content })
    }
}

impl GroupConditions {
    pub(crate) fn new(texts: Vec<String>) -> Self {
        Self { texts, parsed: Vec::new() }
    }

    fn of(&mut self, context: OttlContext) -> Result<Arc<Vec<OttlCondition>>, String> {
        if let Some((_, known)) = self.parsed.iter().find(|(known, _)| *known == context) {
            return Ok(Arc::clone(known));
        }
        let mut conditions = Vec::new();
        for text in &self.texts {
            conditions.push(ottl::condition(text, Some(context))?.content);
        }
        let conditions = Arc::new(conditions);
        self.parsed.push((context, Arc::clone(&conditions)));
        Ok(conditions)
    }
}

/// The context of this name.
fn known_context(name: Option<&str>, signal: Signal) -> Result<Option<OttlContext>, String> {
    let Some(name) = name else { return Ok(None) };
    let context = OttlContext::named(name).ok_or("not a supported context")?;
    is_of_signal(context, signal)?;
    Ok(Some(context))
}

fn is_of_signal(context: OttlContext, signal: Signal) -> Result<(), String> {
    let is_right = match context {
        OttlContext::Resource | OttlContext::Scope => true,
        OttlContext::Span | OttlContext::SpanEvent => signal == Signal::Traces,
        OttlContext::Metric | OttlContext::DataPoint => signal == Signal::Metrics,
        OttlContext::Log => signal == Signal::Logs,
    };
    if is_right { Ok(()) } else { Err(format!("{signal} have no such context")) }
}

impl Processor {
    /// The number of its statements, conditions or actions.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Attributes(actions) | Self::Resource(actions) => actions.len(),
            Self::Filter(removals) => removals.len(),
            Self::Transform(changes) => changes.len(),
        }
    }

    fn type_name(&self) -> &'static str {
        match self {
            Self::Attributes(_) => "attributes",
            Self::Resource(_) => "resource",
            Self::Filter(_) => "filter",
            Self::Transform(_) => "transform",
        }
    }

    fn apply(&self, request: &mut dyn DecodedRequest, budget: &GrowthBudget) {
        match self {
            Self::Attributes(actions) => request.retain(&mut |_, _, item| {
                item.visit_attributes(&mut |attributes| actions::apply(actions, attributes, budget));
                true
            }),
            Self::Resource(actions) => {
                request.visit_resources(&mut |resource| {
                    actions::apply(actions, &mut resource.attributes, budget);
                });
            }
            Self::Filter(removals) => {
                for Removal { context, condition } in removals {
                    request.retain(&mut |resource, scope, item| {
                        item.visit(*context, &mut |item| {
                            !condition.holds(&OttlSubject { resource, scope, item, budget })
                        })
                    });
                }
            }
            Self::Transform(changes) => {
                for change in changes.iter().take_while(|_| !budget.is_exceeded()) {
                    change.apply(request, budget);
                }
            }
        }
    }
}

impl Change {
    fn apply(&self, request: &mut dyn DecodedRequest, budget: &GrowthBudget) {
        let apply = |mut subject: OttlSubject<'_>| {
            if self.conditions.is_empty() || self.conditions.iter().any(|condition| condition.holds(&subject))
            {
                self.statement.apply(&mut subject);
            }
        };
        match self.context {
            OttlContext::Resource => request.visit_resources(&mut |resource| {
                let scope = &mut InstrumentationScope::default();
                apply(OttlSubject { resource, scope, item: ContextItem::Nothing, budget });
            }),
            OttlContext::Scope => request.visit_scopes(&mut |resource, scope| {
                apply(OttlSubject { resource, scope, item: ContextItem::Nothing, budget });
            }),
            context => request.retain(&mut |resource, scope, item| {
                item.visit(context, &mut |item| {
                    apply(OttlSubject { resource, scope, item, budget });
                    true
                });
                true
            }),
        }
    }
}
