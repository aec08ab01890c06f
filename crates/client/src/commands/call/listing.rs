//! What a server has, shown instead of called.

use schema::{Schema, Unknown, template::template};
use serde_json::{Value, json};

/// The names of the services: for programs, and for people.
pub(super) fn services(mut names: Vec<String>) -> (Value, String) {
    names.sort();
    let lines: Vec<_> = names.iter().map(|name| format!("{}\n", timeline::words::printable(name))).collect();
    (json!({ "services": names }), lines.concat())
}

/// A service, a method or a message of a schema, or JSON to fill in for its request.
pub(super) fn of(
    schema: &Schema,
    wanted: Option<(&str, Option<&str>)>,
    is_template: bool,
    proto_names: bool,
) -> Result<(Value, String), Unknown> {
    let Some((symbol, method)) = wanted else {
        return Ok(services(schema.services().map(|service| service.full_name().to_owned()).collect()));
    };
    if is_template {
        let message = match method {
            Some(method) => schema.method(symbol, method)?.input(),
            None => schema.message(symbol)?,
        };
        let filled = template(&message, proto_names);
        return Ok((json!({ "template": filled }), format!("{filled:#}\n")));
    }
    let text = match method {
        Some(method) => schema.text(&format!("{symbol}/{method}"))?,
        None => schema.text(symbol)?,
    };
    Ok((json!({ "text": text }), text))
}
