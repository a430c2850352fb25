//! Messages to one prompt, by the Jinja template that ships with a chat model.
//!
//! The template is a file `chat_template.jinja` beside `tokenizer.json`, or the entry `chat_template` of
//! `tokenizer_config.json` there, which also names the tokens that begin and end a text. Templates are written for the
//! Python library `transformers`: blocks are trimmed as it does, strings and lists have Python's methods, and
//! `raise_exception` refuses messages.
//!
//! A template is given what `transformers` gives it: `messages`, `tools`, `documents` and `add_generation_prompt`, the special tokens by
//! name, `strftime_now` (in universal time), and Jinja with Python's methods, texts of values and `tojson`. `templates.json` records what
//! Python makes of some two hundred templates of one construct and of others in the manner of published ones; the tests hold ours equal.
//! What jinja2 has and this has not is an error: inheritance, `varargs` of macros, `cycler`, `%r`, bytes, the text of a mapping's views, the filters
//! `truncate`, `wordwrap`, `wordcount`, `center`, `striptags`, `forceescape`, `xmlattr`, `filesizeformat`, `urlencode`, `pprint` and
//! `random`, `%` after what is no literal text. Known to be otherwise, without an error: a comparison of values of different kinds has
//! an answer, a method without a call is undefined, `range` and what `map` and `select` give print as
//! lists, `strftime_now` is in universal time, `~` writes floats from 1e16 on and below 1e-4 with all
//! their digits, and whole numbers of JSON beyond 64 bits are floats.
//!
//! Without a template there is no chat: a made-up layout would make a model answer badly without saying why. Who wants
//! one for a base model asks for [`ChatTemplate::plain`].
//!
//! A template comes with the model, from someone else: it reads nothing but the messages, and its steps are limited
//! (not its memory, so take it from where the model comes from).

mod date;
mod json;
mod methods;
mod python;
mod source;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value};
use serde::Deserialize;

use source::rewritten;

use super::config::{ConfigError, SpecialTokens, TokenizerConfig, json, read};

/// Steps that a template may take, many times those of a long conversation.
const FUEL: u64 = 5_000_000;

/// A chat without format: lines `User: ...` and `Assistant: ...`.
const PLAIN: &str = "{% for message in messages %}{% if message.role == 'system' %}{{ message.content }}\n\n\
    {% else %}{{ message.role | capitalize }}: {{ message.content }}\n{% endif %}{% endfor %}\
    {% if add_generation_prompt %}Assistant:{% endif %}";

/// What a template makes a prompt of. It is secret: no `Debug`.
#[derive(Clone, Default)]
pub struct Conversation {
    /// The turns, each a mapping with `role`, `content` and whatever else the template knows.
    pub messages: Vec<Value>,
    /// Tools that the model may call, a list of schemas; none if there are none.
    pub tools: Value,
    /// Variables of the template besides.
    pub more: Vec<(String, Value)>,
}

impl Conversation {
    /// One that has not begun.
    pub fn new() -> Conversation {
        Conversation { tools: Value::from(()), ..Conversation::default() }
    }

    /// The same with another turn.
    pub fn with(mut self, role: &str, content: &str) -> Conversation {
        self.messages.push(Value::from_pairs([("role", role), ("content", content)]));
        self
    }

    /// The same with other texts, at any depth; `change` is told whether a text is the assistant's.
    pub(super) fn with_texts(&self, change: &dyn Fn(&str, bool) -> String) -> Conversation {
        let turn = |turn: &Value| {
            let assistant = turn.get_attr("role").is_ok_and(|role| role.as_str() == Some("assistant"));
            with_texts(turn, &|text| change(text, assistant))
        };
        let change = |text: &str| change(text, false);
        Conversation {
            messages: self.messages.iter().map(turn).collect(),
            tools: with_texts(&self.tools, &change),
            more: self.more.iter().map(|(name, value)| (name.clone(), with_texts(value, &change))).collect(),
        }
    }
}

/// A value with other texts in it.
fn with_texts(value: &Value, change: &dyn Fn(&str) -> String) -> Value {
    let items = || value.try_iter().into_iter().flatten();
    match value.kind() {
        ValueKind::String => value.as_str().map_or_else(|| value.clone(), |text| Value::from(change(text))),
        ValueKind::Seq => items().map(|item| with_texts(&item, change)).collect(),
        ValueKind::Map => Value::from_pairs(items().map(|key| {
            let inner = with_texts(&value.get_item(&key).unwrap_or_default(), change);
            (key, inner)
        })),
        _ => value.clone(),
    }
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
    #[error("the model's chat template cannot be used: {reason}")]
    Unusable { reason: String },
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
            ChatError::Unusable { .. } => {
                "a prompt as plain text (`/v1/completions`), or another template with `--chat-template FILE`"
            }
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
                .and_then(|file| model_files::chat_template(file.get("chat_template")?))
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
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.add_function("raise_exception", |reason: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, "refused").with_source(Refusal(reason)))
        });
        environment.add_function("strftime_now", |format: String| date::format(date::now(), &format));
        python::set_up(&mut environment);
        let source = rewritten(&source);
        environment.add_template_owned(NAME, source).map_err(|e| ChatError::Syntax { reason: e.to_string() })?;
        Ok(ChatTemplate { environment, special_tokens })
    }

    /// Whether the template itself writes this.
    pub(super) fn writes(&self, name: &str) -> bool {
        self.environment.get_template(NAME).is_ok_and(|template| template.source().contains(name))
    }

    /// Whether this is its source.
    pub fn is_of(&self, source: &str) -> bool {
        let template = self.environment.get_template(NAME).expect("it was added");
        template.source() == rewritten(source)
    }

    /// The prompt that asks for the assistant's next turn. It has its special tokens by name.
    pub fn prompt(&self, conversation: &Conversation) -> Result<String, ChatError> {
        let template = self.environment.get_template(NAME).expect("it was added");
        let tokens = self.special_tokens.iter().map(|(name, token)| (name.clone(), value_of(token)));
        let given = [
            ("messages", Value::from(conversation.messages.clone())),
            ("tools", conversation.tools.clone()),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(true)),
        ];
        let given = given.map(|(name, value)| (name.to_owned(), value));
        let values = tokens.chain(conversation.more.iter().cloned()).chain(given);
        // The last of several counts.
        let values: BTreeMap<String, Value> = values.collect();
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

/// A value of JSON, in the order that it has there.
fn value_of(json: &serde_json::Value) -> Value {
    Value::deserialize(json).unwrap_or_default()
}

/// The template's name within its environment.
const NAME: &str = "chat";

/// What a template said with `raise_exception`.
#[derive(thiserror::Error, Debug)]
#[error("{0}")]
struct Refusal(String);

#[cfg(test)]
mod tests;
