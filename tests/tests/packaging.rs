//! The Debian package: what `packaging/deb` puts where, and that its units start commands that exist.

use std::fs;
use std::process::Command;

use tests::processes::{build_binaries, repository};

/// The words of a unit's `ExecStart`, without variables.
fn start(unit: &str) -> Vec<String> {
    let text = fs::read_to_string(repository().join("packaging").join(unit)).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap_or_else(|| panic!("{unit}"));
    line.split_whitespace().filter(|word| !word.starts_with('$')).map(str::to_owned).collect()
}

#[test]
fn units_start_what_the_program_takes() {
    for (unit, command) in [("ssvm-server.service", "run"), ("ssvm-dealer.service", "dealer")] {
        let words = start(unit);
        assert_eq!((words[0].as_str(), words[1].as_str()), ("/usr/bin/ssvm", command), "{unit}");
        ssvm::cli::command().try_get_matches_from(&words).unwrap_or_else(|e| panic!("{unit}: {e}"));
    }
}

/// Needs dpkg-deb, as Debian and its kin have it.
#[test]
fn the_package_has_programs_pages_completions_and_units() {
    let binaries = build_binaries().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let package = folder.path().join("p.deb");
    let script = repository().join("packaging/deb");
    let refused = Command::new(&script).arg(folder.path()).arg(&package).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "a folder without programs");
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        eprintln!("left out: what the package has, which needs dpkg-deb");
        return;
    }
    let made = Command::new(&script).arg(&binaries).arg(&package).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let root = folder.path().join("root");
    let unpacked = Command::new("dpkg-deb").arg("-x").arg(&package).arg(&root).status().unwrap();
    assert!(unpacked.success());
    for name in [
        "usr/share/man/man1/ssvm-run.1.gz",
        "usr/share/man/man1/sscc-compile.1.gz",
        "usr/share/bash-completion/completions/ssvm",
        "usr/share/zsh/vendor-completions/_sscc",
        "usr/share/fish/vendor_completions.d/sscc.fish",
        "lib/systemd/system/ssvm-server.service",
        "lib/systemd/system/ssvm-dealer.service",
        "usr/share/doc/sscc-ssvm/LICENSE-MIT",
    ] {
        assert!(fs::metadata(root.join(name)).is_ok_and(|found| found.len() > 0), "{name}");
    }
    for program in ["sscc", "ssvm"] {
        let said = Command::new(root.join("usr/bin").join(program)).arg("--version").output().unwrap();
        assert!(said.status.success() && said.stdout.starts_with(program.as_bytes()), "{program}");
    }
}
