//! The client's command for conversations: `ssvm chat`.

use std::path::PathBuf;

use clap::Args;

use super::CliError;
use super::generate::ClientOptions;
use super::links::with_net_unless;
use text::{ChatOptions, Interrupt};

/// Options of `ssvm chat`.
#[derive(Args)]
pub(super) struct Options {
    /// The program.
    program: PathBuf,
    #[command(flatten)]
    chat: ChatOptions,
    #[command(flatten)]
    client: ClientOptions,
}

/// Converses.
pub(super) fn chat(options: &Options) -> Result<(), CliError> {
    let (interrupt, net) = (Interrupt::default(), &options.client.net);
    let interrupted = interrupt.clone();
    with_net_unless(
        net,
        &options.client.peers(),
        move || interrupted.interrupt(),
        |net| {
            let model = options.client.model(&options.program, net, None)?;
            let language = options.chat.language(&options.program, &model)?;
            options.chat.run(&model, &language, &interrupt, |ended| {
                let stopped = net.clone();
                net.handle().spawn(async move {
                    stopped.until_stopped().await;
                    ended();
                });
            })?;
            Ok(())
        },
    )
}
