//! Where and when a measurement was made.

use std::fs;
use std::process::Command;

use crate::processes::{output, repository};

/// One line: processor, cores, memory, load before the start, day, commit.
pub fn describe() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map_or("unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let (processor, memory, load) = (read("/proc/cpuinfo"), read("/proc/meminfo"), read("/proc/loadavg"));
    let kilobytes: Option<f64> = field(&memory, "MemTotal").split_whitespace().next().and_then(|n| n.parse().ok());
    let vectors =
        ["avx512f", "avx2"].into_iter().find(|f| field(&processor, "flags").split(' ').any(|flag| flag == *f));
    let told = |command: &mut Command| output(command).map_or("unknown".to_owned(), |text| text.trim().to_owned());
    format!(
        "{}, {} cores{}, {} GB; load before the start {}; {}, commit {}",
        field(&processor, "model name"),
        std::thread::available_parallelism().map_or(0, usize::from),
        vectors.map(|name| format!(" with {name}")).unwrap_or_default(),
        kilobytes.map_or("unknown".to_owned(), |k| format!("{:.0}", k * 1024.0 / 1e9)),
        load.split(' ').next().unwrap_or("unknown"),
        told(Command::new("date").args(["-u", "+%Y-%m-%d"])),
        told(Command::new("git").args(["describe", "--always", "--dirty"]).current_dir(repository())),
    )
}
