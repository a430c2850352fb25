//! Writes a GPT-2 model of any size with random weights as an ONNX file (see `tests::gpt2`).

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tests::gpt2::{Gpt2Error, Gpt2Shape, build, write};

/// Writes a GPT-2 model with random weights as an ONNX file. The sizes default to GPT-2 small.
#[derive(Parser)]
#[command(name = "make-gpt2")]
struct Flags {
    /// Number of layers.
    #[arg(long, default_value_t = Gpt2Shape::SMALL.layers)]
    layers: u32,
    /// Width of the residual stream.
    #[arg(long, default_value_t = Gpt2Shape::SMALL.width)]
    width: u32,
    /// Attention heads.
    #[arg(long, default_value_t = Gpt2Shape::SMALL.heads)]
    heads: u32,
    /// Number of tokens.
    #[arg(long, default_value_t = Gpt2Shape::SMALL.vocabulary)]
    vocabulary: u32,
    /// Greatest number of positions.
    #[arg(long, default_value_t = Gpt2Shape::SMALL.context)]
    context: u32,
    /// Seed of the weights.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// File to write.
    #[arg(short, long)]
    output: PathBuf,
}

fn run(flags: &Flags) -> Result<(), Gpt2Error> {
    let Flags { layers, width, heads, vocabulary, context, .. } = *flags;
    let model = build(Gpt2Shape { layers, width, heads, vocabulary, context }, flags.seed)?;
    write(model, &mut BufWriter::new(File::create(&flags.output)?))
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    match run(&flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}: {error}", flags.output.display());
            ExitCode::FAILURE
        }
    }
}
