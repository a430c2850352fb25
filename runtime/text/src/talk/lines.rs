//! What a person types, a line at a time: from a line editor on a terminal, else as the lines come.
//!
//! Lines are read in a thread of their own, since nothing ends the wait for one; whoever waits hears of the process's end meanwhile,
//! and puts the terminal back as it was. What was typed stays in memory: the editor has no file.

use std::io::{self, BufRead, IsTerminal, Read};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{Cmd, ConditionalEventHandler, Config, Editor, Event, EventContext, EventHandler, KeyEvent, Movement};

/// Longest line, in bytes.
const LONGEST: u64 = 1 << 20;

/// Lines that an editor remembers.
const REMEMBERED: usize = 1000;

/// What comes of a wait for a line.
pub(super) enum Typed {
    /// A line without its end.
    Line(String),
    /// There are no more, or the process is to end.
    End,
    /// They cannot be read.
    Failed(io::Error),
}

/// The reading end.
pub(super) struct Lines {
    asks: Sender<()>,
    typed: Receiver<Typed>,
    ending: Sender<Typed>,
    terminal: Option<Terminal>,
}

impl Lines {
    /// From stdin, which is a terminal or not.
    pub(super) fn open() -> io::Result<Lines> {
        let stdin = io::stdin().is_terminal();
        let mut editor = stdin.then(editor).transpose().map_err(failed)?;
        let (asks, asked) = channel();
        let (sender, typed) = channel();
        let ending = sender.clone();
        thread::Builder::new().spawn(move || {
            for () in asked {
                let line = match &mut editor {
                    Some(editor) => edited(editor),
                    None => plain(&mut io::stdin().lock()),
                };
                if sender.send(line).is_err() {
                    break;
                }
            }
        })?;
        Ok(Lines { asks, typed, ending, terminal: stdin.then(Terminal::now) })
    }

    /// Whether somebody types.
    pub(super) fn is_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// To be called when the process is to end.
    pub(super) fn ender(&self) -> impl FnOnce() + Send + 'static {
        let ending = self.ending.clone();
        move || drop(ending.send(Typed::End))
    }

    /// Waits for a line.
    pub(super) fn next(&mut self) -> Typed {
        // A thread that has ended has ended the lines.
        let _ = self.asks.send(());
        self.typed.recv().unwrap_or(Typed::End)
    }
}

/// A line that ends where the input's does.
fn plain(input: &mut dyn BufRead) -> Typed {
    let mut line = Vec::new();
    match input.take(LONGEST + 1).read_until(b'\n', &mut line) {
        Err(error) => return Typed::Failed(error),
        Ok(0) => return Typed::End,
        Ok(read) if read as u64 > LONGEST => return Typed::Failed(io::ErrorKind::FileTooLarge.into()),
        Ok(_) => {}
    }
    let end = line.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |last| last + 1);
    line.truncate(end);
    match String::from_utf8(line) {
        Ok(line) => Typed::Line(line),
        Err(_) => Typed::Failed(io::ErrorKind::InvalidData.into()),
    }
}

fn editor() -> rustyline::Result<Editor<(), MemHistory>> {
    let config = Config::builder().max_history_size(REMEMBERED)?.auto_add_history(true).build();
    let mut editor = Editor::with_history(config.clone(), MemHistory::with_config(&config))?;
    editor.bind_sequence(KeyEvent::ctrl('C'), EventHandler::Conditional(Box::new(Clear)));
    Ok(editor)
}

fn edited(editor: &mut Editor<(), MemHistory>) -> Typed {
    match editor.readline("> ") {
        Ok(line) => Typed::Line(line),
        Err(ReadlineError::Eof | ReadlineError::Interrupted) => Typed::End,
        Err(error) => Typed::Failed(failed(error)),
    }
}

fn failed(error: ReadlineError) -> io::Error {
    match error {
        ReadlineError::Io(error) => error,
        error => io::Error::other(error),
    }
}

/// Ctrl-C clears a line, and ends at an empty one.
struct Clear;

impl ConditionalEventHandler for Clear {
    fn handle(&self, _: &Event, _: u16, _: bool, context: &EventContext) -> Option<Cmd> {
        Some(if context.line().is_empty() { Cmd::Interrupt } else { Cmd::Kill(Movement::WholeBuffer) })
    }
}

/// How the terminal was, to which it returns: the editor may be in the middle of a line.
struct Terminal(#[cfg(unix)] Option<rustix::termios::Termios>);

impl Terminal {
    #[cfg(unix)]
    fn now() -> Terminal {
        Terminal(rustix::termios::tcgetattr(io::stdin()).ok())
    }

    #[cfg(not(unix))]
    fn now() -> Terminal {
        Terminal()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(before) = &self.0 {
            // A terminal that has gone away needs nothing more.
            let _ = rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Now, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_and_are_bounded() {
        let mut input: &[u8] = b"a b\r\n\nend";
        let mut next = || match plain(&mut input) {
            Typed::Line(line) => Some(line),
            _ => None,
        };
        assert_eq!(
            [next(), next(), next(), next()],
            [Some("a b".into()), Some(String::new()), Some("end".into()), None]
        );
        let long = vec![b'x'; LONGEST as usize + 1];
        for bad in [&b"\xff\n"[..], &long] {
            assert!(matches!(plain(&mut &*bad), Typed::Failed(_)));
        }
    }
}
