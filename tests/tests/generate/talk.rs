//! A conversation in one session: over sockets against the float model, and with a toy what it does when it cannot go on.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use sscc::graph::{self, Graph, Tensor};
use sscc::pipeline;
use tests::private;
use tests::processes::repository;
use tests::toy::Toy;
use text::{
    Answer, Began, Cancel, ChatTemplate, Conversation, Ended, Finish, Interrupt, Language, Model, Noise, Settings,
    Shown, Talk, Turn,
};

use crate::common::{World, burnt};

const TIMEOUT: Duration = Duration::from_secs(20);

fn language() -> Language {
    let tokenizer = repository().join("models/tiny-shakespeare/tokenizer.json");
    Language { chat: Ok(ChatTemplate::plain()), ..Language::beside(&tokenizer).unwrap() }
}

fn at_most(tokens: usize) -> Settings {
    Settings { max_tokens: NonZeroUsize::new(tokens), ..Settings::default() }
}

fn ask(talk: &mut Talk, text: &str) -> Answer {
    talk.ask(text, &mut |_| Ok(())).unwrap_or_else(|e| panic!("{e}"))
}

fn last<'t>(talk: &'t Talk) -> &'t Turn {
    talk.turns().last().unwrap()
}

/// The model as it was imported, in floats.
struct Float(Graph);

impl Float {
    fn new() -> Float {
        let from = repository().join("models/tiny-shakespeare");
        let mut options = private::generation(&from.join("model.onnx"), None, &[8], &[72]);
        options.generation.as_mut().unwrap().max_context = Some(64);
        Float(pipeline::import(&options).unwrap_or_else(|e| panic!("{e}")).1.graph)
    }

    /// The likeliest text of so many tokens after a prompt.
    fn text(&self, language: &Language, mut ids: Vec<u32>, tokens: usize) -> String {
        let prompt = ids.len();
        for _ in 0..tokens {
            ids.push(self.likeliest(&ids));
        }
        language.text.decode(&ids[prompt..]).unwrap()
    }

    fn likeliest(&self, ids: &[u32]) -> u32 {
        let input = self.0.node(self.0.inputs[0]);
        let row = ids.iter().map(|&id| i64::from(id)).chain(std::iter::repeat(0));
        let row = row.take(input.shape.iter().product()).collect();
        let row = Tensor::I64(ndarray::ArrayD::from_shape_vec(input.shape.clone(), row).unwrap());
        let inputs = BTreeMap::from([("input_ids".to_owned(), row)]);
        let outputs = graph::eval::evaluate(&self.0, &inputs, None, &mut |_, _| {}).unwrap();
        let Tensor::F32(logits) = &outputs[0].1 else { panic!("logits are floats") };
        let all: Vec<f32> = logits.iter().copied().collect();
        let row = all.chunks_exact(Toy::VOCABULARY).nth(ids.len() - 1).unwrap();
        (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap() as u32
    }
}

#[test]
fn a_conversation_is_one_session_and_says_what_the_float_model_does() {
    let mut world = World::new(TIMEOUT);
    let dealer = world.dealer();
    let server = world.server(dealer, 1);
    let model = world.client(server, dealer, 1);
    let (language, float) = (language(), Float::new());
    let mut talk = Talk::new(&model, &language, at_most(5), Interrupt::default()).unwrap();
    let (mut told, mut held, mut full) = (Conversation::new(), 0, 0);
    // Of the first session: bytes both ways, and tokens of its state.
    let mut first = (0, 0);
    for (turn, text) in
        ["ROMEO", "Who is it?", "Speak, I say", "And now", "What then, my lord?"].into_iter().enumerate()
    {
        let (mut shown, mut read) = (String::new(), 0);
        let answer = talk.ask(text, &mut |piece| {
            match piece {
                Shown::Read { .. } => read += 1,
                Shown::Text(text) => shown += text,
            }
            Ok(())
        });
        let answer = answer.unwrap_or_else(|e| panic!("{e}"));
        match &answer.began {
            Some(Began::Full { dropped }) => {
                full += 1;
                held = 0;
                told.messages.drain(..2 * dropped);
            }
            began => assert_eq!((began.is_some(), began == &Some(Began::First)), (turn == 0, turn == 0), "turn {turn}"),
        }
        told = told.with("user", text);
        let ids = language.conversation(&told).unwrap();
        assert_eq!(shown, float.text(&language, ids.clone(), 5), "turn {turn}");
        // What is new was read, and the rest was not.
        assert_eq!((answer.held, answer.grew), (ids.len() + 4, ids.len() + 4 - held), "turn {turn}");
        assert!(read > 0 && answer.left > 0 && answer.ended == Ended::Finished(Finish::Length));
        held = answer.held;
        if full == 0 {
            first = (first.0 + answer.totals.sent_bytes + answer.totals.received_bytes, held);
        }
        told = told.with("assistant", &last(&talk).text);
    }
    assert_eq!((full, talk.sessions()), (1, 2), "the context of 64 was full once");
    drop(talk);
    // Turns cost what their tokens cost in one text: after a prompt of 8 tokens, a step for each.
    let mut text = model.begin(&[1; 8], Noise::greedy(), &Cancel::default()).unwrap();
    let steps = (8..=first.1).map(|_| text.next(None).unwrap());
    assert_eq!(steps.map(|step| step.sent_bytes + step.received_bytes).sum::<u64>(), first.0);
    drop(text);
    assert_eq!(burnt(&world.folder.path().join("server")).len(), 3);
}

#[test]
fn what_a_state_cannot_go_on_with_begins_anew() {
    let mut language = language();
    let speech = language.text.encode(" Good morrow, cousin").unwrap();
    let toy = Toy::new(speech.clone());
    let began = |language: &Language, settings: Settings, turns: &[&str]| {
        let mut talk = Talk::new(&toy, language, settings, Interrupt::default()).unwrap();
        let began: Vec<_> = turns.iter().map(|text| ask(&mut talk, text).began).collect();
        (began, last(&talk).text.clone())
    };
    let turns = &["a", "b"];
    let on = (vec![Some(Began::First), None], "Good morrow, cousin".to_owned());
    assert_eq!(began(&language, Settings::default(), turns), on);
    let anew = vec![Some(Began::First), Some(Began::Rewritten)];
    // Tokens of the stop string are in the state, and not in the conversation.
    let stop = Settings { stop: vec![", c".to_owned()], ..Settings::default() };
    assert_eq!(began(&language, stop, turns), (anew.clone(), "Good morrow".to_owned()));
    // A template that writes earlier answers otherwise.
    let upper = "{% for m in messages %}{{ m.role }}: {{ m.content | upper }}\n{% endfor %}assistant:";
    language.chat = ChatTemplate::new(upper.to_owned(), BTreeMap::default());
    assert_eq!(began(&language, Settings::default(), turns), (anew, " Good morrow, cousin".to_owned()));
    assert_eq!(toy.counters().sessions.load(std::sync::atomic::Ordering::SeqCst), 0, "all have ended");
}

#[test]
fn a_full_context_drops_the_oldest_turns() {
    let language = language();
    let toy = Toy::new(language.text.encode(" Good morrow, cousin").unwrap());
    let mut talk = Talk::new(&toy, &language, Settings::default(), Interrupt::default()).unwrap();
    talk.begin(Some("Obey.".to_owned()));
    let answers: Vec<_> = (0..12).map(|_| ask(&mut talk, "And so on")).collect();
    let full = |answer: &Answer| matches!(answer.began, Some(Began::Full { dropped: 1.. }));
    let times = answers.iter().filter(|answer| full(answer)).count();
    assert!((2..6).contains(&times), "{times} times full: half of the context is free each time");
    assert_eq!(talk.turns().len(), 24, "none is forgotten");
    assert!(answers.iter().all(|answer| answer.held + answer.left < toy.limits().context));
    // A turn that is too long by itself is refused, and the conversation goes on.
    let error = talk.ask(&"And so on ".repeat(60), &mut |_| Ok(())).expect_err("too long");
    assert!(error.to_string().ends_with("the program takes 63"), "{error}");
    assert_eq!((talk.turns().len(), ask(&mut talk, "x").ended), (24, Ended::Finished(Finish::Stop)));
}

#[test]
fn an_answer_that_is_stopped_stands_and_its_session_goes_on() {
    let language = language();
    let toy = Toy::new(language.text.encode(" Good morrow").unwrap());
    let interrupt = Interrupt::default();
    assert!(!interrupt.interrupt(), "no answer runs");
    let mut talk = Talk::new(&toy, &language, Settings::default(), interrupt.clone()).unwrap();
    let stopped = talk.ask("x", &mut |shown| {
        if matches!(shown, Shown::Text(_)) {
            assert!(interrupt.interrupt());
        }
        Ok(())
    });
    assert_eq!(stopped.unwrap().ended, Ended::Stopped);
    let text = last(&talk).text.clone();
    assert!(text.len() < 10 && "Good morrow".starts_with(&text), "{text}");
    let answer = ask(&mut talk, "Go on");
    assert_eq!((answer.began, answer.ended), (None, Ended::Finished(Finish::Stop)));
    // Twice ends the session; before the first token the turn is forgotten.
    let broken = talk.ask("x", &mut |shown| {
        if matches!(shown, Shown::Read { .. }) {
            assert!(interrupt.interrupt() && interrupt.interrupt());
        }
        Ok(())
    });
    assert_eq!(broken.map(|answer| answer.ended).ok(), Some(Ended::Stopped));
    assert_eq!(talk.turns().len(), 4);
    let answer = ask(&mut talk, "And now");
    assert!(matches!(answer.began, Some(Began::Lost(_))), "{:?}", answer.began);
    interrupt.end();
    assert!(talk.ask("x", &mut |_| Ok(())).is_ok_and(|answer| answer.totals.tokens == 0));
}
