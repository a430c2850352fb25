//! `ssvm generate`: a prompt from the command line, text to stdout as it comes.
//!
//! Stdout has the text and nothing else, or with `--json` one object at the end. Stderr has a progress line if it is a
//! terminal; while the text itself runs over a terminal there is none, since the two would mix. Control characters are
//! replaced on a terminal: what a model writes must not steer it.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use indicatif::{DecimalBytes, ProgressBar, ProgressStyle};
use serde_json::json;

use super::{
    Cancel, Conversation, Finish, GenerateError, Generation, Language, LanguageOptions, Model, Settings, Totals,
};
use processes::inputs::warning;

/// How tokens are chosen, and when a text ends.
#[derive(Args, Clone)]
pub(super) struct SettingsOptions {
    /// Most tokens to generate [default: as many as the context holds].
    #[arg(long, value_name = "N")]
    max_tokens: Option<NonZeroUsize>,
    /// A string that ends the text and is no part of it; may be given several times.
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new(), allow_hyphen_values = true)]
    stop: Vec<String>,
    /// 0: the likeliest token each time. Greater, up to 2: samples, the more even the greater it is. Tokens that are about equally
    /// likely may be chosen differently from run to run, also at 0: results are rounded, and how depends on masks.
    #[arg(long, value_name = "T", default_value_t = 0.0, allow_negative_numbers = true)]
    temperature: f64,
    /// Draws the noise of an earlier run with this seed again: so the same prompt and program give the same text, as long as no two
    /// tokens are about equally likely with that noise. It is a secret like the prompt.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Cannot be had, and says so.
    #[arg(long, hide = true, value_name = "K")]
    top_k: Option<String>,
    /// Cannot be had, and says so.
    #[arg(long, hide = true, value_name = "P")]
    top_p: Option<String>,
}

impl SettingsOptions {
    /// These, if they can be had.
    pub(super) fn settings(&self) -> Result<Settings, CommandError> {
        let unavailable = [("--top-k", &self.top_k), ("--top-p", &self.top_p)];
        if let Some((option, _)) = unavailable.into_iter().find(|(_, given)| given.is_some()) {
            return Err(CommandError::NeedsLogits { option });
        }
        let SettingsOptions { max_tokens, stop, temperature, seed, .. } = self;
        Ok(Settings {
            max_tokens: *max_tokens,
            stop: stop.clone(),
            temperature: *temperature,
            seed: *seed,
            fixed_length: false,
        })
    }
}

/// What to continue, and how.
#[derive(Args, Clone)]
pub struct GenerateOptions {
    /// The text to continue. Other users of this machine can see it in the list of processes.
    #[arg(
        long,
        value_name = "TEXT",
        conflicts_with = "prompt_file",
        required_unless_present = "prompt_file",
        allow_hyphen_values = true
    )]
    prompt: Option<String>,
    /// A file with the text to continue, as it is, in UTF-8, or in UTF-16 with a byte order mark; `-` is stdin.
    #[arg(long, value_name = "FILE")]
    prompt_file: Option<PathBuf>,
    /// Take the prompt as what a user says, in the model's chat template.
    #[arg(long)]
    chat: bool,
    /// With `--chat`: what the assistant is told before.
    #[arg(long, value_name = "TEXT", requires = "chat", allow_hyphen_values = true)]
    system: Option<String>,
    #[command(flatten)]
    language: LanguageOptions,
    #[command(flatten)]
    settings: SettingsOptions,
    /// Write one JSON object with text, reason and figures instead of plain text.
    #[arg(long)]
    json: bool,
    /// Go on to the most tokens when the text has ended, without showing them, so that the server does not learn where it ended. Takes
    /// the time and material of all of them.
    #[arg(long)]
    fixed_length: bool,
}

/// Why `ssvm generate` or `ssvm chat` did not succeed.
#[derive(thiserror::Error, Debug)]
#[allow(missing_docs)]
pub enum CommandError {
    #[error("`{option}` cannot be had: it needs the logits, which nobody learns; only the chosen token is revealed")]
    NeedsLogits { option: &'static str },
    #[error("{}", path.display())]
    Prompt { path: PathBuf, source: io::Error },
    #[error("stdout")]
    Output(#[source] io::Error),
    #[error("stdin")]
    Input(#[source] io::Error),
    #[error("the last message got no answer")]
    Unanswered,
    #[error(transparent)]
    Generate(#[from] GenerateError),
}

impl CommandError {
    /// A way out, for the user.
    pub fn hint(&self) -> String {
        match self {
            CommandError::NeedsLogits { .. } => "`--temperature` below 1 for likelier tokens".to_owned(),
            CommandError::Prompt { .. } => "a readable text file in UTF-8 or UTF-16, or `-` for stdin".to_owned(),
            CommandError::Input(_) => "lines of UTF-8, none longer than a mebibyte".to_owned(),
            CommandError::Unanswered => "mend what was said then, and say it again".to_owned(),
            CommandError::Output(_) => "a stdout that can be written".to_owned(),
            CommandError::Generate(e) => e.hint(),
        }
    }
}

/// A prompt that is ready, before anything is started.
pub struct Prepared {
    language: Language,
    prompt: Vec<u32>,
    settings: Settings,
    json: bool,
}

impl GenerateOptions {
    /// Reads files and prompt, and checks both against the model's limits.
    pub fn prepare(&self, program: &std::path::Path, limits: &super::Limits) -> Result<Prepared, CommandError> {
        let settings = Settings { fixed_length: self.fixed_length, ..self.settings.settings()? };
        let language = self.language.load(program, limits)?;
        let text = self.text()?;
        if language.has_muted(&text) {
            eprintln!(
                "note: the prompt has names of special tokens, which count as text; `--special` lets them be tokens"
            );
        }
        let prompt = if self.chat {
            let told = self.system.iter().fold(Conversation::new(), |talk, content| talk.with("system", content));
            language.conversation(&told.with("user", &text))?
        } else {
            language.prompt(&text)?
        };
        super::check(limits, &prompt, &settings)?;
        Ok(Prepared { language, prompt, settings, json: self.json })
    }

    fn text(&self) -> Result<String, CommandError> {
        let Some(path) = &self.prompt_file else { return Ok(self.prompt.clone().unwrap_or_default()) };
        let read = if path.as_os_str() == "-" {
            let mut bytes = Vec::new();
            io::stdin().lock().take(LONGEST + 1).read_to_end(&mut bytes).map(|_| bytes)
        } else {
            let mut bytes = Vec::new();
            File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes)).map(|_| bytes)
        };
        let text = read.and_then(|bytes| match bytes.len() as u64 > LONGEST {
            true => Err(io::Error::new(io::ErrorKind::FileTooLarge, "longer than any prompt is")),
            false => decoded(bytes),
        });
        text.map_err(|source| CommandError::Prompt { path: path.clone(), source })
    }
}

/// Longest prompt that is read, in bytes.
const LONGEST: u64 = 64 << 20;

/// The text of a file: UTF-8, or UTF-16 with a byte order mark, which is no part of it.
fn decoded(bytes: Vec<u8>) -> io::Result<String> {
    let failed = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let wide = |order: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes[2..].as_chunks();
        let text = String::from_utf16(&pairs.iter().map(|pair| order(*pair)).collect::<Vec<u16>>());
        text.ok().filter(|_| rest.is_empty()).ok_or_else(|| failed("it begins as UTF-16 and is none"))
    };
    match bytes.as_slice() {
        [0xff, 0xfe, ..] => wide(u16::from_le_bytes),
        [0xfe, 0xff, ..] => wide(u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8(rest.to_vec()).map_err(|_| failed("it is no UTF-8")),
        _ => String::from_utf8(bytes).map_err(|_| failed("it is no UTF-8")),
    }
}

/// Where text goes.
pub struct Output<'a> {
    /// Stdout, or a stand-in.
    pub out: &'a mut dyn Write,
    /// Whether `out` is a terminal.
    pub out_is_terminal: bool,
    /// Whether stderr is one.
    pub err_is_terminal: bool,
}

impl Prepared {
    /// Generates to stdout. Returns on cancellation too, then with [`GenerateError::Cancelled`] and the text so far
    /// written.
    pub fn run(&self, model: &dyn Model, cancel: &Cancel) -> Result<Totals, CommandError> {
        let out = io::stdout();
        let (out_is_terminal, err_is_terminal) = (out.is_terminal(), io::stderr().is_terminal());
        self.run_to(model, cancel, Output { out: &mut out.lock(), out_is_terminal, err_is_terminal })
    }

    /// Generates to any output.
    pub fn run_to(&self, model: &dyn Model, cancel: &Cancel, output: Output) -> Result<Totals, CommandError> {
        let Output { out, out_is_terminal, err_is_terminal } = output;
        let shown = err_is_terminal.then(Line::new);
        let mut generation = Generation::begin(model, &self.language, &self.prompt, &self.settings, cancel)?;
        let mut all = String::new();
        let finish = loop {
            let advance = match generation.advance() {
                Ok(advance) => advance,
                Err(error) => {
                    if !self.json {
                        // The message that follows begins a line.
                        let _ = out.write_all(b"\n").and_then(|()| out.flush());
                    }
                    return Err(error.into());
                }
            };
            if self.json {
                all += &advance.text;
            } else {
                if out_is_terminal && let Some(line) = &shown {
                    line.0.finish_and_clear();
                }
                let text = if out_is_terminal { harmless(&advance.text) } else { advance.text };
                match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
                    // Whoever read it has enough.
                    Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(generation.totals().clone()),
                    written => written.map_err(CommandError::Output)?,
                }
            }
            if let Some(line) = &shown {
                line.0.set_message(summary(&trust(model), generation.totals()));
            }
            if let Some(finish) = advance.finish {
                break finish;
            }
        };
        let totals = generation.totals();
        let end = if self.json { report(&all, finish, totals, model) } else { "\n".to_owned() };
        match out.write_all(end.as_bytes()).and_then(|()| out.flush()) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
            written => written.map_err(CommandError::Output)?,
        }
        if let Some(line) = shown {
            line.0.finish_and_clear();
            eprintln!("{}", summary(&trust(model), totals));
        }
        if let Some(warning) = warning(totals.outside) {
            eprintln!("{warning}");
        }
        Ok(totals.clone())
    }
}

/// A line at the foot of the terminal. It goes when it is dropped.
pub(super) struct Line(pub(super) ProgressBar);

impl Line {
    pub(super) fn new() -> Line {
        let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}").expect("a well-formed template");
        let line = ProgressBar::new_spinner().with_style(style).with_message("reading the prompt");
        line.enable_steady_tick(Duration::from_millis(200));
        Line(line)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// What the privacy of a text rests on.
pub(super) fn trust(model: &dyn Model) -> String {
    format!("{}, {}", model.trust(), model.links().name())
}

/// Figures of a generation, in a line.
fn summary(trust: &str, totals: &Totals) -> String {
    let tokens = totals.tokens.max(1);
    let bytes = (totals.sent_bytes + totals.received_bytes) / tokens as u64;
    let rate = totals.tokens as f64 / totals.seconds.max(1e-9);
    let left = match totals.material_tokens {
        Some(tokens) => format!(", material for {tokens} more"),
        None => String::new(),
    };
    format!("{trust}; {} tokens, {rate:.2} tokens/s, {}/token{left}", totals.tokens, DecimalBytes(bytes))
}

/// What `--json` writes.
fn report(text: &str, finish: Finish, totals: &Totals, model: &dyn Model) -> String {
    let report = json!({
        "text": text,
        "finish_reason": finish.name(),
        "prompt_tokens": totals.prompt_tokens,
        "completion_tokens": totals.tokens,
        "seconds": totals.seconds,
        "token_seconds": totals.token_seconds,
        "sent_bytes": totals.sent_bytes,
        "received_bytes": totals.received_bytes,
        "material_tokens": totals.material_tokens,
        "outside": totals.outside,
        "preprocessing": model.trust(),
        "links": model.links(),
    });
    format!("{report}\n")
}

/// Text for a terminal: no control characters but line ends and tabs.
pub(super) fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_decoded_as_it_is_marked() {
        let wide = |order: fn(u16) -> [u8; 2]| "\u{feff}é🎭".encode_utf16().flat_map(order).collect::<Vec<u8>>();
        for bytes in [b"\xef\xbb\xbf\xc3\xa9\xf0\x9f\x8e\xad".to_vec(), wide(u16::to_le_bytes), wide(u16::to_be_bytes)]
        {
            assert_eq!(decoded(bytes).unwrap(), "é🎭");
        }
        for bad in [b"\xff\xfea".as_slice(), b"\xff\xfe\x00\xd8", b"a\xff"] {
            assert!(decoded(bad.to_vec()).is_err());
        }
    }

    #[test]
    fn text_does_not_steer_a_terminal() {
        assert_eq!(harmless("a\tb\n\x1b[2J\rc"), "a\tb\n\u{fffd}[2J\u{fffd}c");
    }

    #[test]
    fn figures_are_per_token() {
        let mut totals = Totals {
            prompt_tokens: 5,
            tokens: 4,
            sent_bytes: 6_000_000,
            received_bytes: 2_000_000,
            seconds: 2.0,
            token_seconds: vec![0.8, 0.4, 0.4, 0.4],
            material_tokens: Some(7),
            outside: 0,
        };
        assert_eq!(
            summary("no third party", &totals),
            "no third party; 4 tokens, 2.00 tokens/s, 2.00 MB/token, material for 7 more"
        );
        totals = Totals::default();
        assert_eq!(summary("trusted dealer", &totals), "trusted dealer; 0 tokens, 0.00 tokens/s, 0 B/token");
    }
}
