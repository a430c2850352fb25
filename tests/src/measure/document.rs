//! The part of a document that a command writes, between two marker lines.

use std::fs;
use std::path::Path;

const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";

/// Replaces the measured part of the document at `path`.
pub fn update(path: &Path, measured: &str) -> Result<(), String> {
    let fault = |e: std::io::Error| format!("{}: {e}", path.display());
    let text = fs::read_to_string(path).map_err(fault)?;
    let new = replaced(&text, measured).ok_or_else(|| format!("{}: no lines `{BEGIN}` and `{END}`", path.display()))?;
    fs::write(path, new).map_err(fault)
}

fn replaced(text: &str, measured: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", measured.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_wrote_stays() {
        let text = format!("above\n{BEGIN}\nold\n{END}\nbelow\n");
        assert_eq!(replaced(&text, "new\n").unwrap(), format!("above\n{BEGIN}\n\nnew\n\n{END}\nbelow\n"));
        assert_eq!(replaced("above\n", "new"), None);
    }
}
