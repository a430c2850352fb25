//! Every command of `sscc` and `ssvm` that a document shows is one that their parsers take.

use clap::Command;
use clap::error::ErrorKind;

use crate::markdown::documents;

/// A shell's text as commands, each as words without quotes. Comments, redirections and what comes before a program's name (settings of
/// variables) are left out. No expansion: `$X` and `$(cat f)` stay as they are.
fn commands(text: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut depth = 0;
    let mut letters = text.chars().peekable();
    while let Some(c) = letters.next() {
        let command = commands.last_mut().expect("a command");
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '"' | '\'') if depth == 0 => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => match letters.next() {
                Some('\n') | None => {}
                Some(escaped) => word.get_or_insert_default().push(escaped),
            },
            (None, '(') if word.as_ref().is_some_and(|w| w.ends_with('$')) || depth > 0 => {
                depth += 1;
                word.get_or_insert_default().push(c);
            }
            (None, ')') if depth > 0 => {
                depth -= 1;
                word.get_or_insert_default().push(c);
            }
            (None, '#') if depth == 0 && word.is_none() => while letters.next_if(|c| *c != '\n').is_some() {},
            (None, '\n' | ';' | '&' | '|' | '(' | ')') if depth == 0 => {
                command.extend(word.take());
                commands.push(Vec::new());
            }
            (None, '>' | '<') if depth == 0 => {
                command.extend(word.take());
                command.push(c.to_string());
            }
            (None, ' ' | '\t') if depth == 0 => command.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    commands.last_mut().expect("a command").extend(word);
    let commands = commands.into_iter().map(|words| plain(&words));
    commands.filter(|words| !words.is_empty()).collect()
}

/// A command without settings of variables before it, and without redirections.
fn plain(words: &[String]) -> Vec<String> {
    let setting = |word: &&String| word.split_once('=').is_some_and(|(name, _)| !name.starts_with('-'));
    let mut words = words.iter().skip_while(setting);
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        if matches!(word.as_str(), ">" | "<") {
            while words.next().is_some_and(|target| target == ">") {}
        } else {
            kept.push(word.clone());
        }
    }
    kept
}

/// The parser of a program that is called so.
fn program(name: &str) -> Option<Command> {
    match name {
        "sscc" => Some(sscc::cli::command()),
        "ssvm" => Some(ssvm::cli::command()),
        _ => None,
    }
}

/// What the parser has against a command line, if it is one of this project.
fn fault(words: &[String]) -> Option<String> {
    let parsed = program(words.first()?)?.try_get_matches_from(words);
    let error = parsed.err().filter(|e| !matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion))?;
    Some(format!("{}\n  {}", words.join(" "), error.to_string().trim_end().replace('\n', "\n  ")))
}

/// What a command between backticks names and does not exist: it need not be whole.
fn unknown(span: &str) -> Option<String> {
    let mut words = span.split_whitespace();
    let mut command = program(words.next()?)?;
    command.build();
    let mut words = words.peekable();
    if let Some(name) = words.next_if(|word| word.chars().all(|c| c.is_ascii_lowercase())) {
        let Some(found) = command.find_subcommand(name) else { return Some(format!("`{span}`: no command {name}")) };
        command = found.clone();
    }
    let names = words.filter_map(|word| word.strip_prefix("--")).map(|word| word.split('=').next().unwrap());
    let known = |name: &str| name == "help" || command.get_arguments().any(|a| a.get_long() == Some(name));
    let missing = names.filter(|name| !name.is_empty()).find(|name| !known(name))?;
    Some(format!("`{span}`: no option --{missing}"))
}

#[test]
fn commands_are_what_the_programs_take() {
    let mut complaints = Vec::new();
    let mut seen = 0;
    let mut check = |place: String, text: &str| {
        for words in commands(text) {
            seen += usize::from(program(&words[0]).is_some());
            complaints.extend(fault(&words).map(|fault| format!("{place}: {fault}")));
        }
    };
    for document in documents(".md") {
        for block in document.blocks().iter().filter(|block| block.is("sh")) {
            check(format!("{}:{}", document.name, block.line), &block.text);
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
    assert!(seen > 30, "the documents show {seen} commands");
}

#[test]
fn spans_name_options_that_exist() {
    let mut complaints = Vec::new();
    for document in documents(".md") {
        let spans = document.spans().into_iter();
        complaints.extend(
            spans.filter_map(|(line, span)| Some(format!("{}:{line}: {}", document.name, unknown(span.trim())?))),
        );
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn shells_words_are_told_apart() {
    let text = "A=1 ssvm run p.ssb --party 1 & # more\nssvm generate \\\n  p.ssb --prompt 'a # b; c' > out.txt && cat <in | head -1\n\
                x=$(ssvm serve p)\nX=\"a b\" sscc ops >> log";
    let expected: &[&[&str]] = &[
        &["ssvm", "run", "p.ssb", "--party", "1"],
        &["ssvm", "generate", "p.ssb", "--prompt", "a # b; c"],
        &["cat"],
        &["head", "-1"],
        &["sscc", "ops"],
    ];
    assert_eq!(commands(text), expected);
}

#[test]
fn faults_are_seen() {
    let line = |text: &str| commands(text).iter().filter_map(|words| fault(words)).count();
    assert_eq!(line("ssvm run m.ssb --party 1; ssvm stocks --check; sscc ops; cargo --frobnicate; ssvm --version"), 0);
    assert_eq!(line("ssvm run m.ssb"), 1, "no party");
    assert_eq!(line("ssvm run m.ssb --party 2\nssvm run m.ssb --party 1 --frobnicate"), 2);
    assert_eq!(line("sscc cost m.ssb --link far"), 1);
    assert_eq!(unknown("ssvm prepare --tokens N"), None);
    assert_eq!(unknown("ssvm"), None);
    assert!(unknown("ssvm frobnicate").is_some() && unknown("sscc compile --frobnicate").is_some());
}
