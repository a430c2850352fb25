//! The language of a model: its tokenizer, the tokens that end a text and, if it chats, its template.

use std::path::{Path, PathBuf};

use clap::Args;

use super::config::end_tokens;
use super::{ChatError, ChatTemplate, Companions, GenerateError, Limits, Message, Text};

/// Where the language of a model is described.
#[derive(Args, Clone)]
pub struct LanguageOptions {
    /// The model's tokenizer, which may then be another than that of the compilation; files beside it say which tokens end a text
    /// [default: the program's name with `.tokenizer.json`, else `tokenizer.json` beside it].
    #[arg(long, value_name = "FILE.json")]
    tokenizer: Option<PathBuf>,
    /// The model's chat template in Jinja, or `plain` for lines `User: ...` and `Assistant: ...` [default:
    /// `chat_template.jinja` or `tokenizer_config.json` beside the tokenizer, else the program's].
    #[arg(long, value_name = "FILE.jinja")]
    chat_template: Option<PathBuf>,
}

/// Text to tokens and back.
pub struct Language {
    /// The tokenizer.
    pub text: Text,
    /// Tokens that end a text.
    pub ends: Vec<u32>,
    /// The template, of a model that chats.
    pub chat: Option<ChatTemplate>,
}

impl LanguageOptions {
    /// Reads the files. The tokenizer may know fewer tokens than the model has logits, not more. Tokenizer and template that lie
    /// beside the program must be those that it was compiled with; others have to be asked for.
    pub fn load(&self, program: &Path, limits: &Limits) -> Result<Language, GenerateError> {
        let own = program.with_extension("tokenizer.json");
        let found = || if own.exists() { own } else { program.with_file_name("tokenizer.json") };
        let file = self.tokenizer.clone().unwrap_or_else(found);
        let mut language = Language::beside(&file)?;
        let Companions { tokenizer, chat_template, special_tokens } = &limits.companions;
        if tokenizer.as_ref().is_some_and(|wanted| *wanted != language.text.digest()) {
            // A permuted tokenizer has as many tokens, and gives text that is wrong and looks like any other.
            match self.tokenizer {
                None => return Err(GenerateError::OtherTokenizer { file }),
                Some(_) => eprintln!("warning: {}", GenerateError::OtherTokenizer { file: file.clone() }),
            }
        }
        // The program's own template needs the program's own names of tokens, of which there may be fewer beside it.
        if let (Some(template), None) = (chat_template, &self.chat_template) {
            if language.chat.as_ref().is_some_and(|beside| !beside.is_of(template)) {
                match self.tokenizer {
                    None => return Err(GenerateError::OtherTemplate { beside: file }),
                    Some(_) => eprintln!("warning: {}", GenerateError::OtherTemplate { beside: file.clone() }),
                }
            } else {
                language.chat = Some(ChatTemplate::new(template.clone(), special_tokens.clone())?);
            }
        }
        if language.text.size() > limits.vocabulary {
            return Err(GenerateError::Vocabulary { tokenizer: language.text.size(), model: limits.vocabulary });
        }
        match &self.chat_template {
            None => {}
            Some(plain) if plain.as_os_str() == "plain" => language.chat = Some(ChatTemplate::plain()),
            Some(given) => language.chat = Some(ChatTemplate::from_file(given, &file)?),
        }
        Ok(language)
    }
}

impl Language {
    /// A tokenizer and the files beside it.
    pub fn beside(tokenizer: &Path) -> Result<Language, GenerateError> {
        let text = Text::load(tokenizer)?;
        Ok(Language { ends: end_tokens(&text)?, chat: ChatTemplate::beside(tokenizer)?, text })
    }

    /// The tokens of a plain prompt.
    pub fn prompt(&self, text: &str) -> Result<Vec<u32>, GenerateError> {
        Ok(self.text.encode_prompt(text)?)
    }

    /// The tokens of a conversation that the assistant is to continue. The template puts the special tokens.
    pub fn conversation(&self, messages: &[Message]) -> Result<Vec<u32>, GenerateError> {
        let prompt = self.chat.as_ref().ok_or(ChatError::None)?.prompt(messages)?;
        Ok(self.text.encode(&prompt)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SpecialTokens;

    const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/tiny-shakespeare/tokenizer.json");

    fn limits(companions: Companions) -> Limits {
        let (context, slots, vocabulary) = (64, 64, 1024);
        Limits { context, slots, prefill: vec![8], vocabulary, ends: Vec::new(), temperature: 2.0, companions }
    }

    fn error(loaded: Result<Language, GenerateError>) -> String {
        let error = loaded.err().expect("refused");
        format!("{error}\n  try: {}", error.hint())
    }

    #[test]
    fn a_permuted_tokenizer_is_refused_unless_it_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let (program, file) = (folder.path().join("model.ssb"), folder.path().join("tokenizer.json"));
        let own = std::fs::read_to_string(SHIPPED).unwrap();
        let tokenizer = Some(blake3::hash(own.as_bytes()).to_hex().to_string());
        let limits = limits(Companions { tokenizer, ..Companions::default() });
        let beside = LanguageOptions { tokenizer: None, chat_template: None };
        std::fs::write(&file, &own).unwrap();
        let prompt = beside.load(&program, &limits).unwrap().prompt("First").unwrap();
        // Two tokens change places: as many tokens as before, and each id has a text.
        let mut permuted: serde_json::Value = serde_json::from_str(&own).unwrap();
        let vocabulary = permuted["model"]["vocab"].as_object_mut().unwrap();
        let [a, b] = [prompt[0], prompt[0] + 1];
        for id in vocabulary.values_mut() {
            let other = if *id == a {
                b
            } else if *id == b {
                a
            } else {
                continue;
            };
            *id = other.into();
        }
        std::fs::write(&file, permuted.to_string()).unwrap();
        let refused = error(beside.load(&program, &limits));
        let named = format!("{} is not the tokenizer that the program was compiled with", file.display());
        assert!(refused.starts_with(&named), "{refused}");
        let asked = LanguageOptions { tokenizer: Some(file.clone()), chat_template: None };
        assert_ne!(asked.load(&program, &limits).unwrap().prompt("First").unwrap(), prompt);
        // The program's own name comes first.
        std::fs::write(folder.path().join("model.tokenizer.json"), &own).unwrap();
        assert_eq!(beside.load(&program, &limits).unwrap().prompt("First").unwrap(), prompt);
    }

    #[test]
    fn the_chat_template_is_the_programs_unless_another_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let (program, file) = (folder.path().join("model.ssb"), folder.path().join("tokenizer.json"));
        std::fs::copy(SHIPPED, &file).unwrap();
        let template = "{{ bos_token }}{{ messages[0].content }}!";
        let special_tokens: SpecialTokens = [("bos_token".to_owned(), "B".to_owned())].into();
        let limits = limits(Companions { tokenizer: None, chat_template: Some(template.to_owned()), special_tokens });
        let messages = [Message { role: "user".to_owned(), content: "c".to_owned() }];
        let prompt = |options: &LanguageOptions| {
            let language = options.load(&program, &limits)?;
            Ok::<_, GenerateError>(language.chat.expect("it has one").prompt(&messages)?)
        };
        let beside = LanguageOptions { tokenizer: None, chat_template: None };
        assert_eq!(prompt(&beside).unwrap(), "Bc!");
        let own = folder.path().join("chat_template.jinja");
        // The same beside it, but without the names of tokens.
        std::fs::write(&own, template).unwrap();
        assert_eq!(prompt(&beside).unwrap(), "Bc!");
        std::fs::write(&own, "{{ messages[0].content }}?").unwrap();
        let refused = error(beside.load(&program, &limits));
        assert!(refused.contains("chat template") && refused.contains(&file.display().to_string()), "{refused}");
        let asked = LanguageOptions { tokenizer: None, chat_template: Some(own) };
        assert_eq!(prompt(&asked).unwrap(), "c?");
    }
}
