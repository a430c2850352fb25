//! The endpoint over plain HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::toy::{Misfortune, Toy, fault};
use text::serve::Caps;
use text::{Cancel, ChatTemplate, Finish, Generation, Settings, SpecialTokens};

use crate::common::{SPEECH, Served, TOKEN, caps, eventually, language, text, toy};

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";

/// A request for a text after "Hark", greedily.
fn hark(more: Value) -> Value {
    let mut body = json!({"model": "toy", "prompt": "Hark", "temperature": 0, "max_tokens": 60});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn ask_for(what: Misfortune) -> Value {
    hark(json!({"prompt": [5, fault(what)]}))
}

#[test]
fn completions() {
    let served = Served::start(toy(), caps());
    let answer = served.post(COMPLETIONS, &hark(json!({}))).json();
    assert_eq!(answer["object"], "text_completion");
    assert_eq!(answer["model"], "toy");
    assert!(answer["id"].as_str().unwrap().starts_with("cmpl-") && answer["created"].as_u64().unwrap() > 1_700_000_000);
    assert!(answer["system_fingerprint"].as_str().unwrap().contains("no third party"));
    let choice = json!({"index": 0, "text": SPEECH, "logprobs": null, "finish_reason": "stop"});
    assert_eq!(answer["choices"], json!([choice]));
    let (asked, said) = (text().encode("Hark").unwrap().len(), text().encode(SPEECH).unwrap().len() + 1);
    let usage = json!({"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said});
    assert_eq!(answer["usage"], usage);
    // 16 tokens unless told otherwise; token ids and lists of one are prompts; stop strings.
    let short = served.post(COMPLETIONS, &json!({"prompt": [[5, 6]], "temperature": 0})).json();
    assert_eq!(short["usage"]["completion_tokens"], 16);
    assert_eq!(short["choices"][0]["finish_reason"], "length");
    let stopped = served.post(COMPLETIONS, &hark(json!({"prompt": ["Hark"], "stop": ["x", "cousin"]}))).json();
    assert_eq!(stopped["choices"][0]["text"], "Good morrow, ");
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
}

#[test]
fn completions_as_a_stream() {
    let served = Served::start(toy(), caps());
    let body = hark(json!({"stream": true, "stream_options": {"include_usage": true}}));
    let mut events = served.post(COMPLETIONS, &body).events();
    assert_eq!(events.pop().unwrap(), "[DONE]");
    let pieces: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    assert!(pieces.iter().all(|p| p["object"] == "text_completion" && p["id"] == pieces[0]["id"]));
    let words: Vec<&str> = pieces.iter().filter_map(|p| p["choices"][0]["text"].as_str()).collect();
    assert_eq!(words.concat(), SPEECH);
    assert!(words.len() > 10, "text comes as it is made");
    let [.., end, counts] = pieces.as_slice() else { panic!("pieces") };
    assert_eq!(end["choices"][0]["finish_reason"], "stop");
    assert_eq!(
        (counts["choices"].clone(), counts["usage"]["completion_tokens"].as_u64().unwrap() > 10),
        (json!([]), true)
    );
    let events = served.post(COMPLETIONS, &hark(json!({"stream": true}))).events();
    assert!(events.iter().all(|event| !event.contains("usage")));
}

#[test]
fn chats() {
    let served = Served::start(toy(), caps());
    let body = json!({
        "model": "toy", "temperature": 0,
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        ],
    });
    let answer = served.post(CHAT, &body).json();
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["choices"][0]["message"], json!({"role": "assistant", "content": SPEECH, "refusal": null}));
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let prompt = text().encode("Be brief.\n\nUser: Hi\nAssistant:").unwrap();
    assert_eq!(answer["usage"]["prompt_tokens"], prompt.len());

    let mut body = body;
    body["stream"] = json!(true);
    body["max_completion_tokens"] = json!(5);
    let mut events = served.post(CHAT, &body).events();
    assert_eq!(events.pop().unwrap(), "[DONE]");
    let pieces: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    assert!(pieces.iter().all(|p| p["object"] == "chat.completion.chunk"));
    assert_eq!(pieces[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    let words: String = pieces.iter().filter_map(|p| p["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(words, text().decode(&text().encode(SPEECH).unwrap()[..5]).unwrap());
    let end = &pieces.last().unwrap()["choices"][0];
    assert_eq!((&end["delta"], &end["finish_reason"]), (&json!({}), &json!("length")));
}

#[test]
fn a_model_without_a_template_does_not_chat() {
    let served = Served::with(toy(), caps(), None);
    let body = json!({"messages": [{"role": "user", "content": "Hi"}]});
    let answer = served.post(CHAT, &body);
    assert_eq!(answer.error(), (400, "invalid_value".to_owned(), Some("messages".to_owned())));
    let message = served.post(CHAT, &body).text();
    assert!(message.contains("/v1/completions") && message.contains("--chat-template"), "{message}");
}

#[test]
fn tools_and_calls_reach_the_template() {
    let source = "{{ tools | tojson if tools else '-' }}{% for m in messages %}{{ m.role }}:{{ m.content }}\
        {% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}\
        {{ m.name or '' }};{% endfor %}{{ mood }}";
    let template = ChatTemplate::new(source.to_owned(), SpecialTokens::new()).unwrap();
    let served = Served::with(toy(), caps(), Some(template));
    // The body as a client writes it: keys in its order.
    let tool = r#"{"type":"function","function":{"name":"f","parameters":{"z":1,"a":2}}}"#;
    let messages = r#"[{"role":"user","content":"x","name":"ann"},{"content":null,"role":"assistant","refusal":null,"tool_calls":
        [{"id":"c","type":"function","function":{"name":"f","arguments":"{\"b\": 1, \"a\": [2]}"}}]},
        {"role":"tool","tool_call_id":"c","content":"5"}]"#;
    let asked = |more: &str| {
        let body = format!(r#"{{"messages": {messages}, "temperature": 0{more}}}"#);
        served.send(CHAT, &body, Some(&format!("Bearer {TOKEN}"))).json()["usage"]["prompt_tokens"].clone()
    };
    let tokens = |prompt: String| json!(text().encode(&prompt).unwrap().len());
    let turns = r#"user:xann;assistant:Nonef{"b": 1, "a": [2]};tool:5;"#;
    let schema = r#"[{"type": "function", "function": {"name": "f", "parameters": {"z": 1, "a": 2}}}]"#;
    assert_eq!(asked(""), tokens(format!("-{turns}")));
    assert_eq!(asked(&format!(r#", "tools": [{tool}], "tool_choice": "none""#)), tokens(format!("-{turns}")));
    let kwargs = r#", "chat_template_kwargs": {"mood": "glad"}"#;
    assert_eq!(asked(kwargs), tokens(format!("-{turns}glad")));
    // Too long for the toy is how it says that the tools are there.
    let body = format!(r#"{{"messages": {messages}, "tools": [{tool}], "tool_choice": "auto"}}"#);
    let refused = served.send(CHAT, &body, Some(&format!("Bearer {TOKEN}"))).text();
    let length = text().encode(&format!("{schema}{turns}")).unwrap().len();
    assert!(length > 48 && refused.contains(&format!("the prompt has {length} tokens")), "{length}: {refused}");
}

#[test]
fn a_stop_string_can_name_a_token() {
    let script = [text().encode("Good").unwrap(), vec![0], text().encode(" morrow").unwrap()].concat();
    let mut language = language();
    language.ends.clear();
    let toy = Toy::new(script);
    let said = |stop: &[&str]| {
        let stop = stop.iter().map(|s| (*s).to_owned()).collect();
        let settings = Settings { stop, max_tokens: NonZeroUsize::new(9), ..Settings::default() };
        let mut generation = Generation::begin(&toy, &language, &[5], &settings, &Cancel::default()).unwrap();
        let mut all = String::new();
        loop {
            let step = generation.advance().unwrap();
            all += &step.text;
            if let Some(finish) = step.finish {
                return (all, finish);
            }
        }
    };
    assert_eq!(said(&["<|endoftext|>"]), ("Good".to_owned(), Finish::Stop));
    // A token that ends nothing parts what stands around it.
    assert_eq!(said(&[]).0, "Good morrow");
}

#[test]
fn pages_of_named_origins_read_answers() {
    let served = Served::shared(toy(), caps(), &["http://localhost:3000"]);
    let asked = |method: &str, origin: &str, more: &str| {
        let head =
            format!("{method} /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\norigin: {origin}\r\n{more}\r\n");
        exchange(&served, head.as_bytes()).to_ascii_lowercase()
    };
    let bearer = format!("authorization: Bearer {TOKEN}\r\n");
    let preflight = "access-control-request-method: POST\r\naccess-control-request-headers: authorization\r\n";
    let answer = asked("OPTIONS", "http://localhost:3000", preflight);
    assert!(answer.starts_with("http/1.1 204"), "{answer}");
    for line in ["access-control-allow-origin: http://localhost:3000", "access-control-allow-headers: authorization, "]
    {
        assert!(answer.contains(line), "{line} in {answer}");
    }
    let answer = asked("GET", "http://localhost:3000", &bearer);
    assert!(answer.starts_with("http/1.1 200") && answer.contains("access-control-allow-origin"), "{answer}");
    // Without the token there is nothing to read, and other origins are told nothing.
    let answer = asked("GET", "http://localhost:3000", "");
    assert!(answer.starts_with("http/1.1 401") && answer.contains("access-control-allow-origin"), "{answer}");
    for method in ["GET", "OPTIONS"] {
        let answer = asked(method, "http://evil.example", &(bearer.clone() + preflight));
        assert!(!answer.contains("access-control"), "{answer}");
    }
    let served = Served::start(toy(), caps());
    let head = format!("GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\norigin: http://a\r\n{bearer}\r\n");
    assert!(!exchange(&served, head.as_bytes()).contains("access-control"));
}

#[test]
fn a_body_that_is_too_long_ends_the_connection() {
    let served = Served::start(toy(), caps());
    // As curl does for a long body: it waits to be told to go on, and is told otherwise.
    let head = format!(
        "POST {COMPLETIONS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 90000000\r\n\
         expect: 100-continue\r\n\r\n"
    );
    let answer = exchange(&served, head.as_bytes()).to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 413") && answer.contains("connection: close"), "{answer}");
}

/// What comes back until the connection is closed.
fn exchange(served: &Served, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(served.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

#[test]
fn samples_follow_seed_and_temperature() {
    let served = Served::start(toy(), caps());
    let sample = |more| served.post(COMPLETIONS, &hark(more)).json()["choices"][0]["text"].clone();
    let hot = json!({"temperature": 1.5, "seed": -3});
    assert_eq!(sample(hot.clone()), sample(hot.clone()));
    assert_ne!(sample(hot), sample(json!({"temperature": 1.5, "seed": 4})));
    // The default is 1, as OpenAI has it; 0 where there is no place for noise.
    assert_ne!(sample(json!({"temperature": null, "seed": 1})), SPEECH);
    let greedy = Served::start(Toy::greedy(text().encode(SPEECH).unwrap()), caps());
    assert_eq!(greedy.post(COMPLETIONS, &hark(json!({"temperature": null}))).json()["choices"][0]["text"], SPEECH);
    let error = greedy.post(COMPLETIONS, &hark(json!({"temperature": 0.5}))).error();
    assert_eq!(error, (400, "invalid_value".to_owned(), Some("temperature".to_owned())));
}

#[test]
fn parameters_at_fault_are_named() {
    let served = Served::start(toy(), caps());
    let completion = |more: Value| served.post(COMPLETIONS, &hark(more)).error();
    for (more, code, param) in [
        (json!({"n": 2}), "unsupported_parameter", "n"),
        (json!({"best_of": 3}), "unsupported_parameter", "best_of"),
        (json!({"top_p": 0.9}), "unsupported_parameter", "top_p"),
        (json!({"top_k": 40}), "unsupported_parameter", "top_k"),
        (json!({"logprobs": 0}), "unsupported_parameter", "logprobs"),
        (json!({"presence_penalty": 0.5}), "unsupported_parameter", "presence_penalty"),
        (json!({"logit_bias": {"5": 1}}), "unsupported_parameter", "logit_bias"),
        (json!({"echo": true}), "unsupported_parameter", "echo"),
        (json!({"suffix": "x"}), "unsupported_parameter", "suffix"),
        (json!({"prompt": ["a", "b"]}), "unsupported_parameter", "prompt"),
        (json!({"prompt": 5}), "invalid_type", "prompt"),
        (json!({"prompt": null}), "invalid_type", "prompt"),
        (json!({"prompt": [5, -1]}), "invalid_type", "prompt"),
        (json!({"prompt": ""}), "invalid_value", "prompt"),
        (json!({"prompt": [5, 1024]}), "invalid_value", "prompt"),
        (json!({"prompt": vec![5; 49]}), "context_length_exceeded", "prompt"),
        (json!({"max_tokens": 0}), "invalid_type", "max_tokens"),
        (json!({"max_tokens": 2.5}), "invalid_type", "max_tokens"),
        (json!({"temperature": "hot"}), "invalid_type", "temperature"),
        (json!({"temperature": 2.5}), "invalid_value", "temperature"),
        (json!({"seed": 0.5}), "invalid_type", "seed"),
        (json!({"stop": ["a", "b", "c", "d", "e"]}), "invalid_type", "stop"),
        (json!({"stop": ""}), "invalid_type", "stop"),
        (json!({"stream": "yes"}), "invalid_type", "stream"),
        (json!({"stream_options": {"color": 1}}), "unknown_parameter", "color"),
        (json!({"max_tokns": 5}), "unknown_parameter", "max_tokns"),
    ] {
        assert_eq!(completion(more.clone()), (400, code.to_owned(), Some(param.to_owned())), "{more}");
    }
    let chat = |more: Value| {
        let mut body = json!({"messages": [{"role": "user", "content": "Hi"}], "temperature": 0});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        served.post(CHAT, &body)
    };
    for (more, code, param) in [
        (json!({"tools": [{"type": "function"}]}), "invalid_value", "tools[0]"),
        (json!({"tools": {}}), "invalid_value", "tools"),
        (json!({"chat_template_kwargs": 5}), "invalid_value", "chat_template_kwargs"),
        (json!({"tool_choice": {"type": "function"}}), "unsupported_parameter", "tool_choice"),
        (json!({"tool_choice": "required"}), "unsupported_parameter", "tool_choice"),
        (json!({"response_format": {"type": "json_object"}}), "unsupported_parameter", "response_format"),
        (json!({"logprobs": true}), "unsupported_parameter", "logprobs"),
        (json!({"messages": []}), "invalid_value", "messages"),
        (json!({"messages": "Hi"}), "invalid_value", "messages"),
        (json!({"messages": ["Hi"]}), "invalid_value", "messages[0].role"),
        (json!({"messages": [{"role": "critic", "content": "5"}]}), "invalid_value", "messages[0].role"),
        (json!({"messages": [{"role": "user", "content": null}]}), "invalid_value", "messages[0].content"),
        (
            json!({"messages": [{"role": "assistant", "content": null, "tool_calls": [{"id": "c"}]}]}),
            "invalid_value",
            "messages[0].tool_calls[0]",
        ),
        (json!({"messages": [{"role": "user"}]}), "invalid_value", "messages[0].content"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}),
            "invalid_value",
            "messages[0].content[0]",
        ),
    ] {
        assert_eq!(chat(more.clone()).error(), (400, code.to_owned(), Some(param.to_owned())), "{more}");
    }
    // What changes nothing is no fault.
    let harmless = json!({
        "n": 1, "top_p": 1.0, "logprobs": false, "tools": [], "tool_choice": "auto", "presence_penalty": 0,
        "response_format": {"type": "text"}, "user": "me", "metadata": {"a": "b"}, "store": false, "seed": 5,
        "parallel_tool_calls": true, "stop": null, "stream": false, "stream_options": null,
    });
    assert_eq!(chat(harmless).json()["choices"][0]["message"]["content"], SPEECH);
    let missing = served.post(COMPLETIONS, &json!({"model": "toy"})).error();
    assert_eq!(missing, (400, "missing_required_parameter".to_owned(), Some("prompt".to_owned())));
    let error = completion(json!({"model": "gpt-4"}));
    assert_eq!(error, (404, "model_not_found".to_owned(), Some("model".to_owned())));
    assert_eq!(served.counters.tokens.load(Ordering::SeqCst) as usize, text().encode(SPEECH).unwrap().len() + 1);
}

#[test]
fn bodies_at_fault_are_refused() {
    let served = Served::start(toy(), caps());
    let bearer = format!("Bearer {TOKEN}");
    let sent = |body: &str| served.send(COMPLETIONS, body, Some(&bearer)).error();
    assert_eq!(sent("{").1, "invalid_json");
    assert_eq!(sent("[]").1, "invalid_type");
    assert_eq!(sent(&"[".repeat(5000)).1, "invalid_json");
    let (status, code, _) = sent(&format!("{{\"prompt\": \"{}\"}}", "x".repeat(20_000)));
    assert_eq!((status, code.as_str()), (413, "request_too_large"));
}

#[test]
fn the_token_is_needed() {
    let served = Served::start(toy(), caps());
    let body = hark(json!({})).to_string();
    for bad in [None, Some(""), Some("Bearer "), Some("Bearer wrong-token-0123456"), Some(TOKEN), Some("Basic eDp5")] {
        let answer = served.send(COMPLETIONS, &body, bad);
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        assert_eq!(answer.error(), (401, "invalid_api_key".to_owned(), None), "{bad:?}");
    }
    assert_eq!(served.send(COMPLETIONS, &body, Some(&format!("bearer {TOKEN}"))).status(), 200);
    for path in ["/v1/models", "/metrics", "/nowhere"] {
        let bare = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        assert_eq!(bare.get(format!("{}{path}", served.base)).call().unwrap().status(), 401, "{path}");
        assert_eq!(bare.get(format!("{}/health", served.base)).call().unwrap().status(), 200);
    }
}

#[test]
fn other_paths() {
    let served = Served::start(toy(), caps());
    assert_eq!(served.get("/health").json(), json!({"status": "ok"}));
    let list = served.get("/v1/models").json();
    assert_eq!((&list["object"], &list["data"][0]["id"]), (&json!("list"), &json!("toy")));
    let model = &list["data"][0];
    assert_eq!(
        (&model["context_length"], &model["max_prompt_tokens"], &model["chat"]),
        (&json!(64), &json!(48), &json!(true))
    );
    assert_eq!((&model["preprocessing"], &model["links"]), (&json!("no third party"), &json!("encrypted links")));
    assert_eq!(served.get("/v1/models/toy").json()["object"], "model");
    assert_eq!(served.get("/v1/models/other").error().1, "model_not_found");
    assert_eq!(served.get("/v1/embeddings").error(), (404, "not_found".to_owned(), None));
    assert_eq!(served.get(COMPLETIONS).error(), (405, "method_not_allowed".to_owned(), None));
}

#[test]
fn failures_are_told_and_counted() {
    let served = Served::start(toy(), caps());
    for (what, status, code) in [
        (Misfortune::NoServer, 502, "session_failed"),
        (Misfortune::Breaks, 502, "session_failed"),
        (Misfortune::Material, 503, "material_used_up"),
        (Misfortune::Panics, 500, "internal_error"),
    ] {
        let answer = served.post(COMPLETIONS, &ask_for(what));
        assert_eq!(answer.header("x-should-retry"), "false", "another try is the person's decision");
        assert_eq!(answer.error(), (status, code.to_owned(), None));
    }
    let message = served.post(COMPLETIONS, &ask_for(Misfortune::NoServer)).text();
    assert!(message.contains("no server at 127.0.0.1:9") && message.contains("try: start it"), "{message}");
    // Before a stream has begun a failure is a status; then it is an event, and the last one.
    let mut body = ask_for(Misfortune::NoServer);
    body["stream"] = json!(true);
    assert_eq!(served.post(COMPLETIONS, &body).error().0, 502);
    for (what, code) in [(Misfortune::Breaks, "session_failed"), (Misfortune::Panics, "internal_error")] {
        body["prompt"] = json!([fault(what)]);
        let events = served.post(COMPLETIONS, &body).events();
        let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
        assert_eq!((&last["error"]["code"], &last["error"]["type"]), (&json!(code), &json!("server_error")));
        assert!(events.len() > 1);
    }
    // Slots and gauges are as before.
    assert_eq!(served.post(COMPLETIONS, &hark(json!({}))).status(), 200);
    let metrics = served.get("/metrics").text();
    for line in [
        "ssvm_failures_total{code=\"session_failed\"} 5",
        "ssvm_failures_total{code=\"internal_error\"} 2",
        "ssvm_failures_total{code=\"material_used_up\"} 1",
        "ssvm_running_requests 0",
        "ssvm_requests_total{path=\"/v1/completions\",status=\"502\"} 4",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
}

#[test]
fn metrics_count() {
    let served = Served::start(toy(), caps());
    let usage = served.post(COMPLETIONS, &hark(json!({}))).json()["usage"].clone();
    let answer = served.get("/metrics");
    assert!(answer.header("content-type").starts_with("application/openmetrics-text"));
    let metrics = answer.text();
    let tokens = usage["completion_tokens"].as_u64().unwrap();
    for line in [
        format!("ssvm_prompt_tokens_total {}", usage["prompt_tokens"]),
        format!("ssvm_tokens_total {tokens}"),
        format!("ssvm_token_seconds_count {tokens}"),
        format!("ssvm_sent_bytes_total {}", 1000 * tokens),
        format!("ssvm_received_bytes_total {}", 2000 * tokens),
        format!("ssvm_material_tokens {}", 500 - tokens),
        "ssvm_requests_total{path=\"/v1/completions\",status=\"200\"} 1".to_owned(),
        "# EOF".to_owned(),
    ] {
        assert!(metrics.contains(&line), "{line} in\n{metrics}");
    }
}

#[test]
fn requests_run_side_by_side_up_to_a_limit() {
    let served = Served::start(toy(), caps());
    let limit = caps().requests;
    std::thread::scope(|scope| {
        let slow: Vec<_> =
            (0..limit).map(|_| scope.spawn(|| served.post(COMPLETIONS, &ask_for(Misfortune::Slow)).json())).collect();
        eventually("all sessions run", || served.counters.sessions.load(Ordering::SeqCst) == limit);
        let busy = served.post(COMPLETIONS, &hark(json!({})));
        assert_eq!(busy.header("retry-after"), "1");
        assert_eq!(busy.error(), (429, "rate_limit_exceeded".to_owned(), None));
        for answer in slow {
            assert_eq!(answer.join().unwrap()["choices"][0]["text"], SPEECH);
        }
    });
    assert_eq!(served.post(COMPLETIONS, &hark(json!({}))).status(), 200);
}

#[test]
fn one_slot_serves_request_after_request() {
    let served = Served::start(toy(), Caps { requests: 1, ..caps() });
    for _ in 0..20 {
        assert_eq!(served.post(COMPLETIONS, &hark(json!({}))).status(), 200);
        assert_eq!(served.post(COMPLETIONS, &hark(json!({"stream": true}))).events().last().unwrap(), "[DONE]");
    }
}

#[test]
fn answers_have_a_length_and_a_deadline() {
    let short = Caps { tokens: NonZeroUsize::new(3).unwrap(), deadline: Duration::from_millis(200), ..caps() };
    let served = Served::start(toy(), short);
    let answer = served.post(COMPLETIONS, &hark(json!({}))).json();
    assert_eq!(
        (&answer["usage"]["completion_tokens"], &answer["choices"][0]["finish_reason"]),
        (&json!(3), &json!("length"))
    );
    // Two tokens in a second and more.
    let begin = Instant::now();
    assert_eq!(served.post(COMPLETIONS, &ask_for(Misfortune::Deaf)).error(), (504, "timeout".to_owned(), None));
    assert!(begin.elapsed() < Toy::DEAF, "it does not wait for a session that does not listen");
    let mut body = ask_for(Misfortune::Deaf);
    body["stream"] = json!(true);
    let events = served.post(COMPLETIONS, &body).events();
    assert!(events.last().unwrap().contains("\"timeout\""), "{events:?}");
}

/// A connection that has sent a request.
fn raw(served: &Served, body: &Value) -> TcpStream {
    let mut stream = TcpStream::connect(served.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let body = body.to_string();
    let head = format!(
        "POST {COMPLETIONS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).unwrap();
    stream
}

#[test]
fn a_client_that_goes_away_cancels() {
    let served = Served::start(toy(), caps());
    let all = text().encode(SPEECH).unwrap().len() as u64 + 1;
    for stream in [false, true] {
        let before = served.counters.tokens.load(Ordering::SeqCst);
        let mut body = ask_for(Misfortune::Slow);
        body["stream"] = json!(stream);
        let connection = raw(&served, &body);
        eventually("the session runs", || served.counters.sessions.load(Ordering::SeqCst) == 1);
        if stream {
            let mut line = String::new();
            let mut reader = BufReader::new(&connection);
            while !line.starts_with("data: ") {
                line.clear();
                reader.read_line(&mut line).unwrap();
            }
        }
        drop(connection);
        eventually("the session ends", || served.counters.sessions.load(Ordering::SeqCst) == 0);
        assert!(served.counters.tokens.load(Ordering::SeqCst) < before + all, "the text did not come to its end");
    }
}

#[test]
fn a_stop_ends_answers_and_connections() {
    let mut served = Served::start(toy(), caps());
    let mut idle = TcpStream::connect(served.address).unwrap();
    let mut body = ask_for(Misfortune::Slow);
    let mut whole = raw(&served, &body);
    body["stream"] = json!(true);
    let mut streamed = raw(&served, &body);
    eventually("two sessions run", || served.counters.sessions.load(Ordering::SeqCst) == 2);
    eventually("tokens come", || served.counters.tokens.load(Ordering::SeqCst) > 2);
    assert!(served.stop() < Duration::from_secs(3));
    let mut text = String::new();
    whole.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 503") && text.contains("shutting_down"), "{text}");
    text.clear();
    streamed.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("shutting_down") && !text.contains("[DONE]"), "{text}");
    let _ = idle.read(&mut [0]);
    eventually("sessions end", || served.counters.sessions.load(Ordering::SeqCst) == 0);
    assert!(TcpStream::connect(served.address).is_err());
}
