//! Metrics: the same figures as the status, in a format that Prometheus reads, named in the
//! documentation and by the dashboard.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::sync_channel;

use serde_json::Value;
use vswitch::manage::api::StatusRequest;
use vswitch::manage::metrics::list::{Kind, metrics};
use vswitch::manage::metrics::{CONTENT_TYPE, Listener, ListenerError, text};
use vswitch::manage::status::Status;

use super::switch::{STATUS, Switch, runtime, status};

/// What was said of each series, as it is written: `name{labels}` and the value.
fn series(text: &str) -> BTreeMap<String, String> {
    let mut series = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        let twice = series.insert(name.to_owned(), value.to_owned());
        assert_eq!(twice, None, "twice: {name}");
    }
    series
}

/// Names of series without labels.
fn names(text: &str) -> BTreeSet<String> {
    let series = series(text);
    let bare = |name: &String| name.split('{').next().unwrap_or_default().to_owned();
    series.keys().map(bare).collect()
}

/// The figures of a status as series, gone through by hand.
struct Expected<'a> {
    status: &'a Value,
    series: BTreeMap<String, f64>,
}

impl Expected<'_> {
    fn put(&mut self, name: &str, labels: &[(&str, String)], value: &Value) {
        let value = match value {
            Value::Bool(yes) => f64::from(u8::from(*yes)),
            Value::Null => return,
            value => value.as_f64().expect("a number"),
        };
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{value}\""))
            .collect();
        let name = match labels.is_empty() {
            true => format!("vswitch_{name}"),
            false => format!("vswitch_{name}{{{}}}", labels.join(",")),
        };
        assert_eq!(self.series.insert(name.clone(), value), None, "{name}");
    }

    /// For each of `part` what `of` says of it: labels, and metrics with their fields.
    fn each(
        &mut self,
        part: &str,
        labels: impl Fn(&Value) -> Vec<(&'static str, String)>,
        fields: &[(&str, &str)],
    ) {
        let status = self.status;
        for item in status.pointer(part).and_then(Value::as_array).expect(part) {
            for (metric, field) in fields {
                self.put(metric, &labels(item), &item[*field]);
            }
        }
    }

    fn traffic(
        &mut self,
        part: &str,
        what: &str,
        labels: fn(&Value) -> Vec<(&'static str, String)>,
    ) {
        let status = self.status;
        for item in status[part].as_array().expect(part) {
            for (field, value) in item["traffic"].as_object().expect("traffic") {
                self.put(&format!("{what}_{field}_total"), &labels(item), value);
            }
        }
    }
}

fn label(value: &Value, name: &str) -> String {
    match &value[name] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn expected(status: &Value) -> BTreeMap<String, f64> {
    let series = BTreeMap::new();
    let mut e = Expected { status, series };
    let nve = &status["nve"];
    let build = ["name", "version", "dpdk", "aead", "hugepages"].map(|n| (n, label(nve, n)));
    let build = build.map(|(n, v)| (if n == "name" { "nve" } else { n }, v));
    e.put("build_info", &build, &Value::from(1));
    let uptime = nve["uptime_ns"].as_u64().expect("uptime") as f64 / 1e9;
    e.put("uptime_seconds", &[], &Value::from(uptime));

    let port = |p: &Value| {
        vec![
            ("port", label(p, "name")),
            ("kind", label(p, "kind")),
            ("vn", label(p, "vn")),
        ]
    };
    let tunnel = |t: &Value| vec![("vn", label(t, "vn")), ("peer", label(t, "peer"))];
    let peer = |p: &Value| vec![("peer", label(p, "name"))];
    e.traffic("ports", "port", port);
    e.traffic("vns", "vn", |v| vec![("vn", label(v, "name"))]);
    e.traffic("tunnels", "tunnel", tunnel);
    e.traffic("peers", "peer", peer);
    for p in status["ports"].as_array().expect("ports") {
        e.put("port_up", &port(p), &Value::from(p["state"] == "up"));
    }
    for t in status["tunnels"].as_array().expect("tunnels") {
        e.put("tunnel_up", &tunnel(t), &Value::from(t["state"] == "up"));
    }
    e.each(
        "/peers",
        peer,
        &[
            ("peer_tunnels", "tunnels"),
            ("peer_tunnels_up", "tunnels_up"),
            ("peer_sas", "sas"),
            ("peer_replayed_packets", "replayed"),
            ("peer_auth_failed_packets", "auth_failed"),
        ],
    );
    for vn in status["vns"].as_array().expect("vns") {
        for origin in ["static", "learned"] {
            let entries = status["fdb"].as_array().expect("fdb").iter();
            let n = entries
                .filter(|f| f["vn"] == vn["name"] && f["origin"] == origin)
                .count();
            let labels = [("vn", label(vn, "name")), ("origin", origin.to_owned())];
            e.put("fdb_entries", &labels, &Value::from(n));
        }
    }
    for sa in status["sas"].as_array().expect("sas") {
        let spi = sa["spi"].as_u64().expect("an SPI");
        let labels = [
            ("direction", label(sa, "direction")),
            ("spi", format!("0x{spi:08x}")),
            ("vn", label(sa, "vn")),
            ("peer", label(sa, "peer")),
            ("worker", label(sa, "worker")),
        ];
        let opens = sa["direction"] == "inbound";
        e.put("sa_packets_total", &labels, &sa["packets"]);
        e.put("sa_bytes_total", &labels, &sa["bytes"]);
        e.put("sa_sequence", &labels, &sa["sequence"]);
        e.put("sa_reserved_until", &labels, &sa["reserved_until"]);
        if opens {
            e.put("sa_replayed_packets_total", &labels, &sa["replayed"]);
            e.put("sa_auth_failed_packets_total", &labels, &sa["auth_failed"]);
        } else {
            e.put("sa_blocks", &labels, &sa["blocks"]);
            e.put("sa_hard_limit_blocks", &labels, &sa["hard_limit"]);
        }
    }
    let worker = |w: &Value| vec![("worker", label(w, "id"))];
    let books = [
        "received",
        "generated",
        "copied",
        "handed_in",
        "sent",
        "dropped",
        "consumed",
        "handed_out",
    ];
    for book in books {
        e.each(
            "/workers",
            worker,
            &[(&format!("worker_{book}_packets_total"), book)],
        );
    }
    e.each(
        "/workers",
        worker,
        &[
            ("worker_held_packets", "held"),
            ("worker_balanced", "balanced"),
            ("worker_busy_ticks_total", "busy_ticks"),
            ("worker_idle_ticks_total", "idle_ticks"),
            ("worker_busy_ratio", "busy"),
        ],
    );
    for w in status["workers"].as_array().expect("workers") {
        for (verdict, n) in w["verdicts"].as_object().expect("verdicts") {
            let labels = [("worker", label(w, "id")), ("verdict", verdict.clone())];
            e.put("worker_verdict_packets_total", &labels, n);
        }
    }
    let reason = |d: &Value| vec![("reason", label(d, "reason"))];
    e.each("/drops", reason, &[("dropped_packets_total", "packets")]);
    for latency in status["latency"].as_array().expect("latency") {
        latencies(&mut e, latency);
    }
    memory(&mut e);
    authority(&mut e);
    e.series
}

fn latencies(e: &mut Expected<'_>, latency: &Value) {
    let direction = ("direction", label(latency, "direction"));
    let of = |extra: (&'static str, String)| [direction.clone(), extra];
    let total = &latency["total"];
    let seconds = |v: &Value| Value::from(v.as_f64().expect("nanoseconds") / 1e9);
    let alone = std::slice::from_ref(&direction);
    e.put("latency_seconds_sum", alone, &seconds(&total["sum"]));
    e.put("latency_seconds_count", alone, &total["samples"]);
    for bucket in latency["buckets"].as_array().expect("buckets") {
        let le = bucket["le"].as_u64().expect("a bound") as f64 / 1e9;
        // Label values are compared as numbers: 0.001, 1e-7.
        e.put(
            "latency_seconds_bucket",
            &[("le", format!("{le:e}")), direction.clone()],
            &bucket["samples"],
        );
    }
    e.put(
        "latency_seconds_bucket",
        &[("le", "+Inf".to_owned()), direction.clone()],
        &total["samples"],
    );
    if total["samples"] != 0 {
        for (share, field) in [
            ("0.5", "p50"),
            ("0.9", "p90"),
            ("0.99", "p99"),
            ("0.999", "p999"),
            ("1", "max"),
        ] {
            let labels = of(("quantile", share.to_owned()));
            e.put("latency_quantile_seconds", &labels, &seconds(&total[field]));
        }
    }
}

fn memory(e: &mut Expected<'_>) {
    let node = |v: &Value| match &v["numa"] {
        Value::Null => "any".to_owned(),
        node => node.to_string(),
    };
    let pages = |p: &Value| vec![("node", node(p)), ("size", label(p, "size"))];
    e.each(
        "/memory/pages",
        pages,
        &[("hugepages", "total"), ("hugepages_free", "free")],
    );
    e.each(
        "/memory/heaps",
        |h| vec![("node", label(h, "numa"))],
        &[
            ("dpdk_heap_bytes", "size"),
            ("dpdk_heap_used_bytes", "used"),
            ("dpdk_heap_largest_free_bytes", "largest_free"),
        ],
    );
    e.each(
        "/memory/pools",
        |p| {
            vec![
                ("pool", label(p, "name")),
                ("port", label(p, "port")),
                ("node", node(p)),
            ]
        },
        &[
            ("pool_buffers", "size"),
            ("pool_in_use_buffers", "in_use"),
            ("pool_cached_buffers", "cached"),
            ("pool_bytes", "bytes"),
        ],
    );
    e.each(
        "/memory/rings",
        |r| vec![("from", label(r, "from")), ("to", label(r, "to"))],
        &[("ring_packets_limit", "size"), ("ring_packets", "used")],
    );
    e.each(
        "/memory/tables",
        |t| match &t["worker"] {
            Value::Null => vec![("worker", "control".to_owned())],
            worker => vec![("worker", worker.to_string())],
        },
        &[
            ("table_fdb_entries", "fdb_entries"),
            ("table_fdb_entries_limit", "fdb_capacity"),
            ("table_fdb_bytes", "fdb_bytes"),
            ("table_sas", "sas"),
            ("table_sa_bytes", "sa_bytes"),
            ("table_key_bytes", "key_bytes"),
            ("table_counter_bytes", "counter_bytes"),
        ],
    );
}

fn authority(e: &mut Expected<'_>) {
    let ima = &e.status["ima"];
    let connected = Value::from(ima["state"] == "connected");
    e.put("ima_connected", &[], &connected);
    e.put("ima_lease_seconds", &[], &ima["lease_left"]);
    for outcome in ["asked", "known", "limited"] {
        let labels = [("outcome", outcome.to_owned())];
        e.put("ima_questions_total", &labels, &ima[outcome]);
    }
    for direction in ["outbound", "inbound"] {
        let labels = [("direction", direction.to_owned())];
        e.put("agreed_keys", &labels, &ima["keys"][direction]);
    }
    e.put("agreed_keys_limit", &[], &ima["keys"]["limit"]);
    e.put("agreed_keys_shared", &[], &ima["keys"]["shared"]);
    e.put("agreed_keys_denied_total", &[], &ima["keys"]["denied"]);
    e.put(
        "agreed_keys_unsteered_total",
        &[],
        &ima["keys"]["unsteered"],
    );
    for vn in ima["vns"].as_array().expect("vns") {
        let labels = [("vn", label(vn, "vn"))];
        let joined = Value::from(!vn["epoch"].is_null());
        e.put("ima_vn_joined", &labels, &joined);
        e.put("ima_vn_members", &labels, &vn["members"]);
        e.put("ima_vn_mappings", &labels, &vn["mappings"]);
    }
}

/// The series with their values as numbers, and bounds written in one way.
fn numbers(text: &str) -> BTreeMap<String, f64> {
    let mut numbers = BTreeMap::new();
    for (name, value) in series(text) {
        let name = match name.split_once("{le=\"") {
            Some((head, rest)) if !rest.starts_with("+Inf") => {
                let (bound, rest) = rest.split_once('"').expect("a bound ends");
                let bound: f64 = bound.parse().expect(bound);
                format!("{head}{{le=\"{bound:e}\"{rest}")
            }
            _ => name,
        };
        let value: f64 = value.parse().expect(&name);
        numbers.insert(name.trim_end_matches("{}").to_owned(), value);
    }
    numbers
}

#[test]
fn every_figure_of_the_status_is_a_metric_and_none_else() {
    let all: Value = serde_json::from_str(STATUS).unwrap();
    let (want, got) = (expected(&all), numbers(&text(status()).unwrap()));
    let missing: Vec<_> = want
        .keys()
        .filter(|name| !got.contains_key(*name))
        .collect();
    let beyond: Vec<_> = got
        .keys()
        .filter(|name| !want.contains_key(*name))
        .collect();
    assert!(
        missing.is_empty() && beyond.is_empty(),
        "missing {missing:#?}, beyond {beyond:#?}"
    );
    for (name, want) in want {
        assert_eq!(got[&name], want, "{name}");
    }
}

#[test]
fn the_text_is_openmetrics() {
    let mut status = status();
    // Names are checked by the configuration; the format holds whatever they are.
    status.ports[0].name = "a\"b\\c\nd".to_owned();
    status.drops[0].help = "say \"no\"\nand \\".to_owned();
    let text = text(status).unwrap();
    assert!(text.ends_with("\n# EOF\n"));
    assert!(text.contains(r#"port="a\"b\\c\nd""#), "{text}");
    assert!(text.contains(r#"say \"no\"\nand \\."#), "{text}");
    let mut family = String::new();
    let mut families = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help text");
            assert!(help.len() > 8, "{line}");
            assert!(families.insert(name.to_owned()), "twice: {name}");
            family = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert!(rest.starts_with(&format!("{family} ")), "{line}");
        } else if line != "# EOF" {
            assert!(line.starts_with(&family), "{line} in {family}");
        }
    }
    assert_eq!(families.len(), metrics().len());
}

#[test]
fn reasons_for_drops_are_explained() {
    let text = text(status()).unwrap();
    let help = text
        .lines()
        .find(|line| line.starts_with("# HELP vswitch_dropped_packets "))
        .expect("help");
    for drop in &status().drops {
        assert!(
            help.contains(&format!("{}: {}", drop.reason, drop.help)),
            "{help}"
        );
    }
}

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn every_metric_is_documented_and_none_else() {
    let page = page("docs/monitoring.md");
    let rows: BTreeSet<&str> = page
        .lines()
        .filter(|l| l.starts_with("| `vswitch_"))
        .collect();
    let expected: BTreeSet<String> = metrics()
        .iter()
        .map(|metric| {
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let samples = (metric.samples)(&status());
            let (labels, _) = samples.first().expect(metric.name);
            let labels: Vec<String> = labels.iter().map(|(l, _)| format!("`{l}`")).collect();
            let help = (metric.help)(&Status::default());
            let name = metric.full_name();
            let labels = labels.join(" ");
            format!("| `{name}` | {kind} | {labels} | {help} |")
        })
        .collect();
    let expected: BTreeSet<&str> = expected.iter().map(String::as_str).collect();
    let missing: Vec<_> = expected.difference(&rows).collect();
    let gone: Vec<_> = rows.difference(&expected).collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "missing:\n{missing:#?}\ngone:\n{gone:#?}"
    );
}

/// The names of metrics in a query.
fn queried(query: &str) -> impl Iterator<Item = &str> {
    query
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("vswitch_"))
}

#[test]
fn the_dashboard_asks_for_metrics_that_exist() {
    let page = page("docs/grafana/vswitch.json");
    let dashboard: Value = serde_json::from_str(&page).unwrap();
    let known = names(&text(status()).unwrap());
    let mut asked = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{panel}");
        let at = &panel["gridPos"];
        let (x, w) = (at["x"].as_u64().expect("x"), at["w"].as_u64().expect("w"));
        assert!(x + w <= 24, "{panel}");
        if panel["type"] == "row" {
            continue;
        }
        for target in panel["targets"].as_array().expect("targets") {
            let query = target["expr"].as_str().expect("a query");
            let names: Vec<&str> = queried(query).collect();
            assert!(!names.is_empty(), "{query}");
            for name in names {
                assert!(known.contains(name), "{name} in {query}");
                asked.insert(name.to_owned());
            }
        }
    }
    for variable in dashboard["templating"]["list"]
        .as_array()
        .expect("variables")
    {
        for name in variable["query"].as_str().into_iter().flat_map(queried) {
            assert!(known.contains(name), "{name}");
        }
    }
    assert!(asked.len() > 20, "{asked:?}");
}

#[test]
fn prometheus_can_fetch_them_over_the_socket() {
    let switch = Switch::start();
    let (body, code) = switch.curl(&[], "/metrics");
    assert_eq!(code, format!("200 {CONTENT_TYPE}"));
    // curl's write-out comes after a newline of its own.
    assert_eq!(body + "\n", text(status()).unwrap() + "\n");

    let ended = Switch::controlled(|requests| requests.into_iter().for_each(drop));
    let (body, code) = ended.curl(&[], "/metrics");
    assert!(code.starts_with("503"), "{code}");
    assert!(body.contains("stopping"), "{body}");
}

#[test]
fn and_over_tcp_where_it_is_asked_for() {
    let (up, is_up) = sync_channel(1);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = std::thread::spawn(move || {
        runtime().block_on(async {
            let any = "127.0.0.1:0".parse().unwrap();
            let listener = Listener::bind(any).await.unwrap();
            let address = listener.address().unwrap();
            // Who comes second is told what to do.
            let second = Listener::bind(address).await.unwrap_err();
            assert!(matches!(second, ListenerError::Bind { .. }));
            assert!(second.to_string().contains("metrics.listen"), "{second}");
            up.send(address).unwrap();
            let source = |request: StatusRequest| {
                request.answer(status());
                Ok(())
            };
            let shutdown = async {
                let _ = stopped.await;
            };
            listener.serve(source, shutdown).await
        })
    });
    let address = is_up.recv().unwrap();
    let curl = |path: &str| {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "20"])
            .args(["--write-out", "%{http_code}"])
            .arg(format!("http://{address}{path}"))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(curl("/metrics"), text(status()).unwrap() + "200");
    // Nothing else of the API is there.
    assert_eq!(curl("/v1/status"), "404");
    drop(stop);
    server.join().unwrap().unwrap();
}
