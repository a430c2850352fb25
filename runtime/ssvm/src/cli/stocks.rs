//! What a state directory keeps: `ssvm stocks`.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;

use super::{CliError, IdentityOptions, run_error, say, state_directory, storage};
use processes::handshake::hex;
use processes::pins::Pins;
use processes::{Kept, State, chain};

/// Options of `ssvm stocks`.
#[derive(Args)]
pub(super) struct Options {
    /// Read all of them, and say whether that is what was written.
    #[arg(long)]
    check: bool,
    /// Remove the stock of this name, or `all`, or `unusable` for those that can no longer be used. The other side's halves are then of no
    /// use either.
    #[arg(long, value_name = "NAME", conflicts_with = "check")]
    remove: Option<String>,
    /// Where they are kept [default: `ssvm` in the user's state directory].
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    #[command(flatten)]
    identity: IdentityOptions,
    /// Of a state directory that is used with `--insecure`.
    #[arg(long)]
    insecure: bool,
}

/// Lists, checks or removes.
pub(super) fn stocks(options: &Options) -> Result<(), CliError> {
    let directory = state_directory(options.state.as_deref())?;
    let state = State::open(&directory, storage(&options.identity, options.insecure, &directory)?)?;
    let kept = state.kept();
    if let Some(name) = &options.remove {
        let chosen = |stock: &&Kept| match &name[..] {
            "all" => true,
            "unusable" => stock.unusable.is_some() || stock.about.is_err(),
            name => stock.session.to_string() == name,
        };
        let chosen: Vec<&Kept> = kept.iter().filter(chosen).collect();
        if chosen.is_empty() && !matches!(&name[..], "all" | "unusable") {
            let what = format!("no stock in {} has this name", directory.display());
            return Err(CliError::Usage { what, hint: "`ssvm stocks` lists their names" });
        }
        chosen.iter().try_for_each(|stock| stock.remove()).map_err(run_error)?;
        say(&format!("removed {}\n", chosen.len()));
        return Ok(());
    }
    let pins = match options.insecure {
        true => Pins::default(),
        false => Pins::read(&options.identity.directory()?).map_err(run_error)?,
    };
    let mut damaged = Ok(());
    for stock in &kept {
        let checked = if options.check { Some(stock.check()) } else { None };
        let said = checked.as_ref().map_or_else(String::new, |checked| match checked {
            Ok(()) => ", whole".to_owned(),
            Err(error) => format!(", DAMAGED: {}", chain(error)),
        });
        say(&format!("{}{said}\n", line(stock, &pins)));
        damaged = damaged.and(checked.unwrap_or(Ok(())));
    }
    say(&format!("{} stocks in {}\n", kept.len(), directory.display()));
    damaged.map_err(run_error)
}

/// What there is to say of a stock.
fn line(stock: &Kept, pins: &Pins) -> String {
    let name = format!("{} {}", stock.session, stock.party);
    let why = stock.unusable.map_or_else(String::new, |why| format!(", UNUSABLE: {why}"));
    let about = match &stock.about {
        Err(error) if stock.unusable.is_none() => return format!("{name}: UNUSABLE: {}", chain(error)),
        Err(_) => return format!("{name}{}", why.replacen(',', ":", 1)),
        Ok(about) => about,
    };
    let tokens = match about.tokens < about.wanted {
        true => format!("{} of {} tokens", about.tokens, about.wanted),
        false => format!("{} tokens", about.tokens),
    };
    let pin = pins.all().iter().find(|pin| *pin.key.bytes() == about.peer);
    let peer = match pin {
        Some(pin) => pin.name.clone(),
        None if about.peer == [0; 32] => "anybody, over INSECURE links".to_owned(),
        None => "somebody who is not pinned".to_owned(),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let [age, left] = [now.saturating_sub(about.made), about.expires.saturating_sub(now)].map(span);
    let (program, trust) = (hex(&about.program[..4]), about.maker.trust());
    format!("{name}: {tokens} of program {program} with {peer}, {trust}, {age} old, {left} left{why}")
}

/// A time in its greatest unit.
fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn times_are_short() {
        let said = [59, 60, 7200, 172_799, 172_800].map(span);
        assert_eq!(said, ["59 s", "1 min", "2 h", "47 h", "2 days"]);
    }
}
