//! Chat templates and tokenizers against the libraries that models are published with.
//!
//! The expected texts and ids in `data/text` are written by `tests/conformance/chat_template.py` with transformers and tokenizers.
#![cfg(feature = "text")]

use rao_backends::text::{ChatTemplate, CivilTime, Conversation, TextError, Tokenizer};
use rao_tree::Token;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What the script tells `strftime_now`.
const NOW: i64 = 1_764_090_005;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/text").join(name)
}

fn read(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(data(name)).unwrap()).unwrap()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn qwen() -> Tokenizer {
    Tokenizer::load(&data("qwen")).unwrap()
}

/// A directory with these files.
fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

/// A copy of Qwen's directory, in which `name` is another text.
fn changed(name: &str, text: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(data("qwen")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), directory.path().join(entry.file_name())).unwrap();
    }
    std::fs::write(directory.path().join(name), text).unwrap();
    directory
}

fn conversation(messages: &[Value]) -> Conversation<'_> {
    Conversation {
        messages,
        now: Some(CivilTime::from_unix(NOW)),
        ..Conversation::default()
    }
}

/// Renders every case of a directory; returns how many are texts and how many are refused, as they are by transformers.
fn compare(name: &str) -> (usize, usize) {
    let template = ChatTemplate::load(&data(name)).unwrap();
    let cases = &read("renders.json")[name];
    let (mut texts, mut refused) = (0, 0);
    for case in array(cases) {
        let rendered = template.render(&Conversation {
            tools: array(&case["tools"]),
            add_generation_prompt: case["add_generation_prompt"].as_bool().unwrap_or(false),
            options: case["options"].as_object(),
            ..conversation(array(&case["messages"]))
        });
        let label = format!("{name}: {}", case["name"]);
        match (rendered, case["expected"].as_str()) {
            (Ok(text), Some(expected)) => {
                // Lines first: a difference is then a line, not two pages.
                let lines = text.lines().zip(expected.lines());
                let other: Vec<_> = lines.filter(|(text, expected)| text != expected).collect();
                assert!(other.is_empty(), "{label}: {other:#?}");
                assert_eq!(text, expected, "{label}");
                texts += 1;
            }
            (Err(TextError::Template { .. } | TextError::Refused { .. }), None) => refused += 1,
            (rendered, expected) => panic!("{label}: {rendered:?} where transformers has {expected:?}"),
        }
    }
    (texts, refused)
}

#[test]
fn qwen3_renders_as_transformers_renders_it() {
    assert_eq!(compare("qwen"), (54, 0));
}

#[test]
fn plainer_templates_render_as_transformers_renders_them() {
    assert_eq!(compare("plain"), (8, 1));
}

#[test]
fn constructs_mean_what_they_mean_in_jinja2() {
    assert_eq!(compare("constructs"), (2, 5));
}

#[test]
fn text_has_the_ids_that_tokenizers_gives_it() {
    let tokenizer = qwen();
    let cases = read("tokens.json");
    assert!(array(&cases).len() >= 100);
    for case in array(&cases) {
        let text = case["text"].as_str().unwrap();
        let expected: Vec<Token> = array(&case["ids"])
            .iter()
            .map(|id| Token(id.as_u64().unwrap() as u32))
            .collect();
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(ids, expected, "{text:?}");
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), case["decoded"], "{text:?}");
        assert_eq!(
            tokenizer.decode(&ids, true).unwrap(),
            case["decoded_without_special"],
            "{text:?}"
        );
        for id in ids {
            assert_eq!(tokenizer.id(&tokenizer.token(id).unwrap()), Some(id));
        }
    }
}

#[test]
fn a_directory_says_what_its_tokens_are_for() {
    let tokenizer = qwen();
    assert_eq!(tokenizer.len(), 534);
    assert_eq!(
        (tokenizer.bos(), tokenizer.eos(), tokenizer.pad()),
        (None, Some(Token(522)), Some(Token(520)))
    );
    assert_eq!(tokenizer.stops(), [Token(522), Token(520)]);
    assert_eq!(tokenizer.token(Token(521)).as_deref(), Some("<|im_start|>"));
    assert_eq!(tokenizer.id("<think>"), Some(Token(532)));
    assert_eq!(tokenizer.id("no such token"), None);
    assert_eq!(tokenizer.token(Token(534)), None);
    assert_eq!(
        tokenizer.decode(&[Token(534), Token(64)], false).unwrap(),
        tokenizer.decode(&[Token(64)], false).unwrap()
    );

    // Objects instead of texts, in the older of the two files; a list without `eos_token` in the others.
    let directory = changed("tokenizer_config.json", "{}");
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write(
        "special_tokens_map.json",
        r#"{"bos_token": {"content": "<|im_start|>"}}"#,
    );
    write("generation_config.json", "{}");
    write("config.json", r#"{"eos_token_id": 522, "pad_token_id": 520}"#);
    let tokenizer = Tokenizer::load(directory.path()).unwrap();
    assert_eq!(tokenizer.bos(), Some(Token(521)));
    assert_eq!(
        (tokenizer.eos(), tokenizer.stops(), tokenizer.pad()),
        (Some(Token(522)), &[Token(522)][..], Some(Token(520)))
    );
}

#[test]
fn text_is_neither_cut_nor_padded() {
    let mut definition: Value = read("qwen/tokenizer.json");
    definition["truncation"] = json!({"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0});
    definition["padding"] = json!({"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 520,
        "pad_type_id": 0, "pad_token": "<|endoftext|>"});
    let directory = changed("tokenizer.json", &definition.to_string());
    let text = "The agent crafts planks from logs.";
    let ids = Tokenizer::load(directory.path()).unwrap().encode(text).unwrap();
    assert_eq!(ids, qwen().encode(text).unwrap());
    assert!(ids.len() > 3);
}

#[test]
fn more_white_space_than_the_pattern_can_take_is_refused() {
    let tokenizer = qwen();
    let blank = " ".repeat(499_999);
    let ids = tokenizer.encode(&format!("{blank}a")).unwrap();
    assert_eq!(tokenizer.token(ids[ids.len() - 1]).as_deref(), Some("Ġa"));
    let error = tokenizer.encode(&format!("a{blank}\n")).unwrap_err();
    assert!(matches!(error, TextError::WhiteSpace { max: 499_999, .. }), "{error}");
}

#[test]
fn a_tokenizer_that_is_larger_than_the_model_is_refused() {
    let tokenizer = qwen();
    tokenizer.check_fits(534).unwrap();
    tokenizer.check_fits(640).unwrap();
    let error = tokenizer.check_fits(533).unwrap_err().to_string();
    assert!(
        error.contains("534") && error.contains("533") && error.contains("tokenizer.json"),
        "{error}"
    );
    assert_eq!(tokenizer.fingerprint(533).unwrap_err().to_string(), error);
    // What rows are called makes the fingerprint, those without a token included.
    let prints = [534, 535].map(|rows| tokenizer.fingerprint(rows).unwrap());
    assert_ne!(prints[0], prints[1]);
    let texts = (0..534)
        .map(|id| tokenizer.token(Token(id)).unwrap())
        .chain(["[PAD534]".to_owned()]);
    assert_eq!(prints[1], rao_backends::fingerprint(texts));
}

#[test]
fn what_is_wrong_with_a_directory_is_named() {
    let missing = directory(&[]);
    let error = |directory: &tempfile::TempDir| Tokenizer::load(directory.path()).unwrap_err().to_string();
    for (found, expected) in [
        (error(&missing), "tokenizer.json"),
        (error(&changed("tokenizer.json", "{\"model\": 3}")), "not a tokenizer"),
        (
            error(&changed("tokenizer_config.json", "{\"eos_token\": \"<|eot|>\"}")),
            "eos_token is \"<|eot|>\"",
        ),
        (
            error(&changed("tokenizer_config.json", "{")),
            "tokenizer_config.json: EOF",
        ),
        (
            error(&changed("generation_config.json", "{\"eos_token_id\": [520, 534]}")),
            "eos_token_id is 534",
        ),
        (
            error(&changed("generation_config.json", "{\"eos_token_id\": -1}")),
            "generation_config.json",
        ),
    ] {
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn saving_copies_the_files() {
    let target = tempfile::tempdir().unwrap();
    let other = target.path().join("new");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("config.json"), "mine").unwrap();
    let source = changed("unrelated.json", "{}");
    std::fs::create_dir(source.path().join("additional_chat_templates")).unwrap();
    std::fs::write(
        source.path().join("additional_chat_templates/tool_use.jinja"),
        "{{ tools | length }}",
    )
    .unwrap();
    let tokenizer = Tokenizer::load(source.path()).unwrap();
    let rendered = |model: &Path| {
        let (messages, tools) = ([json!({"role": "user", "content": "A"})], [json!({})]);
        let template = ChatTemplate::load(model).unwrap();
        ["default", "tool_use"].map(|name| {
            let tools = if name == "default" { &[][..] } else { &tools };
            template
                .render(&Conversation {
                    tools,
                    ..conversation(&messages)
                })
                .unwrap()
        })
    };
    let before = rendered(source.path());
    assert_eq!(before, ["<|im_start|>user\nA<|im_end|>\n", "1"]);
    // What was loaded is saved, whatever has become of the directory.
    drop(source);
    tokenizer.save(&other).unwrap();
    for name in [
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "chat_template.jinja",
    ] {
        let bytes = |path: PathBuf| std::fs::read(path).unwrap();
        assert_eq!(bytes(other.join(name)), bytes(data("qwen").join(name)), "{name}");
    }
    assert_eq!(rendered(&other), before);
    let mut names: Vec<_> = std::fs::read_dir(&other)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    let expected = [
        "additional_chat_templates",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(names, expected);
    assert_eq!(std::fs::read(other.join("config.json")).unwrap(), b"mine");
    assert!(
        tokenizer
            .save(&other.join("config.json"))
            .unwrap_err()
            .to_string()
            .contains("config.json")
    );
}

#[test]
fn the_file_beside_comes_before_the_one_inside() {
    let inside = r#"{"chat_template": "inside"}"#;
    let text = |directory: &tempfile::TempDir| {
        ChatTemplate::load(directory.path())?.render(&conversation(&[json!({"role": "user", "content": ""})]))
    };
    assert_eq!(
        text(&directory(&[("tokenizer_config.json", inside)])).unwrap(),
        "inside"
    );
    assert_eq!(
        text(&directory(&[
            ("tokenizer_config.json", inside),
            ("chat_template.jinja", "beside\r\n")
        ]))
        .unwrap(),
        "beside"
    );
    for without in [r#"{}"#, r#"{"chat_template": [{"name": "rag", "template": ""}]}"#] {
        let error = text(&directory(&[("tokenizer_config.json", without)])).unwrap_err();
        assert!(matches!(error, TextError::NoTemplate { .. }), "{error}");
    }
}

#[test]
fn what_a_template_fails_at_is_named_with_its_line() {
    let message = [json!({"role": "user", "content": "A"})];
    let error = |source: &str, conversation: &Conversation<'_>| {
        let directory = directory(&[("chat_template.jinja", source)]);
        let rendered = ChatTemplate::load(directory.path()).and_then(|template| template.render(conversation));
        rendered.unwrap_err().to_string()
    };
    let refuse = "\n\n{{ raise_exception('only ' ~ messages[0].role) }}";
    for (source, expected) in [
        ("\n{% if %}", "chat_template.jinja, line 2: syntax error"),
        (
            "{% for m in messages %}\n{{ m.x.y }}\n{% endfor %}",
            "chat_template.jinja, line 2: undefined",
        ),
        ("\n{{ 'a' | nofilter }}", "line 2: unknown filter"),
        ("\n{{ messages[0].append(1) }}", "line 2: unknown method"),
        ("\n{{ strftime_now('%Q') }}", "no directive \"%Q\""),
        (
            refuse,
            "chat_template.jinja, line 3: the template refuses this conversation: only user",
        ),
    ] {
        let found = error(source, &conversation(&message));
        assert!(found.contains(expected), "{source:?}: {found}");
    }
    let timeless = Conversation {
        now: None,
        ..conversation(&message)
    };
    assert!(error("{{ strftime_now('%Y') }}", &timeless).contains("set `Conversation::now`"));

    let template = ChatTemplate::new("here", "{{ messages | length }}", &[]).unwrap();
    assert!(matches!(
        template.render(&conversation(&[])).unwrap_err(),
        TextError::NoMessages
    ));
    let odd = [json!({"role": "user"}), json!("text")];
    let error = template.render(&conversation(&odd)).unwrap_err();
    assert!(matches!(error, TextError::Message { index: 1, .. }), "{error}");
}

#[test]
fn a_template_from_elsewhere_gets_its_special_tokens() {
    let template = ChatTemplate::new(
        "here",
        "{{ bos_token }}{{ pad_token }}{{ messages[0].content }}",
        &[("bos_token", "<s>")],
    );
    let template = template.unwrap();
    assert_eq!(
        template.render(&conversation(&[json!({"content": "A"})])).unwrap(),
        "<s>A"
    );
    assert_eq!(
        template.source(),
        "{{ bos_token }}{{ pad_token }}{{ messages[0].content }}"
    );
}
