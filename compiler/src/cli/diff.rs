//! `sscc diff`: what differs between two programs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use clap::parser::ValueSource;

use super::{command, load, print};
use crate::diagnostic::Diagnostic;
use crate::diff;
use crate::lower::variant::Link;
use crate::predict::Cores;
use crate::predict::rates::Speed;
use crate::recipe::Recipe;
use crate::report::Place;

/// Options of `sscc diff`.
#[derive(Args)]
pub(super) struct Diff {
    /// The program before
    before: PathBuf,
    /// The program after
    after: PathBuf,
    /// As JSON, with all nodes that differ
    #[arg(long)]
    json: bool,
    /// The link that seconds are predicted for: loopback, lan, wan or RTT,RATE as in 0.5ms,1gbit
    #[arg(long, default_value = "lan")]
    link: Link,
}

/// Exit codes, as other programs that compare have them.
const DIFFERENT: u8 = 1;
const FAILED: u8 = 2;

/// Compares two programs.
pub(super) fn diff(arguments: &Diff) -> ExitCode {
    match compare(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(DIFFERENT),
        Err(diagnostic) => {
            eprintln!("{}", diagnostic.to_string().trim_end());
            ExitCode::from(FAILED)
        }
    }
}

fn compare(arguments: &Diff) -> Result<bool, Diagnostic> {
    let paths = [&arguments.before, &arguments.after];
    let [(before, _), (after, _)] = [load(paths[0])?, load(paths[1])?];
    let mut options = [recipe(paths[0])?, recipe(paths[1])?];
    if let [Some(_), None] | [None, Some(_)] = options {
        options = [None, None];
    }
    let options = options.map(Option::unwrap_or_default);
    let place = Place { link: arguments.link, cores: Cores::DEFAULT, speed: Speed::built_in() };
    let found = diff::Diff::new(&before, &after, [&options[0], &options[1]], &place);
    let names = paths.map(|path| path.display().to_string());
    print(&match arguments.json {
        true => format!("{:#}\n", serde_json::to_value(&found).expect("a difference is JSON")),
        false => diff::text::text(&found, [&names[0], &names[1]]),
    })?;
    Ok(found.equal)
}

/// The options that a program was compiled with, if its recipe says; where the program was written is none.
fn recipe(program: &Path) -> Result<Option<BTreeMap<String, String>>, Diagnostic> {
    let Some(recipe) = Recipe::read(program)? else { return Ok(None) };
    let words = std::iter::once("sscc".to_owned()).chain(recipe.arguments);
    let Ok(matches) = command().try_get_matches_from(words) else { return Ok(None) };
    let Some(("compile", matches)) = matches.subcommand() else { return Ok(None) };
    let given = |id: &&clap::Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
    let compile = command().find_subcommand("compile").cloned();
    let argument = |id: &str| compile.as_ref()?.get_arguments().find(|argument| argument.get_id() == id).cloned();
    let mut options = BTreeMap::new();
    for id in matches.ids().filter(given).filter(|id| *id != "output") {
        // Groups of options have ids, too.
        let Some(argument) = argument(id.as_str()) else { continue };
        let values = matches.get_raw(id.as_str()).into_iter().flatten().map(|value| value.to_string_lossy());
        let name = argument.get_long().map_or_else(|| id.to_string(), |long| format!("--{long}"));
        options.insert(name, values.collect::<Vec<_>>().join(","));
    }
    Ok(Some(options))
}
