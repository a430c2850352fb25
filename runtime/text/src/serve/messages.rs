//! Messages and tools of a request, as a chat template takes them.
//!
//! Messages keep what else they have: names, calls of tools and their answers. As servers of such models do, a text in parts is one
//! text, and the arguments of a call, which OpenAI has as JSON in a text, are the object that it spells.

use minijinja::value::ValueKind;
use serde_json::Value;

use super::error::ApiError;
use super::request::missing;
use crate::Conversation;

/// Value of a template.
type Given = minijinja::Value;

/// A conversation from `messages`, `tools` and `chat_template_kwargs`, which `body` has in their own order. With `tools` false the
/// template is not told of any.
pub(super) fn conversation(given: [Option<Value>; 3], body: &Given, tools: bool) -> Result<Conversation, ApiError> {
    let [messages, schemas, more] = given.map(|value| value.filter(|value| !value.is_null()));
    let Value::Array(messages) = messages.ok_or_else(|| missing("messages"))? else {
        return Err(fault("messages", "is to be a list"));
    };
    if messages.is_empty() {
        return Err(fault("messages", "is to have at least one message"));
    }
    let mut talk = Conversation::new();
    let ordered = body.get_attr("messages").unwrap_or_default();
    for (number, message) in messages.iter().enumerate() {
        talk.messages.push(turn(number, message, &ordered.get_item_by_index(number).unwrap_or_default())?);
    }
    match schemas {
        None => {}
        Some(Value::Array(list)) => {
            let sound = |schema: &Value| schema["type"] == "function" && schema["function"]["name"].is_string();
            if let Some(at) = list.iter().position(|schema| !sound(schema)) {
                return Err(fault(&format!("tools[{at}]"), "is to be of type function and have its name"));
            }
            if tools && !list.is_empty() {
                talk.tools = body.get_attr("tools").unwrap_or_default();
            }
        }
        Some(_) => return Err(fault("tools", "is to be a list")),
    }
    match more {
        None => {}
        Some(Value::Object(names)) => {
            let ordered = body.get_attr("chat_template_kwargs").unwrap_or_default();
            let value = |name: &String| Some((name.clone(), ordered.get_attr(name).ok()?));
            talk.more = names.keys().filter_map(value).collect();
        }
        Some(_) => return Err(fault("chat_template_kwargs", "is to be an object")),
    }
    Ok(talk)
}

fn fault(at: &str, message: &str) -> ApiError {
    ApiError::param("invalid_value", at, format!("`{at}` {message}"))
}

/// A message with its role, its text, and what else it has.
fn turn(number: usize, message: &Value, ordered: &Given) -> Result<Given, ApiError> {
    let at = |what: &str| format!("messages[{number}]{what}");
    let role = match message["role"].as_str() {
        Some(role @ ("system" | "user" | "assistant" | "tool")) => role,
        Some("developer") => "system",
        _ => return Err(fault(&at(".role"), "is to be system, developer, user, assistant or tool")),
    };
    let calls = &message["tool_calls"];
    let content = match &message["content"] {
        Value::String(text) => Given::from(text.as_str()),
        Value::Array(parts) => {
            let text = |(part, value): (usize, &Value)| match (value["type"].as_str(), value["text"].as_str()) {
                (Some("text"), Some(text)) => Ok(text.to_owned()),
                _ => Err(fault(&at(&format!(".content[{part}]")), "is to be of type text")),
            };
            Given::from(parts.iter().enumerate().map(text).collect::<Result<String, _>>()?)
        }
        Value::Null if role == "assistant" && calls.is_array() => Given::from(()),
        _ => return Err(fault(&at(".content"), "is to be a text")),
    };
    let mut pairs = Vec::new();
    for key in ordered.try_iter().into_iter().flatten() {
        let value = ordered.get_item(&key).unwrap_or_default();
        match key.as_str().unwrap_or_default() {
            "role" => pairs.push((key, Given::from(role))),
            "content" => pairs.push((key, content.clone())),
            "tool_calls" if !value.is_none() => {
                let Some(list) = calls.as_array() else { return Err(fault(&at(".tool_calls"), "is to be a list")) };
                if let Some(call) = list.iter().position(|call| !call["function"]["name"].is_string()) {
                    return Err(fault(&at(&format!(".tool_calls[{call}]")), "is to have a function and its name"));
                }
                pairs.push((key, value.try_iter().into_iter().flatten().map(|call| called(&call)).collect()));
            }
            // Clients write out what an answer did not have.
            _ if value.is_none() => {}
            _ => pairs.push((key, value)),
        }
    }
    if message.get("content").is_none() {
        pairs.push((Given::from("content"), content));
    }
    Ok(Given::from_pairs(pairs))
}

/// A call whose arguments are an object, if they spell one.
fn called(call: &Given) -> Given {
    let spelt = |value: &Given| -> Option<Given> {
        let read: Given = serde_json::from_str(value.as_str()?).ok()?;
        (read.kind() == ValueKind::Map).then_some(read)
    };
    changed(call, "function", |function| {
        changed(function, "arguments", |given| spelt(given).unwrap_or_else(|| given.clone()))
    })
}

/// A mapping with another value at one place.
fn changed(map: &Given, at: &str, change: impl Fn(&Given) -> Given) -> Given {
    let pair = |key: Given| {
        let value = map.get_item(&key).unwrap_or_default();
        let value = if key.as_str() == Some(at) { change(&value) } else { value };
        (key, value)
    };
    Given::from_pairs(map.try_iter().into_iter().flatten().map(pair))
}
