//! The status as Prometheus metrics, in the OpenMetrics text format: the same figures as
//! `vswitchctl show`, of one report.
//!
//! `list` says which there are, `listener` serves them over TCP; over the API's socket they are
//! at `/metrics`.

mod figures;
pub mod list;
mod listener;

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

pub use listener::{Listener, ListenerError, router};

use self::list::{Kind, Metric, Value};
use super::status::Status;

/// What an answer says of its format.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Before every name.
const PREFIX: &str = "vswitch";

/// The metrics of a report, as text.
///
/// # Errors
/// Only if the text cannot be written, which a string never refuses.
pub fn text(status: Status) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Report(status)));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Report(Status);

impl Collector for Report {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in list::metrics() {
            let help = escape(&(metric.help)(&self.0));
            let kind = match metric.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let family = encoder.encode_descriptor(metric.name, &help, None, kind)?;
            samples(&metric, &self.0, family)?;
        }
        Ok(())
    }
}

fn samples(metric: &Metric, status: &Status, mut family: MetricEncoder<'_>) -> fmt::Result {
    for (labels, value) in (metric.samples)(status) {
        let mut one = family.encode_family(&labels)?;
        match (metric.kind, value) {
            (Kind::Counter, Value::Whole(n)) => {
                one.encode_counter::<NoLabelSet, _, f64>(&n, None)?;
            }
            (Kind::Counter, Value::Real(n)) => {
                one.encode_counter::<NoLabelSet, _, f64>(&n, None)?;
            }
            (_, Value::Whole(n)) => one.encode_gauge(&n)?,
            (_, Value::Real(n)) => one.encode_gauge(&n)?,
            (_, Value::Histogram(found)) => {
                one.encode_histogram::<NoLabelSet>(found.sum, found.count, &found.buckets, None)?;
            }
        }
    }
    Ok(())
}

/// As OpenMetrics writes strings. Of labels the library sees to it, of help texts not.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            c => escaped.push(c),
        }
    }
    escaped
}
