//! The loop from prompt to text, and what `ssvm generate` writes.

use std::num::NonZeroUsize;

use clap::Parser;
use tests::processes::repository;
use tests::toy::{Misfortune, Toy, fault};
use text::command::{CommandError, GenerateOptions, Output};
use text::serve::ServeOptions;
use text::{Cancel, Finish, GenerateError, Generation, Language, Model, Settings};

use crate::common::{SPEECH, language, text, toy};

/// A whole text, its pieces joined.
fn whole(
    toy: &Toy,
    language: &Language,
    prompt: &[u32],
    settings: &Settings,
) -> Result<(String, Finish, usize), GenerateError> {
    let mut generation = Generation::begin(toy, language, prompt, settings, &Cancel::default())?;
    let mut all = String::new();
    loop {
        let step = generation.advance()?;
        all += &step.text;
        if let Some(finish) = step.finish {
            return Ok((all, finish, generation.totals().tokens));
        }
    }
}

fn asked(settings: Settings) -> (String, Finish, usize) {
    whole(&toy(), &language(), &[5, 6], &settings).unwrap()
}

#[test]
fn a_text_ends_by_itself_or_at_its_length() {
    let tokens = text().encode(SPEECH).unwrap();
    // The token that ends the text counts.
    assert_eq!(asked(Settings::default()), (SPEECH.to_owned(), Finish::Stop, tokens.len() + 1));
    let five = Settings { max_tokens: NonZeroUsize::new(5), ..Settings::default() };
    assert_eq!(asked(five), (text().decode(&tokens[..5]).unwrap(), Finish::Length, 5));
    // The context has 64 tokens.
    let long = Toy::new(tokens.repeat(10));
    let (_, finish, count) = whole(&long, &language(), &[7; 48], &Settings::default()).unwrap();
    assert_eq!((finish, count), (Finish::Length, 16));
    let much = Settings { max_tokens: NonZeroUsize::new(1000), ..Settings::default() };
    assert_eq!(whole(&long, &language(), &[7; 48], &much).unwrap().2, 16);
}

#[test]
fn stop_strings_cross_tokens_and_are_no_text() {
    let stop = |strings: &[&str]| {
        asked(Settings { stop: strings.iter().map(|s| (*s).to_owned()).collect(), ..Settings::default() })
    };
    let (words, finish, count) = stop(&["cousin. Is", "never"]);
    assert_eq!((words.as_str(), finish), ("Good morrow, ", Finish::Stop));
    assert!(count < text().encode(SPEECH).unwrap().len());
    // What is held back at the end is given out.
    let (words, ..) = stop(&["young?!"]);
    assert_eq!(words, SPEECH);
    assert!(matches!(
        whole(&toy(), &language(), &[5], &Settings { stop: vec![String::new()], ..Settings::default() }),
        Err(GenerateError::EmptyStop)
    ));
}

#[test]
fn characters_over_several_tokens_stay_whole() {
    let tokens = text().encode("é 愛!").unwrap();
    let toy = Toy::new(tokens.clone());
    assert_eq!(whole(&toy, &language(), &[5], &Settings::default()).unwrap().0, "é 愛!");
    // Cut within a character, the rest is replaced.
    let cut = Settings { max_tokens: NonZeroUsize::new(tokens.len() - 2), ..Settings::default() };
    assert_eq!(whole(&toy, &language(), &[5], &cut).unwrap().0, "é \u{fffd}");
}

#[test]
fn a_seed_repeats_a_sample() {
    let sample = |seed| asked(Settings { temperature: 1.0, seed: Some(seed), ..Settings::default() });
    assert_eq!(sample(1), sample(1));
    assert_ne!(sample(1).0, sample(2).0);
    assert_ne!(sample(1).0, SPEECH);
}

#[test]
fn limits_are_checked_first() {
    let fails = |prompt: &[u32], settings: &Settings, toy: &Toy| {
        let error = whole(toy, &language(), prompt, settings).unwrap_err();
        assert_eq!(toy.counters().tokens.load(std::sync::atomic::Ordering::SeqCst), 0);
        assert!(!error.hint().is_empty());
        error
    };
    let hot = |temperature| Settings { temperature, ..Settings::default() };
    assert!(matches!(fails(&[], &hot(0.0), &toy()), GenerateError::EmptyPrompt));
    assert!(matches!(fails(&[1; 49], &hot(0.0), &toy()), GenerateError::PromptTooLong { tokens: 49, limit: 48 }));
    assert!(matches!(fails(&[1024], &hot(0.0), &toy()), GenerateError::TokenOutOfRange { vocabulary: 1024 }));
    for temperature in [-0.1, 2.1, f64::NAN, f64::INFINITY] {
        assert!(matches!(fails(&[1], &hot(temperature), &toy()), GenerateError::Temperature { .. }));
    }
    assert!(matches!(fails(&[1], &hot(0.5), &Toy::greedy(vec![1])), GenerateError::Temperature { limit: 0.0, .. }));
}

#[test]
fn a_cancelled_text_ends() {
    let (toy, language, cancel) = (toy(), language(), Cancel::default());
    let prompt = [fault(Misfortune::Slow)];
    let mut generation = Generation::begin(&toy, &language, &prompt, &Settings::default(), &cancel).unwrap();
    generation.advance().unwrap();
    let other = cancel.clone();
    std::thread::spawn(move || other.cancel()).join().unwrap();
    assert!(matches!(generation.advance(), Err(GenerateError::Cancelled)));
}

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    options: GenerateOptions,
}

#[derive(Parser)]
struct ServeCli {
    #[command(flatten)]
    _options: ServeOptions,
}

#[test]
fn options_are_consistent() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
    ServeCli::command().debug_assert();
}

/// What `ssvm generate` writes for some options.
fn command(arguments: &[&str], toy: &Toy, terminal: bool) -> Result<String, CommandError> {
    let program = repository().join("models/tiny-shakespeare/model.ssb");
    let options = Cli::parse_from([&["generate"], arguments].concat()).options;
    let prepared = options.prepare(&program, toy.limits())?;
    let mut out = Vec::new();
    let output = Output { out: &mut out, out_is_terminal: terminal, err_is_terminal: false };
    let done = prepared.run_to(toy, &Cancel::default(), output);
    let text = String::from_utf8(out).unwrap();
    done.map(|_| text)
}

#[test]
fn the_command_writes_text_or_json() {
    let toy = toy();
    assert_eq!(command(&["--prompt", "Hark"], &toy, false).unwrap(), format!("{SPEECH}\n"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompt.txt");
    std::fs::write(&file, "Hark").unwrap();
    let from_file = ["--prompt-file", file.to_str().unwrap(), "--stop", "cousin", "--json"];
    let json: serde_json::Value = serde_json::from_str(&command(&from_file, &toy, false).unwrap()).unwrap();
    assert_eq!(json["text"], "Good morrow, ");
    assert_eq!(json["finish_reason"], "stop");
    assert_eq!(json["preprocessing"], "no third party");
    assert_eq!(json["links"], "encrypted links");
    assert_eq!(json["received_bytes"].as_u64(), json["completion_tokens"].as_u64().map(|n| n * 2000));
    // A terminal is not steered by what a model writes.
    let rude = Toy::new(text().encode("a\u{1b}[2Jb").unwrap());
    assert_eq!(command(&["--prompt", "x"], &rude, true).unwrap(), "a\u{fffd}[2Jb\n");
    assert_eq!(command(&["--prompt", "x"], &rude, false).unwrap(), "a\u{1b}[2Jb\n");
}

#[test]
fn prompts_and_stops_may_begin_with_a_hyphen() {
    let toy = toy();
    let begins = ["--prompt", "-- or -x", "--stop", "-q", "--stop", "cousin", "--chat", "--system", "- brief"];
    let plain = ["--chat-template", "plain"];
    assert_eq!(command(&[&begins[..], &plain].concat(), &toy, false).unwrap(), "Good morrow, \n");
}

#[test]
fn a_reader_that_has_enough_is_no_fault() {
    struct Closed(usize);
    impl std::io::Write for Closed {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(1).ok_or(std::io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let program = repository().join("models/tiny-shakespeare/model.ssb");
    for (options, writes) in [(&["--prompt", "x"][..], 2), (&["--prompt", "x", "--json"], 0)] {
        let toy = toy();
        let options = Cli::parse_from([&["generate"], options].concat()).options;
        let output = Output { out: &mut Closed(writes), out_is_terminal: false, err_is_terminal: false };
        let prepared = options.prepare(&program, toy.limits()).unwrap();
        prepared.run_to(&toy, &Cancel::default(), output).unwrap();
    }
}

#[test]
fn the_command_explains_what_it_cannot() {
    let fails = |arguments: &[&str]| {
        let error = command(arguments, &toy(), false).unwrap_err();
        format!("{}\ntry: {}", processes::chain(&error), error.hint())
    };
    let top_k = fails(&["--prompt", "x", "--top-k", "40"]);
    assert!(
        top_k.contains("`--top-k` cannot be had: it needs the logits") && top_k.contains("--temperature"),
        "{top_k}"
    );
    assert!(fails(&["--prompt", "x", "--top-p", "0.9"]).contains("`--top-p`"));
    assert!(fails(&["--prompt", "x", "--temperature", "3"]).contains("between 0 and 2"));
    assert!(fails(&["--prompt", ""]).contains("empty"));
    let chat = fails(&["--prompt", "x", "--chat"]);
    assert!(chat.contains("no chat template") && chat.contains("--chat-template plain"), "{chat}");
    assert!(fails(&["--prompt-file", "no/such/file"]).contains("no/such/file"));
    assert!(fails(&["--prompt", "x", "--tokenizer", "no/tokenizer.json"]).contains("no/tokenizer.json"));
    let chat = ["--prompt", "x", "--chat", "--system", "Be brief.", "--chat-template", "plain"];
    assert_eq!(command(&chat, &toy(), false).unwrap(), format!("{SPEECH}\n"));
}
