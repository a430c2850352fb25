//! Runs a program under simulation and holds it against the cleartext reference and the cost model.
#![allow(dead_code, reason = "every test binary uses a part")]

pub mod ideal;

use ir::eval::{Arguments, Evaluation, eval};
use ir::program::Input;
use ir::verify::{Limits, verify};
use ir::{Builder, Op, Program, Value, cost};
use kernels::prg::Seed;
use kernels::ring::Tensor;
use machine::Finished;
use machine::simulate::Session;
use protocols::Maker;
use protocols::dealer::Seeds;
use protocols::weights::Resident;

/// Reproducible test data (xorshift64*).
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// An integer in `from ..= to`.
    pub fn within(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from + 1)
    }

    pub fn seed(&mut self) -> Seed {
        let mut bytes = [0; 32];
        bytes.chunks_exact_mut(8).for_each(|c| c.copy_from_slice(&self.next().to_le_bytes()));
        Seed::new(bytes)
    }

    /// Integers of less than 2^bits in size: the least and greatest, those around zero, then random ones.
    pub fn claimed(&mut self, count: usize, bits: u8) -> Vec<i64> {
        let limit = (1i64 << bits) - 1;
        let edges = [0, limit, -limit, 1, -1];
        (0..count)
            .map(|i| match edges.get(i) {
                Some(&edge) => edge.clamp(-limit, limit),
                // Small ones and large ones alike.
                None => {
                    (self.next() as i64 >> (63 - bits)).clamp(-limit, limit) >> (self.next() % (u64::from(bits) + 1))
                }
            })
            .collect()
    }
}

/// Appends an instruction that must be well typed.
pub fn push(b: &mut Builder, op: Op) -> Value {
    b.push(op, None).unwrap_or_else(|fault| panic!("{fault}"))
}

/// A program's arguments.
pub struct Case {
    pub program: Program,
    pub inputs: Vec<Vec<i64>>,
    pub weights: Vec<Vec<i64>>,
    pub publics: Vec<u32>,
}

impl Case {
    /// What the cleartext reference gives.
    pub fn reference(&self) -> Evaluation {
        let arguments = Arguments { inputs: &self.inputs, weights: &self.weights, publics: &self.publics };
        eval(&self.program, arguments).expect("arguments fit the program")
    }

    /// Verifies and simulates.
    pub fn run(&self, rng: &mut Rng) -> [Finished; 2] {
        let text = || ir::print::program(&self.program);
        if let Err(faults) = verify(&self.program, &Limits::default()) {
            panic!("{}\n{}", faults.iter().map(|f| format!("{f}\n")).collect::<String>(), text());
        }
        let (client, server, weights) = (rng.seed(), rng.seed(), rng.seed());
        let seeds = Seeds { client: &client, server: &server, weights: &weights };
        let resident = Resident::new(self.weights.iter().map(|w| &w[..]));
        Session::new(std::slice::from_ref(&self.program), &resident, seeds)
            .step(0, self.encoded(), &self.publics)
            .unwrap_or_else(|e| panic!("{e}\n{}", text()))
    }

    /// What the client learns with dealt material and, where it can be, with material that both parties make.
    pub fn simulations(&self, rng: &mut Rng) -> Vec<Vec<Vec<i64>>> {
        let made = ir::pair::unmade(&self.program).is_none();
        std::iter::once(self.simulate(rng)).chain(made.then(|| self.simulate_pair(rng))).collect()
    }

    /// Simulates with material that both parties make, and checks the meter.
    pub fn simulate_pair(&self, rng: &mut Rng) -> Vec<Vec<i64>> {
        let (client, server) = (rng.seed(), rng.seed());
        let [mut of_client, mut of_server] = ideal::ideal(rng);
        let resident = Resident::new(self.weights.iter().map(|w| &w[..]));
        let entries = std::slice::from_ref(&self.program);
        let mut session = Session::of_pair(entries, &resident, [&client, &server], [&mut of_client, &mut of_server]);
        let finished = session
            .step(0, self.encoded(), &self.publics)
            .unwrap_or_else(|e| panic!("{e}\n{}", ir::print::program(&self.program)));
        check_cost(&self.program, Maker::Pair, &finished);
        let [client, _] = finished;
        client.outputs.into_iter().map(|output| output.expect("the client learns every output")).collect()
    }

    /// The inputs as the client holds them.
    pub fn encoded(&self) -> Vec<Tensor> {
        encoded(&self.program, &self.inputs)
    }

    /// Simulates, compares what was counted with the cost model, and gives what the client learns.
    pub fn simulate(&self, rng: &mut Rng) -> Vec<Vec<i64>> {
        let finished = self.run(rng);
        check_cost(&self.program, Maker::Dealer, &finished);
        let [client, server] = finished;
        assert!(server.outputs.iter().all(Option::is_none), "the server learns nothing");
        client.outputs.into_iter().map(|output| output.expect("the client learns every output")).collect()
    }

    /// Simulates and demands the reference's result, to the last bit.
    pub fn check_exact(&self, rng: &mut Rng) {
        let want = self.reference();
        assert!(want.broken_claims.is_empty(), "inputs within the claims: {:?}", want.broken_claims);
        for got in self.simulations(rng) {
            assert_eq!(got, want.outputs, "{}", ir::print::program(&self.program));
        }
    }
}

/// Inputs as the client holds them.
pub fn encoded(program: &Program, inputs: &[Vec<i64>]) -> Vec<Tensor> {
    let encode = |(input, x): (&Input, &Vec<i64>)| {
        let shape = input.ty.shape.0.iter().map(|&d| d as usize).collect();
        Tensor::new(shape, x.iter().map(|&v| v as u64).collect::<Vec<_>>())
    };
    program.inputs.iter().zip(inputs).map(encode).collect()
}

/// The meter's numbers are the cost model's, instruction by instruction and in all.
pub fn check_cost(program: &Program, maker: Maker, [client, server]: &[Finished; 2]) {
    let claimed = cost::cost(program);
    for (i, c) in claimed.per_instruction.iter().enumerate() {
        let (row0, row1) = (&client.report.instructions[i], &server.report.instructions[i]);
        let line = &row0.text;
        assert_eq!(row0.material_bytes, c.dealt.to_both_bytes, "client's material: {line}");
        let masks = if maker == Maker::Pair { ir::pair::mask_bytes(program)[i] } else { 0 };
        let material = c.dealt.to_both_bytes + c.dealt.to_server_bytes + masks;
        assert_eq!(row1.material_bytes, material, "server's material: {line}");
        if !matches!(program.instrs[i].op, Op::Round {} | Op::Send {}) && program.instrs[i].op.declassifies().is_none()
        {
            assert_eq!((row0.sent_bytes, row1.sent_bytes), (c.client_payload_bytes, c.server_payload_bytes), "{line}");
        }
        assert_eq!((row0.sent_bytes, row1.sent_bytes), (row1.received_bytes, row0.received_bytes), "{line}");
    }
    for (report, sent, received, material) in [
        (&client.report, claimed.client_sent_bytes, claimed.server_sent_bytes, claimed.client_material_bytes),
        (&server.report, claimed.server_sent_bytes, claimed.client_sent_bytes, claimed.server_material_bytes),
    ] {
        assert_eq!(report.rounds, claimed.rounds);
        assert_eq!(report.one_way_messages, claimed.one_way_messages);
        assert_eq!((report.sent_bytes, report.received_bytes), (sent, received));
        assert_eq!(report.client_ahead_bytes, claimed.client_ahead_bytes);
        if maker == Maker::Dealer {
            assert_eq!(report.material_bytes, material);
        }
    }
}
