//! `ssvm verify`, and what every command checks of a program before it connects: who sent it need not be trusted.
//!
//! Memory  is what a program's tensors take at one time, eight bytes an element, at most what the machine has left or `--memory`. Weights,
//!         material and the process itself come on top.
//! Policy  is a file in TOML, all of whose keys may be left out:
//!
//! ```toml
//! memory = "4 GB"                  # of tensors at one time
//! context = 2048                   # most tokens of prompt and text
//! traffic = "1 GB"                 # of one entry, both ways
//! material = "2 GB"                # of one entry, both parties
//! outputs = ["token", "outside"]   # that may be revealed
//! logits = false                   # or numbers of any other kind: chosen tokens, and the count of elements out of range, alone
//! ```

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use ir::print::bytes;
use ir::{Op, OutputId, Program};
use serde::Deserialize;

use super::options::IdentityOptions;
use super::{CliError, say};
use processes::handshake::hex;
use processes::{Loaded, Plan};

/// The policy in an identity's directory.
const POLICY: &str = "policy.toml";

/// Greatest size of a policy.
const MAX_FILE: u64 = 1 << 16;

/// Options of `ssvm verify`.
#[derive(Args)]
pub(super) struct Options {
    /// The program.
    program: PathBuf,
    #[command(flatten)]
    check: CheckOptions,
    #[command(flatten)]
    identity: IdentityOptions,
}

/// What a program may ask for and reveal.
#[derive(Args)]
pub(super) struct CheckOptions {
    /// What programs may ask for and reveal, in TOML: `memory`, `context`, `traffic`, `material`, `outputs`, `logits` [default:
    /// `policy.toml` beside the identity, if it is there].
    #[arg(long, value_name = "FILE.toml")]
    policy: Option<PathBuf>,
    /// Most memory that a program's tensors may take, as in `16GB` [default: what the machine has left].
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
}

/// See the module head.
#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields)]
struct Policy {
    memory: Option<String>,
    context: Option<u64>,
    traffic: Option<String>,
    material: Option<String>,
    outputs: Option<Vec<String>>,
    logits: Option<bool>,
}

/// A number of bytes: digits, and `KB`, `MB`, `GB` or `TB` of a thousand each.
fn size(text: &str) -> Result<u64, String> {
    let wrong = || "a number of bytes is needed, as in `500MB` or `16 GB`".to_owned();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let unit = match text[digits..].trim() {
        "" | "B" => 1,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).ok_or_else(wrong)
}

impl CheckOptions {
    /// Refuses a program that asks for more than there is, or than the policy admits.
    pub(super) fn check(&self, loaded: &Loaded, identity: &IdentityOptions) -> Result<(), CliError> {
        let policy = self.policy(identity)?;
        let failed = |what: String, hint| {
            let what = format!("program {}: {what}", loaded.path.display());
            Err(CliError::Usage { what, hint })
        };
        let most = match self.memory {
            Some(given) => Some(given),
            None => available(),
        };
        for entry in &loaded.module.entries {
            let needs = memory(entry);
            if let Some(most) = most.filter(|most| needs > *most) {
                let (name, needs, most) = (&entry.name, bytes(needs), bytes(most));
                let what = format!("the tensors of entry `{name}` take {needs} of memory, and there are {most}");
                return failed(what, "a machine with more, or `--memory SIZE` if you know better");
            }
        }
        match policy.broken(loaded)? {
            Some(what) => failed(what, "another program, or a `--policy` that admits it"),
            None => Ok(()),
        }
    }

    fn policy(&self, identity: &IdentityOptions) -> Result<Policy, CliError> {
        let default = || identity.directory().ok().map(|directory| directory.join(POLICY)).filter(|path| path.exists());
        let Some(path) = self.policy.clone().or_else(default) else { return Ok(Policy::default()) };
        Policy::read(&path)
    }
}

impl Policy {
    fn read(path: &Path) -> Result<Policy, CliError> {
        let usage = |what: String| CliError::Usage {
            what: format!("policy {}: {what}", path.display()),
            hint: "a readable file in TOML, with keys that `ssvm verify --help` names",
        };
        let mut text = String::new();
        let read = std::fs::File::open(path).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text));
        read.map_err(|e| usage(e.to_string()))?;
        let policy: Policy = toml::from_str(&text).map_err(|e| usage(e.message().to_owned()))?;
        for size_of in [&policy.memory, &policy.traffic, &policy.material].into_iter().flatten() {
            size(size_of).map_err(|e| usage(format!("`{size_of}`: {e}")))?;
        }
        Ok(policy)
    }

    /// What a program has that it may not have.
    fn broken(&self, loaded: &Loaded) -> Result<Option<String>, CliError> {
        let of = |given: &Option<String>| given.as_deref().map_or(u64::MAX, |text| size(text).unwrap_or(0));
        let context = Plan::of(&loaded.module).map_or(0, |plan| plan.context() as u64);
        if let Some(most) = self.context.filter(|most| context > *most) {
            return Ok(Some(format!("its context has {context} tokens, the policy admits {most}")));
        }
        for entry in &loaded.module.entries {
            let cost = ir::cost::cost(entry);
            for (what, amount, most) in [
                ("memory", memory(entry), of(&self.memory)),
                ("traffic", cost.client_sent_bytes.saturating_add(cost.server_sent_bytes), of(&self.traffic)),
                ("material", cost.client_material_bytes.saturating_add(cost.server_material_bytes), of(&self.material)),
            ] {
                if amount > most {
                    let (name, amount, most) = (&entry.name, bytes(amount), bytes(most));
                    return Ok(Some(format!("{what} of entry `{name}`: {amount}, the policy admits {most}")));
                }
            }
            for (index, output) in (0..).zip(&entry.outputs) {
                let named = self.outputs.as_ref().is_none_or(|names| names.contains(&output.name));
                let numbers = !chosen(entry, OutputId(index)) && entry.outside() != Some(OutputId(index));
                if !named || (numbers && self.logits == Some(false)) {
                    let (output, name) = (&output.name, &entry.name);
                    return Ok(Some(format!("entry `{name}` reveals `{output}`, which the policy does not admit")));
                }
            }
        }
        Ok(None)
    }
}

/// Whether an output is a place that was chosen, and no numbers.
fn chosen(entry: &Program, id: OutputId) -> bool {
    entry.instrs.iter().any(|instr| matches!(instr.op, Op::Choose { output, .. } if output == id))
}

/// Bytes of an entry's tensors at one time.
fn memory(entry: &Program) -> u64 {
    ir::cost::cost(entry).peak_elements.saturating_mul(8)
}

/// Bytes of memory that the machine has left, where it tells.
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Verifies a program, and says what it is.
pub(super) fn verify(options: &Options) -> Result<(), CliError> {
    let loaded = Loaded::open(&options.program)?;
    say(&report(&loaded));
    options.check.check(&loaded, &options.identity)
}

fn report(loaded: &Loaded) -> String {
    let entries = &loaded.module.entries;
    let mut outputs: Vec<String> = Vec::new();
    for entry in entries {
        for (index, output) in (0..).zip(&entry.outputs) {
            let kind = match (chosen(entry, OutputId(index)), entry.outside() == Some(OutputId(index))) {
                (true, _) => "a token".to_owned(),
                (_, true) => "a count".to_owned(),
                _ => format!("{} numbers", output.shape.elements().unwrap_or(0)),
            };
            let said = format!("`{}` to the {} ({kind})", output.name, output.to);
            if !outputs.contains(&said) {
                outputs.push(said);
            }
        }
    }
    let made = if loaded.can_be_made().is_ok() { "the two parties, or a dealer" } else { "a dealer alone" };
    let plan = Plan::of(&loaded.module);
    let context = plan.map_or("one pass".to_owned(), |plan| {
        let most = plan.prefill().last().copied().unwrap_or(0);
        format!("{} tokens, prompts of up to {most}", plan.context())
    });
    let mut text = format!(
        "program    {}\nweights    {}\nreveals    {}\ncontext    {context}\nmaterial   by {made}\nsetup      {} of masked weights, once, with a dealer\n",
        hex(&loaded.hash),
        hex(&loaded.module.commitment),
        outputs.join(", "),
        bytes(ir::cost::setup_bytes(entries)),
    );
    text += &format!("{:<16}{:>8}{:>12}{:>12}{:>12}\n", "entry", "rounds", "both ways", "dealt", "memory");
    for entry in entries {
        let cost = ir::cost::cost(entry);
        let traffic = bytes(cost.client_sent_bytes.saturating_add(cost.server_sent_bytes));
        let dealt = bytes(cost.client_material_bytes.saturating_add(cost.server_material_bytes));
        text += &format!("{:<16}{:>8}{traffic:>12}{dealt:>12}{:>12}\n", entry.name, cost.rounds, bytes(memory(entry)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [("5", 5), ("5 B", 5), ("16GB", 16_000_000_000), ("2 TB", 2_000_000_000_000)] {
            assert_eq!(size(text), Ok(bytes));
        }
        for bad in ["", "GB", "-1", "1.5GB", "5 GiB", "99999999999 TB", "é"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn policies_have_no_other_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(POLICY);
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Policy::read(&path).map_err(|error| error.to_string())
        };
        let policy = read("memory = \"4 GB\"\noutputs = [\"token\"]\nlogits = false\n").unwrap();
        assert_eq!((policy.logits, policy.outputs), (Some(false), Some(vec!["token".to_owned()])));
        for bad in ["memroy = 4", "memory = \"4 GiB\"", "context = -1", "logits = \"no\"", "= ="] {
            assert!(read(bad).unwrap_err().contains("policy.toml: "), "{bad}");
        }
    }
}
