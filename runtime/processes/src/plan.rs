//! The steps of a generation session: which entry runs when, on which public numbers.
//!
//! Step 0 is a prefill, the least that holds the prompt; every step after it a decode, the least with room for all slots so
//! far. So all of it follows from the module, the length of the prompt and the number of the step: both parties know it
//! beforehand, and material is dealt ahead by it.

use ir::bytecode::Module;
use ir::noise::NOISE_BOUND;
use ir::program::Encoding;
use ir::slots::{POSITION, Slots};
use ir::{Op, OutputId, Party, Program, Scale};

use super::material::frames;

/// Name of the input for noise.
const NOISE: &str = "noise";

/// Most fractional bits of noise.
const FINEST: Scale = 40;

/// What the entries of a module have room for.
pub struct Plan {
    context: usize,
    vocabulary: usize,
    noise: bool,
    ends: Vec<u32>,
    /// Sizes, ascending, and the numbers of their entries.
    prefill: Vec<(usize, u32)>,
    decode: Vec<(usize, u32)>,
    /// Bytes of material for client and server, by entry.
    material: Vec<[u64; 2]>,
}

/// A step that is due: what both parties run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Due {
    /// Number of the entry.
    pub entry: u32,
    /// Values of its public numbers.
    pub publics: Vec<u32>,
}

impl Plan {
    /// The plan of a module that was compiled for generation. The error says what is missing or odd; whoever compiled the
    /// module need not be trusted.
    pub fn of(module: &Module) -> Result<Plan, String> {
        let costs = module.entries.iter().map(ir::cost::cost);
        let mut plan = Plan {
            context: 0,
            vocabulary: 0,
            noise: false,
            ends: Vec::new(),
            prefill: Vec::new(),
            decode: Vec::new(),
            material: costs.map(|cost| [cost.client_material_bytes, cost.server_material_bytes]).collect(),
        };
        for (number, program) in (0..).zip(&module.entries) {
            let of = |what: String| format!("entry `{}`: {what}", program.name);
            let kind = program.name.split('.').next();
            let list = match kind {
                Some("prefill") => &mut plan.prefill,
                Some("decode") => &mut plan.decode,
                _ => continue,
            };
            let entry = Shape::of(program).map_err(of)?;
            let size = match kind {
                Some("prefill") => entry.tokens,
                _ if entry.tokens != 1 => return Err(of(format!("it decodes {} tokens at once", entry.tokens))),
                _ => slots(program).ok_or_else(|| of("it looks back at nothing".to_owned()))?,
            };
            if plan.vocabulary != 0 && (plan.vocabulary, plan.noise) != (entry.vocabulary, entry.noise) {
                return Err(of("its inputs are not those of the entries before".to_owned()));
            }
            (plan.vocabulary, plan.noise) = (entry.vocabulary, entry.noise);
            list.push((size, number));
        }
        if plan.prefill.is_empty() || plan.decode.is_empty() {
            return Err("it was compiled for one pass and has no entries for generation".to_owned());
        }
        plan.prefill.sort_unstable();
        plan.decode.sort_unstable();
        let number = |key: &str| module.metadata.get(key);
        plan.context = match number("context").and_then(|text| text.parse().ok()) {
            Some(context) => context,
            None => return Err("its metadata do not say how many tokens a context has".to_owned()),
        };
        let bound = number("noise_bound").and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
        plan.noise &= bound >= NOISE_BOUND;
        if let Some(eos) = number("eos") {
            let ends: Result<_, _> = eos.split(',').map(str::parse).collect();
            plan.ends = ends.map_err(|_| "its metadata `eos` are no tokens".to_owned())?;
        }
        // Bounds of all public numbers follow from the sizes, so that no step of a session fails by them.
        for &(size, entry) in &plan.prefill {
            plan.check(module, size, size, 0, entry)?;
        }
        Ok(plan)
    }

    fn check(&self, module: &Module, prompt: usize, size: usize, number: u32, entry: u32) -> Result<(), String> {
        let program = &module.entries[entry as usize];
        let publics = publics(program, prompt, size, number)?;
        match program.publics.iter().zip(publics).find(|(public, value)| *value >= public.bound) {
            Some((public, value)) => Err(format!(
                "entry `{}`: public `{}` is to be {value}, its bound is {}",
                program.name, public.name, public.bound
            )),
            None => Ok(()),
        }
    }

    /// Most tokens of a prompt and its continuation.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Sizes of prompts, ascending.
    pub fn prefill(&self) -> Vec<usize> {
        self.prefill.iter().map(|&(size, _)| size).collect()
    }

    /// Most slots of a session: those of a prefill, and one for each token after its first.
    pub fn slots(&self) -> usize {
        self.decode.last().map_or(0, |&(slots, _)| slots)
    }

    /// Number of tokens that there are.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Whether the client may add noise to the logits.
    pub fn noise(&self) -> bool {
        self.noise
    }

    /// Tokens that end a text.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// Step `number` of a session whose prompt has `prompt` tokens; none if there is no room for it.
    pub fn due(&self, module: &Module, prompt: usize, number: u32) -> Option<Due> {
        if prompt == 0 || prompt + number as usize >= self.context {
            return None;
        }
        let size = self.prefill.iter().map(|&(size, _)| size).find(|&size| size >= prompt)?;
        let entry = self.entry(size, number)?;
        self.check(module, prompt, size, number, entry).ok()?;
        let publics = publics(&module.entries[entry as usize], prompt, size, number).ok()?;
        Some(Due { entry, publics })
    }

    /// The entry of step `number` after a prefill of `size` slots.
    pub fn entry(&self, size: usize, number: u32) -> Option<u32> {
        let fits = |sizes: &[(usize, u32)], slots: usize| Some(sizes.iter().find(|&&(room, _)| room >= slots)?.1);
        match number {
            0 => fits(&self.prefill, size),
            _ => fits(&self.decode, size + number as usize),
        }
    }

    /// The slots of a prefill entry.
    pub fn size(&self, entry: u32) -> Option<usize> {
        Some(self.prefill.iter().find(|&&(_, number)| number == entry)?.0)
    }

    /// Bytes of material that a step of an entry takes.
    pub fn material_bytes(&self, entry: u32, party: Party) -> u64 {
        self.material[entry as usize][party.index()]
    }

    /// Frames of material that may wait at a party: of a first step or a later one, and of the next.
    pub(super) fn frames(&self, module: &Module, first: u32, party: Party) -> usize {
        let of = |entry: u32| frames(&module.entries[entry as usize], self.material_bytes(entry, party));
        let decode = self.decode.iter().map(|&(_, entry)| of(entry)).max().unwrap_or(0);
        of(first).max(decode) + decode
    }

    /// The length of the prompt, from the first step that a client asks for; none if it is not the first of a session.
    pub fn prompt(&self, module: &Module, entry: u32, values: &[u32]) -> Option<usize> {
        let position = module.entries[entry as usize].publics.iter().position(|public| public.name == POSITION);
        let prompt = match position {
            Some(position) => *values.get(position)? as usize + 1,
            // There is nothing to pick among.
            None => 1,
        };
        (self.due(module, prompt, 0)? == Due { entry, publics: values.to_vec() }).then_some(prompt)
    }
}

/// What the inputs and outputs of an entry look like.
struct Shape {
    tokens: usize,
    vocabulary: usize,
    noise: bool,
}

impl Shape {
    fn of(program: &Program) -> Result<Shape, String> {
        let (mut tokens, mut noise) = (None, false);
        for input in &program.inputs {
            let elements = input.shape.elements().and_then(|n| usize::try_from(n).ok());
            match (&input.encoding, elements) {
                (Encoding::OneHot { classes }, Some(n)) if tokens.is_none() => tokens = Some((n, *classes as usize)),
                (Encoding::Fixed, Some(_)) if input.name == NOISE && !noise => {
                    if !(0..=FINEST).contains(&input.ty.scale) {
                        return Err(format!("noise is to have {} fractional bits", input.ty.scale));
                    }
                    noise = true;
                }
                _ => return Err(format!("input `{}` is neither tokens nor noise", input.name)),
            }
        }
        let Some((tokens, vocabulary)) = tokens else { return Err("it takes no tokens".to_owned()) };
        let for_vocabulary = |n: Option<u64>| n == Some(vocabulary as u64);
        if noise && !program.inputs.iter().any(|i| i.name == NOISE && for_vocabulary(i.shape.elements())) {
            return Err("it takes noise for another vocabulary".to_owned());
        }
        let outputs = &program.outputs[..program.outside().map_or(program.outputs.len(), |outside| outside.index())];
        match outputs {
            [out]
                if out.to == Party::Client
                    && out.shape.elements() == Some(1)
                    && program.output_scale(OutputId(0)) == Some(0) => {}
            _ => return Err("it reveals something else than a token; compile with `--reveal token`".to_owned()),
        }
        Ok(Shape { tokens, vocabulary, noise })
    }
}

/// Slots that an entry looks back at, itself included.
fn slots(program: &Program) -> Option<usize> {
    let capacities = program.instrs.iter().filter_map(|instr| match instr.op {
        Op::Cache { capacity, .. } => Some(capacity as usize),
        _ => None,
    });
    capacities.min()
}

/// The values of an entry's public numbers at a step.
fn publics(program: &Program, prompt: usize, prefill: usize, number: u32) -> Result<Vec<u32>, String> {
    let fits = |n: usize| u32::try_from(n).map_err(|_| format!("entry `{}`: too many slots", program.name));
    let (prompt, prefill) = (fits(prompt)?, fits(prefill)?);
    let used = prefill.checked_add(number).ok_or_else(|| format!("entry `{}`: too many slots", program.name))?;
    let slots = Slots { prompt, prefill, used };
    let one = |public: &ir::program::Public| {
        slots
            .public(&public.name)
            .ok_or_else(|| format!("entry `{}`: unknown public number `{}`", program.name, public.name))
    };
    program.publics.iter().map(one).collect()
}
