//! Messages to one prompt, by the Jinja template that ships with a chat model.
//!
//! The template is a file `chat_template.jinja` beside `tokenizer.json`, or the entry `chat_template` of
//! `tokenizer_config.json` there, which also names the tokens that begin and end a text. Templates are written for the
//! Python library `transformers`: blocks are trimmed as it does, strings and lists have Python's methods, and
//! `raise_exception` refuses messages.
//!
//! Without a template there is no chat: a made-up layout would make a model answer badly without saying why. Who wants
//! one for a base model asks for [`ChatTemplate::plain`].
//!
//! A template comes with the model, from someone else: it reads nothing but the messages, and its steps are limited
//! (not its memory, so take it from where the model comes from).

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{Environment, ErrorKind, Value};

use super::config::{ConfigError, SpecialTokens, TokenizerConfig, json, read, template};
use super::date;

/// Steps that a template may take, many times those of a long conversation.
const FUEL: u64 = 5_000_000;

/// A chat without format: lines `User: ...` and `Assistant: ...`.
const PLAIN: &str = "{% for message in messages %}{% if message.role == 'system' %}{{ message.content }}\n\n\
    {% else %}{{ message.role | capitalize }}: {{ message.content }}\n{% endif %}{% endfor %}\
    {% if add_generation_prompt %}Assistant:{% endif %}";

/// A turn of a conversation.
#[derive(Clone)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

/// Why messages are no prompt. No message is in the error, unless the template puts it there.
#[derive(thiserror::Error, Debug)]
#[allow(missing_docs)]
pub enum ChatError {
    #[error("the model has no chat template")]
    None,
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the chat template is no Jinja template: {reason}")]
    Syntax { reason: String },
    #[error("the chat template refuses the messages: {reason}")]
    Refused { reason: String },
    #[error("the chat template cannot be followed: {reason}")]
    Render { reason: String },
}

impl ChatError {
    /// A way out, for the user.
    pub fn hint(&self) -> &'static str {
        match self {
            ChatError::None => {
                "a prompt as plain text (`/v1/completions`), or start with `--chat-template FILE` or `--chat-template plain`"
            }
            ChatError::Config(e) => e.hint(),
            ChatError::Syntax { .. } => "the files that lie beside the model at its origin, or `--chat-template FILE`",
            ChatError::Refused { .. } => "messages in the order that the model knows",
            ChatError::Render { .. } => "another template with `--chat-template FILE`",
        }
    }
}

/// Turns messages into a prompt.
pub struct ChatTemplate {
    environment: Environment<'static>,
    special_tokens: SpecialTokens,
}

impl ChatTemplate {
    /// The template that belongs to a `tokenizer.json`, if the model has one.
    pub fn beside(tokenizer: &Path) -> Result<Option<ChatTemplate>, ChatError> {
        let config = TokenizerConfig::beside(tokenizer)?;
        let source = match read(&tokenizer.with_file_name("chat_template.jinja"))? {
            Some(source) => Some(source),
            None => json(&tokenizer.with_file_name("chat_template.json"))?
                .and_then(|file| template(file.get("chat_template")?))
                .or(config.chat_template),
        };
        source.map(|source| ChatTemplate::new(source, config.special_tokens)).transpose()
    }

    /// The template of a file, with the tokens that belong to a `tokenizer.json`.
    pub fn from_file(file: &Path, tokenizer: &Path) -> Result<ChatTemplate, ChatError> {
        let missing = || ConfigError::Io { file: file.to_owned(), source: io::ErrorKind::NotFound.into() };
        let config = TokenizerConfig::beside(tokenizer)?;
        ChatTemplate::new(read(file)?.ok_or_else(missing)?, config.special_tokens)
    }

    /// Lines `User: ...` and `Assistant: ...`, for models that know no format. Stop strings such as `User:` suit it.
    pub fn plain() -> ChatTemplate {
        ChatTemplate::new(PLAIN.to_owned(), SpecialTokens::new()).expect("a template that is tested")
    }

    /// A template that knows these tokens.
    pub fn new(source: String, special_tokens: SpecialTokens) -> Result<ChatTemplate, ChatError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.expect("the usual delimiters"));
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |reason: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, "refused").with_source(Refusal(reason)))
        });
        environment.add_filter("tojson", plain_json);
        environment.add_function("strftime_now", |format: String| date::format(date::now(), &format));
        let source = without_marks(&source);
        environment.add_template_owned(NAME, source).map_err(|e| ChatError::Syntax { reason: e.to_string() })?;
        Ok(ChatTemplate { environment, special_tokens })
    }

    /// Whether this is its source.
    pub fn is_of(&self, source: &str) -> bool {
        let template = self.environment.get_template(NAME).expect("it was added");
        template.source() == without_marks(source)
    }

    /// The prompt that asks for the assistant's next turn. It has its special tokens by name.
    pub fn prompt(&self, messages: &[Message]) -> Result<String, ChatError> {
        let template = self.environment.get_template(NAME).expect("it was added");
        let turn = |m: &Message| Value::from_pairs([("role", m.role.as_str()), ("content", m.content.as_str())]);
        let none = Value::from(());
        let values = [
            ("messages", messages.iter().map(turn).collect()),
            ("tools", none.clone()),
            ("documents", none),
            ("add_generation_prompt", Value::from(true)),
        ];
        // Templates of models that lack one of these two read them all the same.
        let missing = ["bos_token", "eos_token"].map(|name| (name, Value::from("")));
        let tokens = self.special_tokens.iter().map(|(name, token)| (name.as_str(), Value::from(token.as_str())));
        let values: BTreeMap<&str, Value> = missing.into_iter().chain(tokens).chain(values).collect();
        template.render(Value::from(values)).map_err(|error| {
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                if let Some(Refusal(reason)) = error.downcast_ref() {
                    return ChatError::Refused { reason: reason.clone() };
                }
                cause = error.source();
            }
            ChatError::Render { reason: error.to_string() }
        })
    }
}

/// The template without the tags that mark the assistant's words for training, which mean nothing here.
fn without_marks(source: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(source.len()), source);
    while let Some((before, tag)) = rest.split_once("{%") {
        let Some((inner, after)) = tag.split_once("%}") else { break };
        let name = inner.trim_matches(|c: char| matches!(c, '-' | '+') || c.is_whitespace());
        // Whitespace goes as the tag's own signs say.
        let stands_for = match name {
            "generation" => inner.replace(name, "if true"),
            "endgeneration" => inner.replace(name, "endif"),
            _ => inner.to_owned(),
        };
        out.extend([before, "{%", &stands_for, "%}"]);
        rest = after;
    }
    out + rest
}

/// The template's name within its environment.
const NAME: &str = "chat";

/// What a template said with `raise_exception`.
#[derive(thiserror::Error, Debug)]
#[error("{0}")]
struct Refusal(String);

/// `tojson` as templates know it: plain JSON, in which minijinja would write what HTML gives a meaning as an escape.
fn plain_json(value: &Value, indent: Option<Value>, options: Kwargs) -> Result<Value, minijinja::Error> {
    let escaped = minijinja::filters::tojson(value, indent, options)?.to_string();
    let mut plain = String::with_capacity(escaped.len());
    let mut rest = escaped.as_str();
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        plain.push_str(before);
        let found = [("\\u003c", '<'), ("\\u003e", '>'), ("\\u0026", '&'), ("\\u0027", '\'')]
            .into_iter()
            .find(|(code, _)| escape.starts_with(code));
        match found {
            Some((code, character)) => {
                plain.push(character);
                rest = &escape[code.len()..];
            }
            // Another escape; of two backslashes the second begins none.
            None => {
                let length = 1 + escape[1..].chars().next().map_or(0, char::len_utf8);
                plain.push_str(&escape[..length]);
                rest = &escape[length..];
            }
        }
    }
    plain.push_str(rest);
    Ok(Value::from_safe_string(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(role: &str, content: &str) -> Message {
        Message { role: role.to_owned(), content: content.to_owned() }
    }

    fn template(source: &str) -> Result<ChatTemplate, ChatError> {
        let tokens = [("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>")];
        let tokens = tokens.map(|(name, token)| (name.to_owned(), token.to_owned()));
        ChatTemplate::new(source.to_owned(), tokens.into())
    }

    /// In the style of chat models of the day: trimmed blocks, methods of Python, a refusal, a namespace.
    const USUAL: &str = "{{ bos_token }}
{% set ns = namespace(last='') %}
{% for message in messages %}
    {% if message['role'] == ns.last %}
        {{ raise_exception('roles must alternate') }}
    {% endif %}
    {% set ns.last = message['role'] %}
{{ '<|' + message['role'] + '|>' + message['content'].strip() + eos_token }}
{% endfor %}
{%- if add_generation_prompt and messages[-1].role.startswith('u') -%}
<|assistant|>
{%- endif %}";

    #[test]
    fn templates_are_followed_as_python_does() {
        let usual = template(USUAL).unwrap();
        let turns = [message("user", " Hi "), message("assistant", "Hello."), message("user", "<b>&\n")];
        let prompt = usual.prompt(&turns).unwrap();
        assert_eq!(
            prompt, "<s>\n<|user|>Hi</s>\n<|assistant|>Hello.</s>\n<|user|><b>&</s>\n<|assistant|>",
            "as jinja2 renders it"
        );
    }

    /// A template with constructs that models' templates have, and what jinja2 makes of conversations.
    #[derive(serde::Deserialize)]
    struct Family {
        name: String,
        template: String,
        cases: Vec<Case>,
    }

    #[derive(serde::Deserialize)]
    struct Case {
        messages: Vec<Turn>,
        prompt: Option<String>,
        refused: Option<String>,
    }

    #[derive(serde::Deserialize)]
    struct Turn {
        role: String,
        content: String,
    }

    #[test]
    fn constructs_of_templates_are_rendered_as_python_does() {
        let families: Vec<Family> = serde_json::from_str(include_str!("templates.json")).unwrap();
        assert_eq!(families.len(), 6);
        for Family { name, template: source, cases } in families {
            let followed = template(&source).unwrap_or_else(|e| panic!("{name}: {e}"));
            for (number, case) in cases.iter().enumerate() {
                let turns: Vec<Message> = case.messages.iter().map(|m| message(&m.role, &m.content)).collect();
                match (followed.prompt(&turns), &case.prompt, &case.refused) {
                    (Ok(got), Some(wanted), None) => assert_eq!(got, *wanted, "{name}, conversation {number}"),
                    (Err(ChatError::Refused { reason }), None, Some(wanted)) => assert_eq!(reason, *wanted, "{name}"),
                    (got, ..) => panic!("{name}, conversation {number}: {got:?}"),
                }
            }
        }
    }

    #[test]
    fn a_date_is_that_of_today() {
        let today = template("{{ strftime_now('%d %b %Y') }}").unwrap().prompt(&[]).unwrap();
        assert_eq!(today.split(' ').map(str::len).collect::<Vec<_>>(), [2, 3, 4], "{today}");
    }

    #[test]
    fn the_plain_template_has_lines() {
        let turns =
            [message("system", "Be brief."), message("user", "Hi"), message("assistant", "Yo"), message("user", "?")];
        let prompt = ChatTemplate::plain().prompt(&turns).unwrap();
        assert_eq!(prompt, "Be brief.\n\nUser: Hi\nAssistant: Yo\nUser: ?\nAssistant:");
    }

    #[test]
    fn faults_are_told_apart() {
        let turns = [message("user", "a"), message("user", "b")];
        let Err(ChatError::Refused { reason }) = template(USUAL).unwrap().prompt(&turns) else { panic!("it refuses") };
        assert_eq!(reason, "roles must alternate");
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
        let says = || beside().unwrap().unwrap().prompt(&[message("user", "x")]).unwrap();
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
        assert_eq!(other.prompt(&[]).unwrap(), "other");
        let missing = ChatTemplate::from_file(&folder.path().join("none.jinja"), &tokenizer);
        assert!(matches!(missing, Err(ChatError::Config(ConfigError::Io { .. }))));
        put("tokenizer_config.json", "{");
        assert!(matches!(beside(), Err(ChatError::Config(ConfigError::Json { .. }))));
    }
}
