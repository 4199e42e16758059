//! What the llama.cpp backend refuses, and what its thread does for several callers at once.
//!
//! `data/tiny-f32.gguf` holds random weights: 70 tokens, width 32, two layers. `gguf.rs` checks that the writer still makes that very file.
#![cfg(feature = "llama-cpp")]

use rao_backends::SamplerError;
use rao_backends::llama_cpp::{
    KvPrecision, LlamaCpp, LlamaCppError, LlamaCppOptions, LoadError, ModelFile, inspect, inspect_adapter, quantise,
};
use rao_tree::{Completion, Policy, PolicyExt, Request, SequenceId, Stop, Token, WeightsVersion};
use std::path::{Path, PathBuf};

#[path = "../../tests/support/mutate.rs"]
mod mutate;

use mutate::mutated;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny-f32.gguf");
const VOCAB: u32 = 70;

fn options() -> LlamaCppOptions {
    LlamaCppOptions {
        slots: 8,
        window: 64,
        threads: 1,
        kv: KvPrecision::F32,
        vocab: Some(VOCAB as usize),
        ..LlamaCppOptions::default()
    }
}

fn load(path: &Path) -> Result<LlamaCpp, LoadError> {
    LlamaCpp::load(ModelFile::new(path.to_owned()), WeightsVersion(1), options())
}

/// A copy of the model with other bytes.
fn changed(folder: &Path, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut bytes = std::fs::read(MODEL).unwrap();
    change(&mut bytes);
    let path = folder.join("changed.gguf");
    std::fs::write(&path, bytes).unwrap();
    path
}

/// `count` prompts of several lengths with a common beginning.
fn prompts(count: u32) -> Vec<Vec<Token>> {
    let prompt = |n: u32| (0..20 + n % 17).map(move |at| Token(if at < 18 { at } else { (n * 31 + at * 7) % VOCAB }));
    (0..count).map(|n| prompt(n).collect()).collect()
}

type Said = (Vec<Token>, Vec<u32>, Option<Stop>);

/// What every prompt is answered with: up to 12 tokens, the bits of their log-probabilities, and why it ended.
fn answers(policy: &mut LlamaCpp, prompts: &[Vec<Token>], first_seed: u64) -> Result<Vec<Said>, LlamaCppError> {
    const ROOM: usize = 12;
    let mut buffers = vec![(vec![Token(0); ROOM], vec![0.0; ROOM]); prompts.len()];
    let mut requests: Vec<Request<'_>> = (first_seed..)
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
    Ok(requests
        .iter()
        .map(|request| {
            let bits = request.completion.logprobs().iter().map(|x| x.to_bits());
            (request.completion.tokens().to_vec(), bits.collect(), request.stop)
        })
        .collect())
}

#[test]
fn a_file_says_what_it_is() {
    let info = inspect(Path::new(MODEL)).unwrap();
    assert_eq!(
        (info.vocab, info.context_length, info.weights_version),
        (70, 64, Some(7))
    );
    assert_eq!(info.bytes, std::fs::metadata(MODEL).unwrap().len());
    assert_eq!(info.fingerprint.map(|fingerprint| fingerprint.len()), Some(16));
}

#[test]
fn what_is_no_such_file_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.gguf");
    let error = load(&missing).unwrap_err();
    assert!(
        matches!(&error, LoadError::Io { path, .. } if *path == missing),
        "{error}"
    );
    for text in ["", "GGUF", "nothing of the kind, but longer than a header"] {
        let path = changed(folder.path(), |bytes| *bytes = text.into());
        let error = load(&path).unwrap_err();
        assert!(matches!(error, LoadError::NotGguf { .. }), "{text:?}: {error}");
        assert!(error.to_string().contains("changed.gguf"), "{error}");
    }
}

#[test]
fn a_file_of_another_architecture_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = changed(folder.path(), |bytes| {
        let at = bytes.windows(5).position(|window| window == b"qwen3").unwrap();
        bytes[at..at + 5].copy_from_slice(b"llama");
    });
    let error = load(&path).unwrap_err();
    assert!(
        matches!(&error, LoadError::Architecture { found, .. } if found == "llama"),
        "{error}"
    );
}

#[test]
fn a_file_that_was_cut_off_is_refused_wherever_it_was_cut() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::metadata(MODEL).unwrap().len() as usize;
    // Behind the header only the length can tell.
    for len in [whole - 64, whole / 2, 3000, 300, 30] {
        let path = changed(folder.path(), |bytes| bytes.truncate(len));
        let error = load(&path).unwrap_err();
        assert!(
            matches!(error, LoadError::Truncated { .. } | LoadError::NotGguf { .. }),
            "{len}: {error}"
        );
    }
}

#[test]
fn damage_anywhere_in_the_header_is_an_error_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let mut refused = 0;
    for at in (0..2500).step_by(41) {
        let path = changed(folder.path(), |bytes| bytes[at] ^= 0xA5);
        refused += usize::from(inspect(&path).is_err());
    }
    assert!(refused > 3, "{refused}");
}

/// llama.cpp would end the process over some of these.
#[test]
fn headers_that_somebody_made_up_are_an_error_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let adapter = std::fs::read("tests/data/tiny-adapter.gguf").unwrap();
    let mut refused = 0;
    for case in 0..2_000 {
        // The weights behind it would take most of the damage.
        let path = changed(folder.path(), |bytes| {
            let whole = if case % 2 == 0 { bytes.clone() } else { adapter.clone() };
            let (header, rest) = whole.split_at(whole.len().min(2_500));
            *bytes = [mutated(header, case), rest.to_vec()].concat();
        });
        refused += usize::from(inspect(&path).is_err());
        let _ = inspect_adapter(&path);
    }
    assert!(refused > 1_000, "{refused}");
}

#[test]
fn a_header_that_lies_is_refused_before_llama_cpp_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let header = |tensors: u64, keys: u64, rest: &[&[u8]]| {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(tensors.to_le_bytes());
        bytes.extend(keys.to_le_bytes());
        bytes.extend(rest.concat());
        bytes.resize(bytes.len().max(64), 0);
        bytes
    };
    let (one, most) = (1_u64.to_le_bytes(), u64::MAX.to_le_bytes());
    let key: &[u8] = &[&one[..], b"k"].concat();
    for (bytes, said) in [
        (header(0, 1, &[]), "a key without a name"),
        (header(u64::MAX, 0, &[]), "tensors"),
        (header(0, 1 << 62, &[]), "keys"),
        (header(0, 1, &[&most]), "bytes where"),
        (header(0, 1, &[key, &[13, 0, 0, 0]]), "a value of type 13"),
        (header(0, 1, &[key, &[9, 0, 0, 0, 9, 0, 0, 0]]), "an array of type 9"),
        (header(0, 1, &[key, &[9, 0, 0, 0, 8, 0, 0, 0], &most]), "texts"),
        (header(0, 1, &[key, &[9, 0, 0, 0, 10, 0, 0, 0], &most]), "numbers"),
        (header(1, 0, &[key, &[5, 0, 0, 0]]), "5 dimensions"),
    ] {
        let path = changed(folder.path(), |file| *file = bytes);
        let error = inspect(&path).unwrap_err();
        assert!(
            matches!(error, LoadError::NotGguf { .. }) && error.to_string().contains(said),
            "{said}: {error}"
        );
    }
}

#[test]
fn tokens_of_another_kind_are_refused() {
    let with = |options| LlamaCpp::load(ModelFile::new(Path::new(MODEL)), WeightsVersion(0), options).unwrap_err();
    let error = with(LlamaCppOptions {
        vocab: Some(113),
        ..options()
    });
    assert!(
        matches!(
            error,
            LoadError::Vocabulary {
                found: 70,
                expected: 113,
                ..
            }
        ),
        "{error}"
    );
    let fingerprint = Some("0123456789abcdef".to_owned());
    let error = with(LlamaCppOptions {
        fingerprint,
        ..options()
    });
    assert!(matches!(error, LoadError::Tokenizer { .. }), "{error}");
}

#[test]
fn a_context_that_cannot_be_is_an_error() {
    let huge = LlamaCppOptions {
        slots: 256,
        window: u32::MAX / 300,
        ..options()
    };
    let error = LlamaCpp::load(ModelFile::new(Path::new(MODEL)), WeightsVersion(0), huge).unwrap_err();
    assert!(matches!(error, LoadError::Context { .. }), "{error}");
}

#[test]
fn a_context_beyond_the_window_ends_alone() {
    let mut policy = load(Path::new(MODEL)).unwrap();
    assert_eq!(policy.window(), 64);
    let mut prompts = prompts(3);
    let alone = answers(&mut policy, &prompts, 0).unwrap();
    prompts[1] = vec![Token(5); 65];
    let said = answers(&mut policy, &prompts, 0).unwrap();
    assert_eq!(said[1], (vec![], vec![], Some(Stop::ContextOverflow)));
    assert_eq!((&said[0], &said[2]), (&alone[0], &alone[2]));
    // At the edge: the last token that fits is drawn.
    prompts[1] = vec![Token(5); 60];
    let said = answers(&mut policy, &prompts, 0).unwrap();
    assert_eq!((said[1].0.len(), said[1].2), (5, Some(Stop::ContextOverflow)));
}

#[test]
fn what_cannot_be_answered_is_refused_and_nothing_is_lost() {
    let mut policy = load(Path::new(MODEL)).unwrap();
    let prompts = prompts(2);
    let before = answers(&mut policy, &prompts, 0).unwrap();
    for prompt in [vec![], vec![Token(VOCAB)]] {
        let error = answers(&mut policy, &[prompts[0].clone(), prompt], 0).unwrap_err();
        assert!(
            matches!(
                error,
                LlamaCppError::Sampler(SamplerError::EmptyPrompt { .. } | SamplerError::UnknownToken { .. })
            ),
            "{error}"
        );
    }
    assert_eq!(answers(&mut policy, &prompts, 0).unwrap(), before);
}

#[test]
fn handles_on_many_threads_share_one_model_and_say_what_each_would_alone() {
    let policy = load(Path::new(MODEL)).unwrap();
    let prompts = prompts(12);
    let expected = answers(&mut policy.clone(), &prompts, 0).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            // The same names in every handle: they must not be taken for one another's.
            let (mut policy, prompts, expected) = (policy.clone(), &prompts, &expected);
            scope.spawn(move || {
                for _ in 0..3 {
                    assert_eq!(&answers(&mut policy, prompts, 0).unwrap(), expected);
                }
            });
        }
    });
    assert_eq!(policy.incident(), None);
}

#[test]
fn other_weights_are_drawn_from_once_they_are_published_and_bad_ones_never() {
    let folder = tempfile::tempdir().unwrap();
    let mut policy = load(Path::new(MODEL)).unwrap();
    let mut other = policy.clone();
    let prompts = prompts(4);
    let before = answers(&mut policy, &prompts, 0).unwrap();
    let coarse = folder.path().join("q4_0.gguf");
    quantise(Path::new(MODEL), &coarse, "q4_0".parse().unwrap()).unwrap();
    assert!(std::fs::metadata(&coarse).unwrap().len() < std::fs::metadata(MODEL).unwrap().len() / 2);

    policy
        .publish(ModelFile::new(coarse.clone()), WeightsVersion(2))
        .unwrap();
    assert_eq!(
        (policy.weights(), other.weights()),
        (WeightsVersion(2), WeightsVersion(2))
    );
    let fresh = answers(&mut load(&coarse).unwrap(), &prompts, 0).unwrap();
    assert_ne!(fresh, before);
    for policy in [&mut policy, &mut other] {
        assert_eq!(
            answers(policy, &prompts, 0).unwrap(),
            fresh,
            "nothing of the old weights is cached"
        );
    }

    let torn = changed(folder.path(), |bytes| bytes.truncate(bytes.len() / 2));
    let error = policy.publish(ModelFile::new(torn), WeightsVersion(3)).unwrap_err();
    assert!(
        matches!(error, LlamaCppError::Load(LoadError::Truncated { .. })),
        "{error}"
    );
    assert_eq!(policy.weights(), WeightsVersion(2));
    assert_eq!(answers(&mut policy, &prompts, 0).unwrap(), fresh);
}
