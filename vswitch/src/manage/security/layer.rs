//! Makes lines of events: the time, then the event's fields in the order they were given.

use std::fmt;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::Context;

use super::TARGET;
use super::sink::SecurityLog;

/// Writes events of target [`TARGET`] to a log, whatever filters the ordinary log has.
#[derive(Debug)]
pub struct SecurityLayer(SecurityLog);

/// A layer that writes to `log`.
pub fn layer(log: SecurityLog) -> SecurityLayer {
    SecurityLayer(log)
}

impl<S: Subscriber> Layer<S> for SecurityLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != TARGET {
            return;
        }
        let mut time = String::new();
        // A clock that cannot be written down leaves the field empty.
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        let mut fields = Fields(vec![("time", Value::String(time))]);
        event.record(&mut fields);
        self.0.write_line(fields.line());
    }
}

struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn line(&self) -> String {
        let mut line = String::from("{");
        for (i, (name, value)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            line.push_str(&format!("{comma}{}:{value}", Value::from(*name)));
        }
        line.push('}');
        line
    }
}

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.push((field.name(), value.into()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.push((field.name(), value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.push((field.name(), value.into()));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.name(), value.into()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push((field.name(), format!("{value:?}").into()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, Instant};

    use tracing_subscriber::layer::SubscriberExt;

    use super::super::{
        INTERVAL, Limiter, PacketSummary, SecurityEvent, configuration_changed, key_exported,
    };
    use super::*;

    /// What is written meanwhile, without the times.
    fn lines(body: impl FnOnce(&Arc<Mutex<String>>)) -> Vec<String> {
        let (log, lines) = SecurityLog::in_memory();
        let subscriber = tracing_subscriber::registry().with(layer(log));
        tracing::subscriber::with_default(subscriber, || body(&lines));
        let text = lines.lock().unwrap();
        text.lines().map(without_time).collect()
    }

    fn without_time(line: &str) -> String {
        let rest = line.strip_prefix("{\"time\":\"2").expect(line);
        let (time, rest) = rest.split_once("\",").expect(line);
        assert!(time.ends_with('Z') && time.contains('T'), "{line}");
        format!("{{{rest}")
    }

    #[test]
    fn a_line_has_what_is_known_in_order() {
        let written = lines(|_| {
            tracing::info!(target: "elsewhere", "not for this log");
            tracing::error!(target: TARGET, kind = "other", n = -1, yes = true, "by \"anybody\"");
            key_exported("uid 0", "blue", "b", 0x1001);
            configuration_changed("reload", "2 ports added");
        });
        assert_eq!(
            written,
            [
                r#"{"message":"by \"anybody\"","kind":"other","n":-1,"yes":true}"#,
                r#"{"message":"keys were exported, asked for by uid 0","kind":"key-export","reason":"key-export","vn":"blue","peer":"b","spi":"0x00001001","count":1,"suppressed":0}"#,
                r#"{"message":"2 ports added","kind":"configuration-change","reason":"reload","count":1,"suppressed":0}"#,
            ]
        );
    }

    #[test]
    fn the_rate_is_limited_by_reason_and_subject_and_nothing_is_uncounted() {
        let event = |port: &str, count| {
            let mut event = SecurityEvent::new("spoofed-source", "spoofed-mac", "m");
            event.port = Some(port.to_owned());
            event.count = count;
            event.packet = Some(PacketSummary::new(&[2; 60], 60));
            event
        };
        let start = Instant::now();
        let later = |s| start + Duration::from_secs(s);
        let expected = |port: &str, count: u64, suppressed: u64| {
            format!(
                "{{\"message\":\"m\",\"kind\":\"spoofed-source\",\"reason\":\"spoofed-mac\",\
                 \"port\":\"{port}\",\"count\":{count},\"suppressed\":{suppressed},\
                 \"src_mac\":\"02:02:02:02:02:02\",\"dst_mac\":\"02:02:02:02:02:02\",\
                 \"length\":60}}"
            )
        };
        let written = lines(|written| {
            let so_far = || written.lock().unwrap().lines().count();
            let mut limiter = Limiter::default();
            limiter.note(start, event("p1", 5));
            limiter.note(later(1), event("p1", 7));
            limiter.note(later(2), event("p1", 8));
            limiter.note(later(2), event("p2", 1));
            limiter.tick(later(9));
            assert_eq!(so_far(), 2);
            limiter.tick(start + INTERVAL);
            assert_eq!(so_far(), 3);
            limiter.note(later(11), event("p1", 2));
            limiter.tick(later(12));
            assert_eq!(so_far(), 3);
            limiter.flush();
            // p2 was quiet and is forgotten: it begins anew.
            limiter.note(later(13), event("p2", 1));
        });
        assert_eq!(
            written,
            [
                expected("p1", 5, 0),
                expected("p2", 1, 0),
                expected("p1", 15, 15),
                expected("p1", 2, 2),
                expected("p2", 1, 0),
            ]
        );
    }

    #[test]
    fn a_file_is_appended_to_and_opened_again_when_it_was_moved() {
        use std::fs;
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("log"), dir.path().join("log.1"));
        fs::write(&path, "before\n").unwrap();
        let log = SecurityLog::default();
        assert!(log.direct_to(Some(&dir.path().join("no/log"))).is_err());
        log.direct_to(Some(&path)).unwrap();
        log.write_line("one".into());
        fs::rename(&path, &old).unwrap();
        log.write_line("two".into());
        log.reopen().unwrap();
        log.write_line("three".into());
        assert_eq!(fs::read_to_string(&old).unwrap(), "before\none\ntwo\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&old, &path).unwrap();
        let error = log.reopen().unwrap_err().to_string();
        assert!(error.contains("security log"), "{error}");
    }
}
