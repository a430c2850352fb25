//! Templates against what Python makes of them: `templates.json`, which `models/chat_templates.py` records.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Table {
    tokens: SpecialTokens,
    data: Value,
    tools: Value,
    conversation: Vec<Value>,
    features: Vec<Feature>,
    conversations: BTreeMap<String, Talk>,
    families: Vec<Family>,
    dates: Vec<Date>,
}

#[derive(Deserialize)]
struct Feature {
    name: String,
    template: String,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Deserialize)]
struct Family {
    name: String,
    template: String,
    cases: BTreeMap<String, Outcome>,
}

#[derive(Deserialize)]
struct Talk {
    tools: bool,
    messages: Vec<Value>,
    #[serde(default)]
    more: BTreeMap<String, Value>,
}

/// One of the three.
#[derive(Deserialize)]
struct Outcome {
    prompt: Option<String>,
    refused: Option<String>,
    #[serde(rename = "fails")]
    _fails: Option<String>,
}

#[derive(Deserialize)]
struct Date {
    seconds: u64,
    format: String,
    text: String,
}

fn table() -> Table {
    serde_json::from_str(include_str!("templates.json")).unwrap()
}

/// What is different from Python's outcome, if anything is.
fn difference(template: &str, tokens: &SpecialTokens, conversation: &Conversation, wanted: &Outcome) -> Option<String> {
    let got = ChatTemplate::new(template.to_owned(), tokens.clone()).and_then(|made| made.prompt(conversation));
    match (got, &wanted.prompt, &wanted.refused) {
        (Ok(got), Some(prompt), _) => (got != *prompt).then(|| format!("\n  {got:?}\n  instead of\n  {prompt:?}")),
        (Err(ChatError::Refused { reason }), _, Some(wanted)) => (reason != *wanted).then_some(reason),
        (Err(ChatError::Render { .. } | ChatError::Syntax { .. }), None, None) => None,
        (Ok(got), None, _) => Some(format!("{got:?} instead of an error")),
        (Err(error), ..) => Some(format!("{error} instead of {:?}", wanted.prompt)),
    }
}

/// What jinja2 has and templates here do not: each is an error. `chat/mod.rs` lists them for readers.
const LACKING: &[&str] = &[
    "block tag",
    "center and striptags",
    "cycler",
    "dict keys output",
    "encode fails or differs",
    "escape filters",
    "filesizeformat",
    "indent filter",
    "macro specials",
    "macro varargs",
    "percent filter",
    "pprint",
    "random is no function of its input",
    "truncate",
    "urlencode",
    "wordcount and wordwrap",
    "xmlattr",
];

/// What is answered otherwise, of no use in a template for chats; listed there too.
const OTHERWISE: &[(&str, &str)] = &[
    ("compare mixed fails", "True"),
    ("method is defined", "False False True"),
    ("range", "[0, 1, 2] [1, 3, 5] [3, 2, 1] [0, 1]"),
];

#[test]
fn each_feature_is_pythons() {
    let Table { tokens, data, tools, conversation, features, .. } = table();
    assert!(features.len() >= 200);
    let talk = Conversation { messages: conversation, tools, more: vec![("data".to_owned(), data)] };
    let mut differ = Vec::new();
    for Feature { name, template, mut outcome } in features {
        let python = difference(&template, &tokens, &talk, &outcome);
        if LACKING.contains(&&name[..]) {
            assert!(python.is_some(), "{name} is there after all");
            outcome.prompt = None;
        } else if let Some((_, text)) = OTHERWISE.iter().find(|(known, _)| *known == name) {
            outcome.prompt = Some((*text).to_owned());
        }
        differ.extend(difference(&template, &tokens, &talk, &outcome).map(|what| format!("{name}: {what}")));
    }
    assert!(differ.is_empty(), "{}\n{}", differ.len(), differ.join("\n"));
}

#[test]
fn each_family_is_pythons() {
    let Table { tokens, tools, conversations, families, .. } = table();
    assert!(families.len() >= 12);
    let mut differ = Vec::new();
    for Family { name, template, cases } in &families {
        for (case, outcome) in cases {
            let Talk { tools: wanted, messages, more } = &conversations[case];
            let tools = if *wanted { tools.clone() } else { Value::from(()) };
            let more = more.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
            let talk = Conversation { messages: messages.clone(), tools, more };
            differ.extend(difference(template, &tokens, &talk, outcome).map(|what| format!("{name}, {case}: {what}")));
        }
    }
    assert!(differ.is_empty(), "{}\n{}", differ.len(), differ.join("\n"));
}

#[test]
fn each_date_is_pythons() {
    for Date { seconds, format, text } in table().dates {
        assert_eq!(date::format(seconds, &format).unwrap(), text, "{format} at {seconds}");
    }
}

fn talk(turns: &[(&str, &str)]) -> Conversation {
    turns.iter().fold(Conversation::new(), |talk, (role, content)| talk.with(role, content))
}

fn template(source: &str) -> Result<ChatTemplate, ChatError> {
    ChatTemplate::new(source.to_owned(), [("bos_token".to_owned(), "<s>".into())].into())
}

#[test]
fn a_date_is_that_of_today() {
    let today = template("{{ strftime_now('%d %b %Y') }}").unwrap().prompt(&talk(&[])).unwrap();
    assert_eq!(today.split(' ').map(str::len).collect::<Vec<_>>(), [2, 3, 4], "{today}");
}

#[test]
fn the_plain_template_has_lines() {
    let turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Yo"), ("user", "?")];
    let prompt = ChatTemplate::plain().prompt(&talk(&turns)).unwrap();
    assert_eq!(prompt, "Be brief.\n\nUser: Hi\nAssistant: Yo\nUser: ?\nAssistant:");
}

#[test]
fn faults_are_told_apart() {
    let turns = talk(&[("user", "a"), ("user", "b")]);
    assert!(matches!(template("{% if %}"), Err(ChatError::Syntax { .. })));
    assert!(matches!(template("{{ 1 / 0 }}").unwrap().prompt(&turns), Err(ChatError::Render { .. })));
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}";
    assert!(matches!(template(endless).unwrap().prompt(&turns), Err(ChatError::Render { .. })));
}

#[test]
fn a_template_lies_beside_the_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = folder.path().join("tokenizer.json");
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let beside = || ChatTemplate::beside(&tokenizer);
    let says = || beside().unwrap().unwrap().prompt(&talk(&[("user", "x")])).unwrap();
    assert!(beside().unwrap().is_none());
    put("tokenizer_config.json", r#"{"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": null}"#);
    assert!(beside().unwrap().is_none());
    put("tokenizer_config.json", r#"{"chat_template": "one{{ bos_token }}", "bos_token": "<s>", "clean": true}"#);
    assert_eq!(says(), "one<s>");
    put(
        "tokenizer_config.json",
        r#"{"chat_template": [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "many"}]}"#,
    );
    assert_eq!(says(), "many");
    put("tokenizer_config.json", r#"{"chat_template": {"default": "by name"}}"#);
    assert_eq!(says(), "by name");
    put("chat_template.json", r#"{"chat_template": "its own"}"#);
    assert_eq!(says(), "its own");
    put("chat_template.jinja", "file");
    assert_eq!(says(), "file");
    put("other.jinja", "other");
    let other = ChatTemplate::from_file(&folder.path().join("other.jinja"), &tokenizer).unwrap();
    assert_eq!(other.prompt(&talk(&[])).unwrap(), "other");
    let missing = ChatTemplate::from_file(&folder.path().join("none.jinja"), &tokenizer);
    assert!(matches!(missing, Err(ChatError::Config(ConfigError::Io { .. }))));
    put("tokenizer_config.json", "{");
    assert!(matches!(beside(), Err(ChatError::Config(ConfigError::Json { .. }))));
}
