//! What a client may ask for, and what the length of a text tells.

use std::num::NonZeroUsize;
use std::time::Duration;

use processes::RunError;
use processes::limits::Limits;
use processes::net::{NetError, Refusal};
use text::{Cancel, Finish, GenerateError, Generation, Language, Model, Noise, PrivateModel, Settings, Totals};

use crate::common::{World, file};

const TIMEOUT: Duration = Duration::from_secs(20);

fn limits(text: &str) -> Limits {
    Limits::of(text.split_whitespace().map(|limit| limit.parse().unwrap()))
}

/// As many tokens as there are, up to a number, and why there were no more.
fn tokens(model: &PrivateModel, prompt: &[u32], count: usize) -> (usize, Option<Refusal>) {
    let refusal = |error| match error {
        GenerateError::Run(RunError::Net(NetError::Refused { peer: "server", refusal })) => Some(refusal),
        other => panic!("{other:?}"),
    };
    let mut session = match model.begin(prompt, Noise::greedy(), &Cancel::default()) {
        Ok(session) => session,
        Err(error) => return (0, refusal(error)),
    };
    for done in 0..count {
        if let Err(error) = session.next(None) {
            return (done, refusal(error));
        }
    }
    (count, None)
}

#[test]
fn a_day_has_so_many_tokens_and_texts_also_after_a_restart() {
    let mut world = World::new(TIMEOUT);
    let dealer = world.dealer();
    world.limits = limits("tokens-a-day=3 sessions-a-day=5");
    let server = world.server(dealer, 2);
    let model = world.client(server, dealer, 1);
    assert_eq!(tokens(&model, &[1, 2], 1), (1, None));
    let (done, refused) = tokens(&model, &[1, 2], 3);
    // The session of before gives the rest of its tokens back when the server has seen its end.
    assert!(done <= 2 && matches!(refused, Some(Refusal::Limit { .. })), "{done} {refused:?}");
    let restarted = world.server(dealer, 2);
    let model = world.client(restarted, dealer, 1);
    let refused = loop {
        match tokens(&model, &[1, 2], 1) {
            (0, Some(refused)) => break refused,
            (1, None) => {}
            other => panic!("{other:?}"),
        }
    };
    let Refusal::Limit { what, seconds } = refused else { panic!("{refused}") };
    assert!(["3 tokens a day", "5 texts a day"].contains(&what.as_str()) && seconds <= 86_400, "{what}");
}

#[test]
fn an_identity_has_places_of_its_own_and_entries() {
    let mut world = World::new(TIMEOUT);
    let dealer = world.dealer();
    world.limits = limits("sessions=1 entries=prefill.4,decode.16");
    let server = world.server(dealer, 2);
    let model = world.client(server, dealer, 1);
    let (done, refused) = tokens(&model, &[1; 8], 1);
    assert_eq!((done, refused), (0, Some(Refusal::NotAllowed { what: "entry `prefill.8`".to_owned() })));
    // Four slots, and twelve after them.
    let (done, refused) = tokens(&model, &[1; 4], 20);
    assert_eq!((done, refused), (13, Some(Refusal::NotAllowed { what: "entry `decode.72`".to_owned() })));
    let mut first = loop {
        match model.begin(&[1], Noise::greedy(), &Cancel::default()) {
            Ok(session) => break session,
            // The one before has not left.
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    first.next(None).unwrap();
    let (done, refused) = tokens(&model, &[1], 1);
    assert!(done == 0 && matches!(refused, Some(Refusal::Busy { .. })), "{refused:?}");
    first.next(None).unwrap();
}

/// Texts that end at different places, or not at all, are the same to the server: as many steps, of the same bytes.
#[test]
fn a_text_of_fixed_length_does_not_tell_where_it_ends() {
    const TOKENS: usize = 12;
    let mut world = World::new(TIMEOUT);
    let dealer = world.dealer();
    let server = world.server(dealer, 2);
    let model = world.client(server, dealer, 1);
    let prompt = [20, 300, 41];
    let mut session = model.begin(&prompt, Noise::greedy(), &Cancel::default()).unwrap();
    let text: Vec<u32> = (0..TOKENS).map(|_| session.next(None).unwrap().token).collect();
    drop(session);
    let run = |ends: Vec<u32>, fixed_length: bool| -> (String, Finish, Totals) {
        let language = Language { ends, ..Language::beside(&file("tokenizer.json")).unwrap() };
        let settings = Settings { max_tokens: NonZeroUsize::new(TOKENS), fixed_length, ..Settings::default() };
        let mut generation = Generation::begin(&model, &language, &prompt, &settings, &Cancel::default()).unwrap();
        let mut all = String::new();
        loop {
            let advance = generation.advance().unwrap();
            all += &advance.text;
            if let Some(finish) = advance.finish {
                return (all, finish, generation.totals().clone());
            }
        }
    };
    let seen = |totals: &Totals| (totals.tokens, totals.sent_bytes, totals.received_bytes);
    let (whole, finish, of_whole) = run(Vec::new(), true);
    assert_eq!((finish, of_whole.tokens), (Finish::Length, TOKENS));
    for end in [0, 3, TOKENS - 1] {
        let (cut, _, of_cut) = run(vec![text[end]], false);
        let (shown, finish, of_shown) = run(vec![text[end]], true);
        assert_eq!(finish, Finish::Stop);
        assert_eq!(shown, cut, "nothing behind the end is shown");
        assert!(whole.starts_with(&shown) && of_cut.tokens <= end + 1);
        assert_eq!(seen(&of_shown), seen(&of_whole), "an end at {end}");
    }
}
