//! [`ChatTemplate`]: a conversation as the text that a model was trained on.

use std::collections::BTreeMap;
use std::path::Path;

use minijinja::value::Object;
use minijinja::{Environment, Error, ErrorKind, State, Value};
use serde_json::{Map, Value as Json};

use super::directory::{self, CHAT_TEMPLATE, MORE_TEMPLATES, SPECIAL_TOKENS, TOKENIZER_CONFIG};
use super::python::{self, Raised};
use super::{CivilTime, TextError};

/// Names that `tokenizer_config.json` and templates give to templates and to special tokens.
const DEFAULT: &str = "default";
const TOOL_USE: &str = "tool_use";
const SPECIAL: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];
/// Names under which reasoning is passed; the first is what templates read.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];
/// The variable that holds the time. No template can spell it.
const NOW: &str = "strftime_now()";

/// What is said, and what a template is told beside it.
///
/// Messages are JSON objects as OpenAI's interface and transformers have them: `role`, `content`, `tool_calls`, ... Fields reach the template
/// as they are, in their order, except for what transformers does: a field that is `null` is left out, and reasoning is found
/// under `reasoning_content`, whether it came as that, as `thinking` or as `reasoning`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conversation<'a> {
    /// One at least.
    pub messages: &'a [Json],
    /// JSON schemas of the tools. Empty is what transformers calls `tools=None`.
    pub tools: &'a [Json],
    /// Whether the text ends where the assistant is to begin.
    pub add_generation_prompt: bool,
    /// More variables, such as `enable_thinking` or `documents`. They win over special tokens of the same name.
    pub options: Option<&'a Map<String, Json>>,
    /// What `strftime_now` says. A template that calls it without is an error: a text must not depend on when it was made.
    pub now: Option<CivilTime>,
}

/// Most steps that a template may take for one conversation: a template is a program, and could go on for ever. Qwen3's takes some hundreds
/// a message.
const STEPS_MAX: u64 = 20_000_000;

/// A model's chat template, compiled.
///
/// Renders what `apply_chat_template(..., tokenize=False)` of transformers 5 renders, to the byte. What does not render there is an error
/// here, too.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// By name.
    sources: BTreeMap<String, Source>,
    /// Texts of the special tokens, by their names in templates.
    special: BTreeMap<&'static str, String>,
}

/// A template as it was read.
#[derive(Debug)]
struct Source {
    /// Its file; with its name where the file holds several.
    origin: String,
    text: String,
}

impl ChatTemplate {
    /// Reads and compiles the templates of a model directory.
    ///
    /// `chat_template.jinja` comes first (and its siblings in `additional_chat_templates`), then `chat_template` in `tokenizer_config.json`:
    /// a string, or a list of `{name, template}`. Of several templates `tool_use` renders conversations with tools and `default` all others.
    ///
    /// # Errors
    /// [`TextError`]: no template, an unreadable file, or the line that does not compile.
    pub fn load(model: &Path) -> Result<Self, TextError> {
        let config_path = model.join(TOKENIZER_CONFIG);
        let config = directory::json(&config_path)?;
        let mut sources = from_files(model)?;
        if !sources.contains_key(DEFAULT) {
            sources = from_config(&config_path, &config["chat_template"]);
        }
        if !sources.contains_key(DEFAULT) {
            return Err(TextError::NoTemplate { path: model.to_owned() });
        }
        sources.retain(|name, _| name == DEFAULT || name == TOOL_USE);
        Self::compile(sources, special_texts(model, &config)?)
    }

    /// A template from anywhere else. `origin` stands for its file in errors; `special` are the texts of `bos_token` and so on.
    ///
    /// # Errors
    /// [`TextError::Template`].
    pub fn new(origin: &str, source: &str, special: &[(&'static str, &str)]) -> Result<Self, TextError> {
        let (origin, text) = (origin.to_owned(), source.to_owned());
        let special = special.iter().map(|&(role, text)| (role, text.to_owned()));
        Self::compile(
            BTreeMap::from([(DEFAULT.to_owned(), Source { origin, text })]),
            special.collect(),
        )
    }

    fn compile(sources: BTreeMap<String, Source>, special: BTreeMap<&'static str, String>) -> Result<Self, TextError> {
        let mut environment = Environment::new();
        environment.set_fuel(Some(STEPS_MAX));
        python::install(&mut environment).map_err(|error| failure("Jinja", &error))?;
        environment.add_function("strftime_now", strftime_now);
        for (name, source) in &sources {
            environment
                .add_template_owned(name.clone(), prepared(&source.text))
                .map_err(|error| failure(&source.origin, &error))?;
        }
        Ok(Self {
            environment,
            sources,
            special,
        })
    }

    /// The default template as it was read: what exported files hold.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.sources[DEFAULT].text
    }

    /// The conversation as text.
    ///
    /// # Errors
    /// [`TextError`]: the template refused it, failed on it, or there is nothing to render.
    pub fn render(&self, conversation: &Conversation<'_>) -> Result<String, TextError> {
        if conversation.messages.is_empty() {
            return Err(TextError::NoMessages);
        }
        let messages = conversation.messages.iter().enumerate();
        let messages = messages.map(|(index, message)| normal(index, message));
        let messages: Vec<Value> = messages.collect::<Result<_, _>>()?;
        let tools = (!conversation.tools.is_empty()).then_some(conversation.tools);

        let mut variables: BTreeMap<&str, Value> = BTreeMap::new();
        variables.insert("documents", Value::from(()));
        variables.extend(
            self.special
                .iter()
                .map(|(&role, text)| (role, Value::from(text.as_str()))),
        );
        let options = conversation.options.into_iter().flatten();
        variables.extend(options.map(|(name, value)| (name.as_str(), from_json(value))));
        variables.insert("messages", messages.into());
        variables.insert(
            "tools",
            tools.map_or(Value::from(()), |tools| tools.iter().map(from_json).collect()),
        );
        variables.insert("add_generation_prompt", conversation.add_generation_prompt.into());
        if let Some(now) = conversation.now {
            variables.insert(NOW, Value::from_object(Now(now)));
        }

        let name = if tools.is_some() && self.sources.contains_key(TOOL_USE) {
            TOOL_USE
        } else {
            DEFAULT
        };
        let rendered = self.environment.get_template(name);
        let rendered = rendered.and_then(|template| template.render(Value::from_pairs(variables)));
        rendered.map_err(|error| failure(&self.sources[name].origin, &error))
    }
}

/// Templates in files of their own.
fn from_files(model: &Path) -> Result<BTreeMap<String, Source>, TextError> {
    let mut paths = vec![(DEFAULT.to_owned(), model.join(CHAT_TEMPLATE))];
    for name in directory::more_templates(model)? {
        let path = model.join(MORE_TEMPLATES).join(format!("{name}.jinja"));
        paths.push((name, path));
    }
    let mut sources = BTreeMap::new();
    for (name, path) in paths {
        if let Some(text) = directory::text(&path)? {
            let origin = path.display().to_string();
            sources.insert(name, Source { origin, text });
        }
    }
    Ok(sources)
}

/// Templates in `tokenizer_config.json`.
fn from_config(path: &Path, templates: &Json) -> BTreeMap<String, Source> {
    let source = |name: &str, text: &Json| {
        let origin = format!("{}, chat template `{name}`", path.display());
        let text = text.as_str()?.to_owned();
        Some((name.to_owned(), Source { origin, text }))
    };
    match templates {
        Json::Array(list) => {
            let named = list
                .iter()
                .filter_map(|entry| source(entry["name"].as_str()?, &entry["template"]));
            named.collect()
        }
        text => source(DEFAULT, text).into_iter().collect(),
    }
}

/// The texts of the special tokens that the directory names.
fn special_texts(model: &Path, config: &Json) -> Result<BTreeMap<&'static str, String>, TextError> {
    let map = directory::json(&model.join(SPECIAL_TOKENS))?;
    let text = |role| directory::special(config, role).or_else(|| directory::special(&map, role));
    Ok(SPECIAL
        .into_iter()
        .filter_map(|role| Some((role, text(role)?.to_owned())))
        .collect())
}

/// The source as MiniJinja has to see it: with one kind of newline, as Jinja2 reads it, and without the tags that mark what an assistant
/// generated. These render nothing, but what is set between them stays there, as in `with`.
fn prepared(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut prepared = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some(start) = rest.find("{%") {
        let length = rest[start..].find("%}").unwrap_or(rest.len() - start);
        let (before, tag) = rest[..start + length].split_at(start);
        prepared.push_str(before);
        let name = tag
            .trim_start_matches("{%")
            .trim_matches(|letter: char| letter.is_whitespace() || "+-".contains(letter));
        if matches!(name, "generation" | "endgeneration") {
            prepared.push_str(&tag.replace("generation", "with"));
        } else {
            prepared.push_str(tag);
        }
        rest = &rest[start + length..];
    }
    prepared + rest
}

/// A message as transformers hands it to a template.
fn normal(index: usize, message: &Json) -> Result<Value, TextError> {
    let Json::Object(fields) = message else {
        let found = message.to_string();
        return Err(TextError::Message { index, found });
    };
    let mut normal: Map<String, Json> = Map::new();
    let reasoning = REASONING
        .iter()
        .find_map(|name| fields.get(*name).filter(|value| !value.is_null()));
    if let Some(reasoning) = reasoning {
        normal.insert(REASONING[1].to_owned(), reasoning.clone());
    }
    let present = fields.iter().filter(|(_, value)| !value.is_null());
    normal.extend(present.map(|(name, value)| (name.clone(), value.clone())));
    if let Some(reasoning) = reasoning {
        normal.insert(REASONING[0].to_owned(), reasoning.clone());
    }
    Ok(from_json(&Json::Object(normal)))
}

/// JSON as a template's variables. Numbers stay what they are: `1.0` is not `1`.
fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(bool) => Value::from(*bool),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(elements) => elements.iter().map(from_json).collect(),
        Json::Object(fields) => Value::from_pairs(fields.iter().map(|(name, value)| (name.as_str(), from_json(value)))),
        Json::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), ..) => Value::from(number),
            (_, Some(number), _) => Value::from(number),
            (.., number) => Value::from(number),
        },
    }
}

/// The time among a template's variables.
#[derive(Debug)]
struct Now(CivilTime);

impl Object for Now {}

fn strftime_now(state: &mut State, format: &str) -> Result<String, Error> {
    let refused = |reason: String| Error::new(ErrorKind::InvalidOperation, reason);
    let now = state.lookup(NOW);
    let now = now.as_ref().and_then(|now| now.downcast_object_ref::<Now>());
    let now = now.ok_or_else(|| refused("the template asks for the time: set `Conversation::now`".to_owned()))?;
    now.0
        .format(format)
        .map_err(|directive| refused(format!("strftime has no directive {directive:?} here")))
}

fn failure(origin: &str, error: &Error) -> TextError {
    let (path, line) = (origin.to_owned(), error.line());
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(Raised(reason)) = error.downcast_ref() {
            let reason = reason.clone();
            return TextError::Refused { path, line, reason };
        }
        source = error.source();
    }
    let reason = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    TextError::Template { path, line, reason }
}
