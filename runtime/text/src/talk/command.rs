//! `ssvm chat`: a conversation on a terminal, or over lines of stdin.
//!
//! Stdout has the answers and nothing else; stderr has what is to be said of them, a line each, and what commands answer. Without a
//! terminal each line of stdin is a turn, and the command fails if the last one got no answer.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use clap::Args;
use indicatif::DecimalBytes;

use super::lines::{Lines, Typed};
use super::save::save;
use super::{Answer, Began, Ended, Interrupt, Shown, Talk, TalkError};
use crate::command::{CommandError, Line, SettingsOptions, harmless, trust};
use crate::{Finish, GenerateError, Language, LanguageOptions, Model, Totals};
use processes::chain;
use processes::inputs::warning;

/// What `/help` says.
const HELP: &str = "\
/system TEXT  tells the assistant this beforehand, and begins anew
/new          begins anew
/cost         what the conversation has taken
/save FILE    writes it to a new file: Markdown if its name ends in `.md`, else JSON
/help         this
/quit         ends, as Ctrl-D does
//TEXT        says a text that begins with a slash
Ctrl-C stops an answer and keeps the session; pressed again, it ends the session. At an empty prompt it ends the conversation.";

/// A conversation.
#[derive(Args, Clone)]
pub struct ChatOptions {
    /// What the assistant is told before. Other users of this machine can see it in the list of processes.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    system: Option<String>,
    #[command(flatten)]
    language: LanguageOptions,
    #[command(flatten)]
    settings: SettingsOptions,
}

/// What the conversation has taken.
#[derive(Default)]
struct Spent {
    answers: usize,
    tokens: usize,
    grew: usize,
    sent_bytes: u64,
    received_bytes: u64,
    seconds: f64,
}

/// What comes after a line.
enum After {
    More,
    End,
}

impl ChatOptions {
    /// The language that it is in, if the model chats.
    pub fn language(&self, program: &Path, model: &dyn Model) -> Result<Language, CommandError> {
        let language = self.language.load(program, model.limits())?;
        let settings = self.settings.settings()?;
        Talk::new(model, &language, settings, Interrupt::default())?;
        Ok(language)
    }

    /// Converses until the lines end, or the process is to: `ended` is given what tells it so.
    pub fn run(
        &self,
        model: &dyn Model,
        language: &Language,
        interrupt: &Interrupt,
        ended: impl FnOnce(Box<dyn FnOnce() + Send>),
    ) -> Result<(), CommandError> {
        let mut talk = Talk::new(model, language, self.settings.settings()?, interrupt.clone())?;
        talk.begin(self.system.clone());
        let mut lines = Lines::open().map_err(CommandError::Input)?;
        let (ender, interrupt) = (lines.ender(), interrupt.clone());
        ended(Box::new(move || {
            interrupt.end();
            ender();
        }));
        if lines.is_terminal() {
            eprintln!("{}; /help for commands", trust(model));
        }
        let mut desk = Desk { model, talk, spent: Spent::default(), unanswered: false };
        loop {
            let after = match lines.next() {
                Typed::End => After::End,
                Typed::Failed(error) => return Err(CommandError::Input(error)),
                Typed::Line(line) => desk.line(&line)?,
            };
            if matches!(after, After::End) {
                break;
            }
        }
        match desk.unanswered && !lines.is_terminal() {
            true => Err(CommandError::Unanswered),
            false => Ok(()),
        }
    }
}

/// A conversation with what was spent on it.
struct Desk<'a> {
    model: &'a dyn Model,
    talk: Talk<'a>,
    spent: Spent,
    /// Whether the last turn failed.
    unanswered: bool,
}

impl Desk<'_> {
    fn line(&mut self, line: &str) -> Result<After, CommandError> {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match (word, rest.trim()) {
            ("", "") => {}
            ("/quit", _) => return Ok(After::End),
            ("/help", _) => eprintln!("{HELP}"),
            ("/new", _) => self.talk.begin(None),
            ("/system", "") => eprintln!("{}", harmless(self.talk.system().unwrap_or("nothing was told beforehand"))),
            ("/system", text) => self.talk.begin(Some(text.to_owned())),
            ("/cost", _) => eprintln!("{}", self.spent.line(self.model, self.talk.sessions())),
            ("/save", "") => eprintln!("error: no file is named\ntry: /save FILE.md, or FILE.json"),
            ("/save", file) => match save(&self.talk, Path::new(file)) {
                Ok(()) => eprintln!("written to {file}"),
                Err(error) => eprintln!("error: {file}: {error}\ntry: the name of a new file"),
            },
            (word, _) if word.starts_with('/') && !word.starts_with("//") => {
                eprintln!(
                    "error: there is no such command\ntry: /help; a second slash for a text that begins with one"
                );
            }
            _ => return self.turn(line.strip_prefix('/').unwrap_or(line)),
        }
        Ok(After::More)
    }

    fn turn(&mut self, text: &str) -> Result<After, CommandError> {
        let out = io::stdout();
        let (out_is_terminal, mut waiting) = (out.is_terminal(), io::stderr().is_terminal().then(Line::new));
        let mut out = out.lock();
        let answer = self.talk.ask(text, &mut |shown| match shown {
            Shown::Read { done, all } => {
                if let Some(line) = &waiting {
                    line.0.set_message(format!("reading: {done} of {all} steps"));
                }
                Ok(())
            }
            Shown::Text(text) => {
                waiting = None;
                let text = if out_is_terminal { harmless(text) } else { text.to_owned() };
                out.write_all(text.as_bytes()).and_then(|()| out.flush())
            }
        });
        drop(waiting);
        let ended = out.write_all(b"\n").and_then(|()| out.flush());
        self.unanswered = answer.is_err();
        match (answer, ended) {
            // Whoever read it has enough.
            (Err(TalkError::Show(error)), _) | (_, Err(error)) => match error.kind() {
                io::ErrorKind::BrokenPipe => return Ok(After::End),
                _ => return Err(CommandError::Output(error)),
            },
            (Err(TalkError::Generate(GenerateError::Cancelled)), _) => {
                eprintln!("stopped; the next turn begins a new session");
            }
            (Err(TalkError::Generate(error)), _) => eprintln!("error: {}\ntry: {}", chain(&error), error.hint()),
            (Ok(answer), _) => {
                self.spent.add(&answer);
                eprintln!("{}", status(&answer, &trust(self.model)));
                if let Some(warning) = warning(answer.totals.outside) {
                    eprintln!("{warning}");
                }
            }
        }
        Ok(After::More)
    }
}

/// What an answer took, and what the server learned by it, in a line.
fn status(answer: &Answer, trust: &str) -> String {
    let Answer { ended, began, totals, grew, held, left } = answer;
    let ended = match ended {
        Ended::Finished(Finish::Stop) => "",
        Ended::Finished(Finish::Length) if *left == 0 => "the context is full; ",
        Ended::Finished(Finish::Length) => "as long as was asked for; ",
        Ended::Stopped => "stopped; ",
    };
    let began = match began {
        None | Some(Began::First) => String::new(),
        Some(Began::Lost(reason)) => format!("a new session, since the last one ended ({reason}); "),
        Some(Began::Rewritten) => {
            "a new session, since the conversation did not go on from the last one's state; ".to_owned()
        }
        Some(Began::Full { dropped: 0 }) => "a new session, since the last one was full; ".to_owned(),
        Some(Began::Full { dropped }) => {
            format!("a new session without the {dropped} oldest turns, since the context was full; ")
        }
    };
    let Totals { tokens, seconds, material_tokens, .. } = totals;
    let rate = *tokens as f64 / seconds.max(1e-9);
    let material = material_tokens.map_or(String::new(), |tokens| format!(", material for {tokens}"));
    format!(
        "[{ended}{began}{tokens} tokens, {rate:.2} tokens/s; context: {held} used, {left} left{material}; {trust}: the server learned \
         that there are {grew} tokens more, and when]"
    )
}

impl Spent {
    fn add(&mut self, answer: &Answer) {
        self.answers += 1;
        self.tokens += answer.totals.tokens;
        self.grew += answer.grew;
        self.sent_bytes += answer.totals.sent_bytes;
        self.received_bytes += answer.totals.received_bytes;
        self.seconds += answer.totals.seconds;
    }

    fn line(&self, model: &dyn Model, sessions: usize) -> String {
        let Spent { answers, tokens, grew, sent_bytes, received_bytes, seconds } = self;
        let (sent, received) = (DecimalBytes(*sent_bytes), DecimalBytes(*received_bytes));
        let (trust, stock) = (trust(model), model.stock_tokens());
        let many = |count: usize, name: &str| format!("{count} {name}{}", if count == 1 { "" } else { "s" });
        let (answers, tokens, sessions) = (many(*answers, "answer"), many(*tokens, "token"), many(sessions, "session"));
        let (grew, stock) = (many(*grew, "token"), many(stock as usize, "token"));
        format!(
            "{answers} of {tokens} in {sessions}, {grew} run in {seconds:.1} s; {sent} sent, {received} received; stocks for {stock} are \
             left; {trust}"
        )
    }
}
