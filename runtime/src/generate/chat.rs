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

use std::io;
use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, Value, context};

use super::config::{ConfigError, Templates, Token, TokenizerConfig, read};

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
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// The template that belongs to a `tokenizer.json`, if the model has one.
    pub fn beside(tokenizer: &Path) -> Result<Option<ChatTemplate>, ChatError> {
        let file = tokenizer.with_file_name("chat_template.jinja");
        let config = TokenizerConfig::beside(tokenizer)?;
        let source = match (read(&file)?, config.chat_template) {
            (Some(source), _) => source,
            (None, Some(Templates::One(source))) => source,
            (None, Some(Templates::Many(all))) => match all.into_iter().find(|named| named.name == "default") {
                Some(named) => named.template,
                None => return Ok(None),
            },
            (None, None) => return Ok(None),
        };
        ChatTemplate::new(source, config.bos_token, config.eos_token).map(Some)
    }

    /// The template of a file, with the tokens that belong to a `tokenizer.json`.
    pub fn from_file(file: &Path, tokenizer: &Path) -> Result<ChatTemplate, ChatError> {
        let missing = || ConfigError::Io { file: file.to_owned(), source: io::ErrorKind::NotFound.into() };
        let config = TokenizerConfig::beside(tokenizer)?;
        ChatTemplate::new(read(file)?.ok_or_else(missing)?, config.bos_token, config.eos_token)
    }

    /// Lines `User: ...` and `Assistant: ...`, for models that know no format. Stop strings such as `User:` suit it.
    pub fn plain() -> ChatTemplate {
        ChatTemplate::new(PLAIN.to_owned(), None, None).expect("a template that is tested")
    }

    /// A template whose text begins and ends with these tokens.
    fn new(source: String, bos: Option<Token>, eos: Option<Token>) -> Result<ChatTemplate, ChatError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.expect("the usual delimiters"));
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |reason: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, "refused").with_source(Refusal(reason)))
        });
        environment.add_template_owned(NAME, source).map_err(|e| ChatError::Syntax { reason: e.to_string() })?;
        let name = |token: Option<Token>| token.map(Token::name).unwrap_or_default();
        Ok(ChatTemplate { environment, bos: name(bos), eos: name(eos) })
    }

    /// The prompt that asks for the assistant's next turn. It has its special tokens by name.
    pub fn prompt(&self, messages: &[Message]) -> Result<String, ChatError> {
        let template = self.environment.get_template(NAME).expect("it was added");
        let turn = |m: &Message| Value::from_pairs([("role", m.role.as_str()), ("content", m.content.as_str())]);
        let values = context! {
            messages => messages.iter().map(turn).collect::<Vec<_>>(),
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
            add_generation_prompt => true,
        };
        template.render(values).map_err(|error| {
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

/// The template's name within its environment.
const NAME: &str = "chat";

/// What a template said with `raise_exception`.
#[derive(thiserror::Error, Debug)]
#[error("{0}")]
struct Refusal(String);

#[cfg(test)]
mod tests {
    use super::*;

    fn message(role: &str, content: &str) -> Message {
        Message { role: role.to_owned(), content: content.to_owned() }
    }

    fn template(source: &str) -> Result<ChatTemplate, ChatError> {
        ChatTemplate::new(source.to_owned(), Some(Token::Name("<s>".into())), Some(Token::Name("</s>".into())))
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
