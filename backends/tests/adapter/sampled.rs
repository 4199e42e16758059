//! llama.cpp samples base and adapter as it would the merged weights, and swaps adapters without a trace of the last.

use super::{Numbers, VOCAB, shape};
use candle_core::Tensor;
use rao_backends::SamplerError;
use rao_backends::candle::gguf::{self, Quant, SpecialTokens, TokenKind, Vocabulary};
use rao_backends::candle::{Device, ModelConfig, Weights};
use rao_backends::llama_cpp::{
    KvPrecision, LlamaCpp, LlamaCppError, LlamaCppOptions, LoadError, ModelFile, inspect_adapter, on_this_thread,
};
use rao_tree::{Completion, Policy, PolicyExt, Request, SequenceId, Token, WeightsVersion};

/// Largest difference of log-probabilities between base + adapter and merged weights, in nats: both in f32, and both with a base in q8_0.
const EXACT: f32 = 1e-4;
const COARSE: f32 = 0.2;

fn vocabulary(prefix: &str) -> Vocabulary {
    let tokens = (0..VOCAB).map(|id| (format!("{prefix}{id}"), TokenKind::Word));
    let special = SpecialTokens {
        bos: Token(0),
        eos: Token(1),
        pad: Token(0),
    };
    Vocabulary::new(tokens, special).unwrap()
}

/// Files of one test.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn model(&self, name: &str, weights: &Weights, quant: Quant) -> ModelFile {
        let path = self.0.path().join(name);
        gguf::save(weights, &vocabulary("W"), quant, WeightsVersion(0), &path).unwrap();
        ModelFile::new(path)
    }

    fn adapter(&self, name: &str, numbers: &Numbers, config: &ModelConfig, quant: Quant) -> ModelFile {
        let path = self.0.path().join(name);
        let (tensors, vocabulary) = (numbers.tensors(), vocabulary("W"));
        let adapter = numbers.adapter(&tensors, Some(vocabulary.fingerprint()));
        gguf::save_adapter(&adapter, config, quant, &path).unwrap();
        ModelFile::new(path)
    }

    /// A copy with other bytes.
    fn changed(&self, file: &ModelFile, change: impl FnOnce(&mut Vec<u8>)) -> ModelFile {
        let mut bytes = std::fs::read(file.path()).unwrap();
        change(&mut bytes);
        let path = self.0.path().join("changed.gguf");
        std::fs::write(&path, bytes).unwrap();
        ModelFile::new(path)
    }
}

fn options() -> LlamaCppOptions {
    LlamaCppOptions {
        slots: 16,
        window: 64,
        threads: 1,
        batch: 100,
        kv: KvPrecision::F32,
        ..LlamaCppOptions::default()
    }
}

fn load(file: ModelFile) -> LlamaCpp {
    LlamaCpp::load(file, WeightsVersion(1), options()).unwrap()
}

/// Larger than they come, so that the policy has opinions.
fn base(tied: bool) -> Weights {
    let weights = Weights::new(&shape(tied), 3, &Device::Cpu).unwrap();
    for (_, var) in weights.iter() {
        var.set(&(var.as_tensor() * 2.0).unwrap()).unwrap();
    }
    weights
}

/// W + (alpha / rank) B A.
fn merged(base: &Weights, numbers: &Numbers) -> Weights {
    let weights = base.copy().unwrap();
    for (module, a, b) in &numbers.parts {
        let name = format!("{module}.weight");
        let (_, var) = weights.iter().find(|(other, _)| *other == name).unwrap();
        let (rows, columns) = var.dims2().unwrap();
        let a = Tensor::from_slice(a, (numbers.rank, columns), &Device::Cpu).unwrap();
        let b = Tensor::from_slice(b, (rows, numbers.rank), &Device::Cpu).unwrap();
        let change = (b.matmul(&a).unwrap() * f64::from(numbers.alpha / numbers.rank as f32)).unwrap();
        var.set(&(var.as_tensor() + change).unwrap()).unwrap();
    }
    weights
}

fn prompts(count: usize) -> Vec<Vec<Token>> {
    let prompt = |n: usize| (0..1 + n % 40).map(move |at| Token(((n * 31 + at * 7) % VOCAB) as u32));
    (0..count).map(|n| prompt(n).collect()).collect()
}

type Said = (Vec<Token>, Vec<f32>);

fn say(
    policy: &mut impl Policy<Error = LlamaCppError>,
    prompts: &[Vec<Token>],
    room: usize,
) -> Result<Vec<Said>, LlamaCppError> {
    let mut buffers = vec![(vec![Token(0); room], vec![0.0; room]); prompts.len()];
    let mut requests: Vec<Request<'_>> = (0..)
        .zip(prompts.iter().zip(&mut buffers))
        .map(|(seed, (prompt, (tokens, logprobs)))| Request {
            sequence: SequenceId(seed),
            prompt,
            seed,
            temperature: 1.0,
            constraint: None,
            completion: Completion::new(tokens, logprobs, &mut [], 0).unwrap(),
            stop: None,
        })
        .collect();
    policy.sample_all(&mut requests)?;
    drop(requests);
    Ok(buffers)
}

/// How far two policies are apart where both drew the same first token: differences of its log-probability, in nats.
#[derive(Debug)]
struct Difference {
    mean: f32,
    max: f32,
}

fn difference(one: &[Said], other: &[Said]) -> Difference {
    let same = one.iter().zip(other).filter(|(one, other)| one.0[0] == other.0[0]);
    let gaps: Vec<f32> = same.map(|(one, other)| (one.1[0] - other.1[0]).abs()).collect();
    assert!(gaps.len() > one.len() / 4);
    Difference {
        mean: gaps.iter().sum::<f32>() / gaps.len() as f32,
        max: gaps.iter().copied().fold(0.0, f32::max),
    }
}

#[test]
fn base_and_adapter_are_the_merged_weights() {
    for tied in [false, true] {
        let (folder, base, prompts) = (Folder::new(), base(tied), prompts(40));
        let numbers = Numbers::new(&shape(tied), 4, 1, 0.1);
        let file = folder.model("base.gguf", &base, Quant::F32);
        let adapter = folder.adapter("adapter.gguf", &numbers, &shape(tied), Quant::F32);
        let mut policy = load(file.clone());
        let bare = say(&mut policy, &prompts, 12).unwrap();
        policy.publish_adapter(adapter.clone(), WeightsVersion(2)).unwrap();
        assert_eq!(policy.weights(), WeightsVersion(2));
        let adapted = say(&mut policy, &prompts, 12).unwrap();

        let mut whole = load(folder.model("merged.gguf", &merged(&base, &numbers), Quant::F32));
        let expected = say(&mut whole, &prompts, 12).unwrap();
        let (mut gap, mut moved) = (0.0_f32, 0.0_f32);
        for ((adapted, expected), bare) in adapted.iter().zip(&expected).zip(&bare) {
            assert_eq!(adapted.0, expected.0);
            let gaps = adapted
                .1
                .iter()
                .zip(&expected.1)
                .map(|(one, other)| (one - other).abs());
            gap = gaps.fold(gap, f32::max);
            moved = moved.max((adapted.1[0] - bare.1[0]).abs());
        }
        assert!(gap < EXACT, "{gap}");
        assert!(moved > 1.0, "the adapter matters: {moved}");

        // The same from the start, with and without a thread, and swapped without a thread.
        let both = file.clone().with_adapter(adapter.clone());
        assert_eq!(say(&mut load(both.clone()), &prompts, 12).unwrap(), adapted);
        let local = on_this_thread(&both, WeightsVersion(2), options(), |policy| say(policy, &prompts, 12));
        assert_eq!(local.unwrap().unwrap(), adapted);
        let swapped = on_this_thread(&file, WeightsVersion(1), options(), |policy| {
            assert_eq!(say(policy, &prompts, 12).unwrap(), bare);
            policy.publish_adapter(&file, WeightsVersion(2)).unwrap_err();
            assert_eq!(policy.weights(), WeightsVersion(1));
            policy.publish_adapter(&adapter, WeightsVersion(2)).unwrap();
            assert_eq!(policy.weights(), WeightsVersion(2));
            say(policy, &prompts, 12)
        });
        assert_eq!(swapped.unwrap().unwrap(), adapted);
    }
}

#[test]
fn a_coarse_base_with_an_adapter_is_as_close_as_the_coarse_merged_weights() {
    let (folder, prompts, config) = (Folder::new(), prompts(400), shape(false));
    let base = Weights::new(&config, 3, &Device::Cpu).unwrap();
    let numbers = Numbers::new(&config, 4, 1, 0.1);
    let [exact, whole] = [Quant::F32, Quant::Q8_0].map(|quant| {
        let mut policy = load(folder.model("merged.gguf", &merged(&base, &numbers), quant));
        say(&mut policy, &prompts, 1).unwrap()
    });
    let mut policy = load(folder.model("base.gguf", &base, Quant::Q8_0));
    let bare = difference(&say(&mut policy, &prompts, 1).unwrap(), &exact);
    let rounded = difference(&whole, &exact);
    for quant in [Quant::F32, Quant::F16] {
        let adapter = folder.adapter("adapter.gguf", &numbers, &config, quant);
        policy.publish_adapter(adapter, WeightsVersion(2)).unwrap();
        let said = say(&mut policy, &prompts, 1).unwrap();
        let (found, between) = (difference(&said, &exact), difference(&said, &whole));
        assert!(
            found.mean < 1.5 * rounded.mean && between.mean < 2.0 * rounded.mean,
            "{found:?} {between:?} {rounded:?}"
        );
        assert!(between.max < COARSE, "{between:?}");
        assert!(bare.mean > 10.0 * found.mean, "the adapter matters: {bare:?}");
    }
}

#[test]
fn what_is_drawn_does_not_depend_on_earlier_adapters() {
    let (folder, config, prompts) = (Folder::new(), shape(false), prompts(24));
    let mut policy = load(folder.model("base.gguf", &base(false), Quant::Q8_0));
    let mut other = policy.clone();
    let bare = say(&mut policy, &prompts, 12).unwrap();
    let [a, b] = [1, 2].map(|seed| {
        let numbers = Numbers::new(&config, 4, seed, 0.1);
        folder.adapter(&format!("{seed}.gguf"), &numbers, &config, Quant::F32)
    });
    let mut said = Vec::new();
    for (version, adapter) in [(2, &a), (3, &b), (4, &a), (5, &b)] {
        policy
            .publish_adapter(adapter.clone(), WeightsVersion(version))
            .unwrap();
        assert_eq!(other.weights(), WeightsVersion(version));
        said.push(say(&mut policy, &prompts, 12).unwrap());
        assert_eq!(&say(&mut other, &prompts, 12).unwrap(), said.last().unwrap());
    }
    assert!(said[0] != said[1] && said[0] != bare);
    assert!(said[0] == said[2] && said[1] == said[3]);
    // Whole weights come without an adapter.
    policy
        .publish(ModelFile::new(folder.0.path().join("base.gguf")), WeightsVersion(6))
        .unwrap();
    assert!(say(&mut policy, &prompts, 12).unwrap() == bare);
}

#[test]
fn an_adapter_that_diverged_leaves_nothing_behind() {
    let (folder, config, prompts) = (Folder::new(), shape(false), prompts(24));
    let mut policy = load(folder.model("base.gguf", &base(false), Quant::F32));
    let adapter = |seed, size| {
        let numbers = Numbers::new(&config, 4, seed, size);
        folder.adapter(&format!("{seed}.gguf"), &numbers, &config, Quant::F32)
    };
    let (sound, diverged) = (adapter(1, 0.1), adapter(2, 1e30));
    policy.publish_adapter(sound.clone(), WeightsVersion(2)).unwrap();
    let before = say(&mut policy, &prompts, 12).unwrap();
    policy.publish_adapter(diverged, WeightsVersion(3)).unwrap();
    let error = say(&mut policy, &prompts, 12).unwrap_err();
    assert!(
        matches!(error, LlamaCppError::Sampler(SamplerError::NonFinite { .. })),
        "{error}"
    );
    policy.publish_adapter(sound, WeightsVersion(4)).unwrap();
    assert_eq!(say(&mut policy, &prompts, 12).unwrap(), before);
}

#[test]
fn what_is_no_adapter_of_this_base_is_refused_and_the_old_one_stays() {
    let (folder, config, prompts) = (Folder::new(), shape(false), prompts(8));
    let model = folder.model("base.gguf", &base(false), Quant::F32);
    let adapter = folder.adapter("a.gguf", &Numbers::new(&config, 4, 1, 0.1), &config, Quant::F32);
    let mut policy = load(model.clone());
    policy.publish_adapter(adapter.clone(), WeightsVersion(2)).unwrap();
    let before = say(&mut policy, &prompts, 12).unwrap();

    let wider = ModelConfig {
        intermediate_size: 160,
        ..config.clone()
    };
    let misshaped = folder.adapter("wide.gguf", &Numbers::new(&wider, 4, 1, 0.1), &wider, Quant::F32);
    let missing = ModelFile::new(folder.0.path().join("missing.gguf"));
    let replaced = |from: &'static str, to: &'static str| {
        move |bytes: &mut Vec<u8>| {
            assert_eq!(from.len(), to.len());
            let at = bytes.windows(from.len()).position(|window| window == from.as_bytes());
            bytes[at.unwrap()..][..to.len()].copy_from_slice(to.as_bytes());
        }
    };
    let alpha = |bytes: &mut Vec<u8>| {
        let at = bytes
            .windows(18)
            .position(|window| window == b"adapter.lora.alpha")
            .unwrap();
        // Behind the key: the value's type, then the value.
        bytes[at + 22..][..4].copy_from_slice(&0_f32.to_le_bytes());
    };
    type Change<'a> = Box<dyn FnOnce(&mut Vec<u8>) + 'a>;
    let changes: Vec<(Change<'_>, &str)> = vec![
        (Box::new(replaced("qwen3", "llama")), "architecture \"llama\""),
        (Box::new(replaced("lora\u{12}", "rola\u{12}")), "adapter.type"),
        (Box::new(alpha), "adapter.lora.alpha"),
        (
            Box::new(replaced("blk.1.attn_q", "blk.7.attn_q")),
            "missing one component",
        ),
        (
            Box::new(replaced("attn_q.weight.lora_a", "attn_x.weight.lora_a")),
            "attn_x",
        ),
        (
            Box::new(replaced("attn_q.weight.lora_a", "attn_q.weight.lora_c")),
            "lora_c",
        ),
        (Box::new(|bytes| bytes.truncate(bytes.len() - 64)), "cut off"),
        (Box::new(|bytes| bytes.truncate(300)), "not a GGUF file"),
        (Box::new(|bytes| bytes.clear()), "not a GGUF file"),
        (Box::new(replaced("general.type", "general.tape")), "of type \"model\""),
    ];
    let mut refuse = |file: &ModelFile, part: &str| {
        let error = policy.publish_adapter(file.clone(), WeightsVersion(9)).unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, LlamaCppError::Load(_)), "{message}");
        let name = file.path().file_name().unwrap().to_str().unwrap();
        assert!(message.contains(part) && message.contains(name), "{part}: {message}");
        assert_eq!(policy.weights(), WeightsVersion(2));
        assert_eq!(say(&mut policy, &prompts, 12).unwrap(), before, "{part}");
    };
    for (change, part) in changes {
        refuse(&folder.changed(&adapter, change), part);
    }
    refuse(&model, "of type \"model\", where one of type \"adapter\" is needed");
    refuse(&missing, "missing.gguf");
    refuse(&misshaped, "incorrect shape");

    // With a base, and as a base.
    let with = |adapter: &ModelFile| {
        LlamaCpp::load(
            model.clone().with_adapter(adapter.clone()),
            WeightsVersion(1),
            options(),
        )
    };
    assert!(matches!(with(&misshaped), Err(LoadError::Rejected { .. })));
    let error = policy
        .publish(model.clone().with_adapter(misshaped), WeightsVersion(9))
        .unwrap_err();
    assert!(
        matches!(error, LlamaCppError::Load(LoadError::Rejected { .. })),
        "{error}"
    );
    assert_eq!(say(&mut policy, &prompts, 12).unwrap(), before);
    let error = LlamaCpp::load(adapter, WeightsVersion(1), options()).unwrap_err();
    assert!(matches!(error, LoadError::Kind { expected: "model", .. }), "{error}");
}

#[test]
fn an_adapter_for_other_tokens_is_refused() {
    let (folder, config) = (Folder::new(), shape(false));
    let policy = load(folder.model("base.gguf", &base(false), Quant::F32));
    let (numbers, path) = (Numbers::new(&config, 4, 1, 0.1), folder.0.path().join("adapter.gguf"));
    let tensors = numbers.tensors();
    let publish = |fingerprint: Option<&str>| {
        gguf::save_adapter(&numbers.adapter(&tensors, fingerprint), &config, Quant::F32, &path).unwrap();
        policy.publish_adapter(ModelFile::new(path.clone()), WeightsVersion(2))
    };
    let error = publish(Some(vocabulary("V").fingerprint())).unwrap_err();
    assert!(
        matches!(error, LlamaCppError::Load(LoadError::Tokenizer { .. })),
        "{error}"
    );
    // Adapters of others do not say.
    publish(None).unwrap();
    let info = inspect_adapter(&path).unwrap();
    assert_eq!((info.matrices, info.alpha, info.weights_version), (15, 8.0, Some(7)));
    assert_eq!(
        (info.fingerprint, info.bytes),
        (None, std::fs::metadata(&path).unwrap().len())
    );
}

#[test]
fn damage_anywhere_in_the_header_is_an_error_or_harmless() {
    let (folder, config, prompts) = (Folder::new(), shape(false), prompts(2));
    let mut policy = load(folder.model("base.gguf", &base(false), Quant::F32));
    let adapter = folder.adapter("a.gguf", &Numbers::new(&config, 4, 1, 0.1), &config, Quant::F32);
    let mut refused = 0;
    for at in (0..2500).step_by(17) {
        let file = folder.changed(&adapter, |bytes| bytes[at] ^= 0xA5);
        refused += usize::from(policy.publish_adapter(file, WeightsVersion(2)).is_err());
        // Whatever was taken can be sampled: numbers that are none are an error, and nothing ends the process.
        let _ = say(&mut policy, &prompts, 2);
    }
    assert!(refused > 50, "{refused}");
    policy.publish_adapter(adapter, WeightsVersion(3)).unwrap();
    say(&mut policy, &prompts, 2).unwrap();
}

/// Pages of this process that are in memory, in bytes.
#[cfg(target_os = "linux")]
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

#[cfg(target_os = "linux")]
#[test]
fn adapters_are_freed() {
    let (folder, config, prompts) = (Folder::new(), shape(false), prompts(2));
    let policy = load(folder.model("base.gguf", &base(false), Quant::F32));
    let files = [1, 2].map(|seed| {
        let numbers = Numbers::new(&config, 64, seed, 0.01);
        folder.adapter(&format!("{seed}.gguf"), &numbers, &config, Quant::F32)
    });
    let bytes = std::fs::metadata(files[0].path()).unwrap().len() as usize;
    let swap = |count: u64| {
        for version in 0..count {
            let mut policy = policy.clone();
            policy
                .publish_adapter(files[version as usize % 2].clone(), WeightsVersion(version))
                .unwrap();
            say(&mut policy, &prompts, 2).unwrap();
        }
    };
    swap(20);
    let before = resident();
    swap(200);
    let grown = resident().saturating_sub(before);
    assert!(grown < 20 * bytes, "{grown} bytes after 200 swaps of {bytes}");
}
