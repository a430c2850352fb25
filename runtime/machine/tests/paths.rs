//! A result is the same, bit for bit, on every instruction set that this CPU has. The set is chosen once a process, so
//! this test starts itself once for each.

mod support;

use kernels::cpu::Cpu;
use machine::Finished;
use std::process::Command;
use support::{Case, Rng};

/// Every protocol, and blocks that are large enough for whole vectors.
const PROGRAMS: [&str; 4] = [
    include_str!("programs/every_protocol.ssir"),
    include_str!("programs/attention.ssir"),
    include_str!("programs/gelu.ssir"),
    include_str!("programs/layer_norm.ssir"),
];

/// Begins the line with a child's digest.
const MARK: &str = "digest of ";

/// Adds the outputs and byte counts of both parties.
fn digest(hasher: &mut blake3::Hasher, finished: &[Finished; 2]) {
    for Finished { outputs, report, .. } in finished {
        for output in outputs.iter().flatten() {
            hasher.update(&(output.len() as u64).to_le_bytes());
            for v in output {
                hasher.update(&v.to_le_bytes());
            }
        }
        for bytes in [report.sent_bytes, report.received_bytes, report.material_bytes] {
            hasher.update(&bytes.to_le_bytes());
        }
    }
}

/// Runs every program on fixed inputs and seeds.
#[test]
fn child() {
    let (mut rng, mut hasher) = (Rng::new(50), blake3::Hasher::new());
    for source in PROGRAMS {
        let program = ir::parse(source).unwrap_or_else(|e| panic!("{e}"));
        let mut integers = |count: u64, limit: u64| -> Vec<i64> {
            (0..count).map(|_| rng.within(0, 2 * limit) as i64 - limit as i64).collect()
        };
        let elements = |shape: &ir::Shape| shape.elements().expect("a small shape");
        let inputs = program.inputs.iter().map(|i| integers(elements(&i.shape), 1 << i.ty.scale)).collect();
        let weights = program.weights.iter().map(|w| integers(elements(&w.shape), 1000)).collect();
        let finished = Case { program, inputs, weights, publics: Vec::new() }.run(&mut rng);
        assert!(finished[0].outputs.iter().all(Option::is_some), "the client learns every output");
        digest(&mut hasher, &finished);
    }
    // A line of its own, whatever the harness has written before.
    println!("\n{MARK}{}: {}", Cpu::get().name(), hasher.finalize());
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let program = std::env::current_exe().expect("this test's program");
    let digests: Vec<(&str, String)> = Cpu::available()
        .into_iter()
        .map(|cpu| {
            let mut command = Command::new(&program);
            let child = command.args(["--exact", "child", "--nocapture"]).env("SSVM_CPU", cpu.name());
            let output = child.output().expect("this test's program starts");
            let text = String::from_utf8(output.stdout).expect("text");
            assert!(output.status.success(), "{}: {text}{}", cpu.name(), String::from_utf8_lossy(&output.stderr));
            // The name is in the line: the set that was asked for is the one that ran.
            let mark = format!("{MARK}{}: ", cpu.name());
            let found: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(&mark)).collect();
            let [digest] = found[..] else { panic!("{} prints one digest: {text}", cpu.name()) };
            assert_eq!(digest.len(), 64, "a whole digest: {digest}");
            (cpu.name(), digest.to_owned())
        })
        .collect();
    assert_eq!(digests[0].0, "portable");
    assert!(digests.iter().all(|(_, digest)| *digest == digests[0].1), "{digests:?}");
    println!("{digests:?}");
}
