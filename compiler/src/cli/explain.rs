//! `sscc explain`: where the cost of a program arises, or what a code means.

use std::path::{Path, PathBuf};

use clap::Args;
use ir::Program;

use super::{load, no_such_entry, print, write_bytes};
use crate::breakdown::{self, Breakdown};
use crate::diagnostic::{Code, Diagnostic};
use crate::lower::variant::Link;
use crate::predict::Cores;
use crate::predict::rates::Speed;
use crate::recipe::Recipe;
use crate::report::{self, Place};

/// Options of `sscc explain`.
#[derive(Args)]
pub(super) struct Explain {
    /// The program; or a code, as in SSC0102, ssc0102 or 102
    #[arg(value_name = "PROGRAM|CODE")]
    what: String,
    /// Write a page with plots, which needs no network
    #[arg(long, value_name = "FILE.html")]
    html: Option<PathBuf>,
    /// The link that seconds are predicted for: loopback, lan, wan or RTT,RATE as in 0.5ms,1gbit [default: lan]
    #[arg(long)]
    link: Option<Link>,
    /// Cores of each party's machine [default: both parties share a machine of two]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    cores: Option<u16>,
    /// The entry to print [default: the first, and the first for one token more]
    #[arg(long, value_name = "NAME")]
    entry: Option<String>,
}

/// Explains a program, where there is a file of that name, or a code.
pub(super) fn explain(arguments: &Explain) -> Result<(), Diagnostic> {
    let path = Path::new(&arguments.what);
    if path.is_file() {
        return program(arguments, path);
    }
    let options = [
        ("--html", arguments.html.is_some()),
        ("--link", arguments.link.is_some()),
        ("--cores", arguments.cores.is_some()),
        ("--entry", arguments.entry.is_some()),
    ];
    match (Code::find(&arguments.what), options.into_iter().find(|(_, given)| *given)) {
        (Some(code), None) => print(code.page()),
        (Some(code), Some((option, _))) => Err(Diagnostic::new(
            Code::NoSuchCode,
            format!("{option} is for programs, and there is no file {}", arguments.what),
        )
        .help(format!("sscc explain {code}"))),
        // What looks like a path was meant as one.
        (None, _) if path.extension().is_some() || path.components().count() > 1 => load(path).map(|_| ()),
        (None, _) => {
            let unknown =
                Diagnostic::new(Code::NoSuchCode, format!("there is no code {0}, and no file {0}", arguments.what));
            Err(Code::near(&arguments.what)
                .into_iter()
                .fold(unknown, |report, code| report.help(format!("sscc explain {code}: {}", code.meaning()))))
        }
    }
}

fn program(arguments: &Explain, path: &Path) -> Result<(), Diagnostic> {
    let (module, _) = load(path)?;
    let accuracy = Recipe::read(path)?.and_then(|recipe| recipe.accuracy);
    let place = Place {
        link: arguments.link.unwrap_or(Link::LAN),
        cores: arguments.cores.map_or(Cores::DEFAULT, Cores::Each),
        speed: Speed::built_in(),
    };
    let shown: Vec<&Program> = match &arguments.entry {
        Some(name) => vec![module.entry(name).ok_or_else(|| no_such_entry(path, &module))?],
        None => {
            let first = module.entries.first();
            let further = module.entries.iter().skip(1).find(|entry| entry.name.starts_with("decode."));
            first.into_iter().chain(further).collect()
        }
    };
    let mut text = String::new();
    if arguments.entry.is_none() && module.entries.len() > 1 {
        text = report::summary(&module.entries) + "\n";
    }
    for (number, entry) in shown.into_iter().enumerate() {
        text += if number > 0 { "\n" } else { "" };
        text += &breakdown::text::text(&Breakdown::new(entry, &place), &place, accuracy.as_ref());
    }
    text += &breakdown::text::notes(accuracy.as_ref());
    if let Some(html) = &arguments.html {
        let entries: Vec<Breakdown> = module.entries.iter().map(|entry| Breakdown::new(entry, &place)).collect();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        write_bytes(html, breakdown::page::page(&entries, &name, &place, accuracy.as_ref()).as_bytes())?;
    }
    print(&text)
}
