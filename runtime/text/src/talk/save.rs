//! A conversation as a file, in JSON or Markdown. No other command writes what was said.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use serde_json::json;

use super::Talk;

/// Writes a conversation to a new file, which its owner alone can read: Markdown if the name ends so, else JSON.
pub(super) fn save(talk: &Talk<'_>, path: &Path) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let text = match path.extension().is_some_and(|end| end == "md") {
        true => markdown(talk),
        false => messages(talk),
    };
    options.open(path)?.write_all(text.as_bytes())
}

fn said<'t>(talk: &'t Talk<'_>) -> impl Iterator<Item = (&'static str, &'t str)> {
    let system = talk.system().map(|system| ("system", system));
    system.into_iter().chain(talk.turns().iter().map(|turn| (turn.role, &turn.text[..])))
}

/// As OpenAI's interface has it.
fn messages(talk: &Talk<'_>) -> String {
    let messages: Vec<_> = said(talk).map(|(role, content)| json!({"role": role, "content": content})).collect();
    format!("{:#}\n", json!({ "messages": messages }))
}

fn markdown(talk: &Talk<'_>) -> String {
    said(talk).map(|(role, text)| format!("**{role}**\n\n{}\n\n", text.trim())).collect()
}
