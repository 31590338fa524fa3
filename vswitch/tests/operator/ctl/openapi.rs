//! `docs/openapi.yaml` against the code: its paths are the routes, and the status, with every
//! field in it, is what its schemas describe, no more and no less.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use vswitch::manage::api::{
    self, CAPTURE_ROUTE, CAPTURES_ROUTE, INJECT, KEYS_ROUTE, Section, TRACE,
};

use super::switch::STATUS;

fn description() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.yaml");
    serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn strings(value: &Value) -> BTreeSet<&str> {
    let array = value.as_array().map(Vec::as_slice).unwrap_or_default();
    array.iter().map(|v| v.as_str().unwrap()).collect()
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

/// Checks `value`, which is at `at`, and collects what is wrong.
fn check(root: &Value, schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
    let schema = resolve(root, schema);
    let types = match &schema["type"] {
        Value::String(one) => BTreeSet::from([one.as_str()]),
        many => strings(many),
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !types.contains(kind) {
        wrong.push(format!("{at}: {kind} is not of {types:?}"));
        return;
    }
    if schema["enum"].is_array() && !strings(&schema["enum"]).contains(value.as_str().unwrap()) {
        wrong.push(format!("{at}: {value} is not in its enum"));
    }
    match value {
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                check(root, &schema["items"], item, &format!("{at}[{n}]"), wrong);
            }
        }
        Value::Object(fields) if schema["properties"].is_object() => {
            let described = keys(&schema["properties"]);
            if described != keys(value) || described != strings(&schema["required"]) {
                wrong.push(format!(
                    "{at}: fields {:?}, described {described:?}",
                    keys(value)
                ));
            }
            for (name, field) in fields {
                let schema = &schema["properties"][name];
                check(root, schema, field, &format!("{at}.{name}"), wrong);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                let schema = &schema["additionalProperties"];
                check(root, schema, field, &format!("{at}.{name}"), wrong);
            }
        }
        _ => {}
    }
}

/// What is wrong with an answer, by the description.
pub fn wrong(route: &str, method: &str, value: &Value) -> Vec<String> {
    let root = description();
    let schema =
        &root["paths"][route][method]["responses"]["200"]["content"]["application/json"]["schema"];
    assert!(schema.is_object(), "{method} {route} is not described");
    let mut wrong = Vec::new();
    check(&root, schema, value, route, &mut wrong);
    wrong
}

#[test]
fn every_route_is_described_and_none_else() {
    let root = description();
    let mut routes: BTreeSet<&str> = Section::ALL.map(Section::route).into();
    routes.extend(["/metrics", CAPTURE_ROUTE, CAPTURES_ROUTE, KEYS_ROUTE]);
    routes.extend([TRACE, INJECT, api::SESSIONS, api::MAPPINGS, api::KEYS]);
    routes.extend([api::CONFIG, api::REVISIONS, api::DIFF, api::APPLY]);
    assert_eq!(keys(&root["paths"]), routes);
}

#[test]
fn every_field_is_described_and_none_else() {
    let root = description();
    let status: Value = serde_json::from_str(STATUS).unwrap();
    // The fixture is parsed as a Status first: with all of its fields, and only those.
    let typed = serde_json::to_value(super::switch::status()).unwrap();
    assert_eq!(status, typed);
    let mut wrong = Vec::new();
    for section in Section::ALL {
        let route = section.route();
        let schema = &root["paths"][route]["get"]["responses"]["200"]["content"]["application/json"]
            ["schema"];
        let value = match route.trim_start_matches("/v1/") {
            "status" => &typed,
            part => &typed[part],
        };
        check(&root, schema, value, route, &mut wrong);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_packets_way_is_described() {
    let root = description();
    let mut wrong = Vec::new();
    for (name, value) in super::trace::examples() {
        let schema = serde_json::json!({"$ref": format!("#/components/schemas/{name}")});
        check(&root, &schema, &value, name, &mut wrong);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_check_finds_what_is_wrong() {
    let root = description();
    let schema = serde_json::json!({"$ref": "#/components/schemas/Nve"});
    let mut typed = serde_json::to_value(super::switch::status().nve).unwrap();
    typed["new"] = Value::from(1);
    typed["hugepages"] = Value::from("yes");
    let mut wrong = Vec::new();
    check(&root, &schema, &typed, "nve", &mut wrong);
    assert!(wrong.iter().any(|w| w.contains("\"new\"")), "{wrong:?}");
    assert!(
        wrong.iter().any(|w| w.starts_with("nve.hugepages: string")),
        "{wrong:?}"
    );
}
