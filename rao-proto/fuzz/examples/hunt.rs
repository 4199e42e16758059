//! Runs the fuzz targets under proptest on any toolchain: inputs are mutations of the seed corpus, and one that fails is shrunk.
//!
//! ```text
//! cargo run --release --no-default-features --example hunt -- [TARGET ...] [--seconds N] [--inputs N] [--work N] [--seed S] [--file PATH]
//! ```
//!
//! Without a target, all of them. Each ends after `--seconds` (10 if nothing is said), `--inputs`, or `--work` (frames decoded, calls made),
//! whichever is first. The same seed makes the same inputs; `--file` gives the targets the bytes of one file and nothing else.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use rao_fuzz::{TARGETS, Target, mend};
use std::cell::Cell;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Inputs longer than this are cut.
const LEN_MAX: usize = 1 << 12;

/// Inputs between two looks at the clock.
const ROUND: u64 = 256;

struct Options {
    targets: Vec<String>,
    seconds: u64,
    inputs: u64,
    work: u64,
    seed: u64,
    file: Option<PathBuf>,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let options = options()?;
    let mut targets = TARGETS.to_vec();
    targets.retain(|(name, _)| options.targets.is_empty() || options.targets.iter().any(|wanted| wanted == name));
    if let Some(path) = &options.file {
        let bytes = std::fs::read(path)?;
        for (name, target) in targets {
            println!("{name}: {} frames or calls", target(&bytes));
        }
        return Ok(ExitCode::SUCCESS);
    }
    // Shrinking panics a thousand times over; what the last one said is reported, and `--file` shows where.
    std::panic::set_hook(Box::new(|_| ()));
    for (name, target) in targets {
        if !hunt(name, target, &options)? {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut options = Options {
        targets: Vec::new(),
        seconds: u64::MAX,
        inputs: u64::MAX,
        work: u64::MAX,
        seed: std::time::UNIX_EPOCH.elapsed()?.as_nanos() as u64,
        file: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let number = match argument.as_str() {
            "--seconds" => &mut options.seconds,
            "--inputs" => &mut options.inputs,
            "--work" => &mut options.work,
            "--seed" => &mut options.seed,
            "--file" => {
                options.file = Some(arguments.next().ok_or("a path is missing")?.into());
                continue;
            }
            name if TARGETS.iter().any(|(target, _)| *target == name) => {
                options.targets.push(argument);
                continue;
            }
            _ => return Err(format!("{argument}: neither an option nor a target").into()),
        };
        *number = arguments.next().ok_or("a number is missing")?.parse()?;
    }
    if options.seconds.min(options.inputs).min(options.work) == u64::MAX {
        options.seconds = 10;
    }
    Ok(options)
}

/// Whether the target took everything.
fn hunt(name: &str, target: Target, options: &Options) -> Result<bool, Box<dyn Error>> {
    let corpus: &'static [Vec<u8>] = corpus(name)?.leak();
    println!("{name}: {} seeds, --seed {}", corpus.len(), options.seed);
    for bytes in corpus {
        target(bytes);
    }
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&options.seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = input(corpus);
    let (start, limit) = (Instant::now(), Duration::from_secs(options.seconds));
    let (mut inputs, work) = (0, Cell::new(0));
    while inputs < options.inputs && work.get() < options.work && (inputs % ROUND != 0 || start.elapsed() < limit) {
        inputs += 1;
        let tree = strategy
            .new_tree(&mut runner)
            .map_err(|reason| reason.message().to_owned())?;
        let outcome = runner.run_one(tree, |input| {
            work.set(work.get() + target(&input));
            Ok(())
        });
        match outcome {
            Ok(_) => {}
            Err(TestError::Fail(reason, input)) => {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("artifacts/{name}/{}", options.seed));
                std::fs::create_dir_all(path.parent().ok_or("no directory")?)?;
                std::fs::write(&path, &input)?;
                println!("{name}: FAILED: {reason}");
                println!("{name}: again with: {name} --file {}", path.display());
                return Ok(false);
            }
            Err(error @ TestError::Abort(_)) => return Err(error.to_string().into()),
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{name}: sound; {inputs} inputs, {} frames or calls in {seconds:.1} s",
        work.get()
    );
    Ok(true)
}

fn corpus(name: &str) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files: Vec<_> = std::fs::read_dir(&folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    let read: Result<Vec<_>, _> = files.iter().map(std::fs::read).collect();
    let read = read?;
    if read.is_empty() {
        return Err(format!("no seeds in {}", folder.display()).into());
    }
    Ok(read)
}

/// One to three seeds behind one another, a few places changed, and every other time with right checksums.
fn input(corpus: &'static [Vec<u8>]) -> impl Strategy<Value = Vec<u8>> {
    let seeds = vec(0..corpus.len(), 1..=3);
    (seeds, vec(change(), 0..=6), any::<bool>()).prop_map(|(seeds, changes, mended)| {
        let mut bytes: Vec<u8> = seeds.iter().flat_map(|seed| &corpus[*seed]).copied().collect();
        for change in &changes {
            change.make(corpus, &mut bytes);
        }
        bytes.truncate(LEN_MAX);
        if mended {
            mend(&mut bytes);
        }
        bytes
    })
}

/// One change. Positions are taken modulo the length, lengths end with the bytes.
#[derive(Clone, Debug)]
struct Change {
    at: usize,
    len: usize,
    how: How,
}

#[derive(Clone, Debug)]
enum How {
    Flip(u8),
    Set(u8),
    Add(u8),
    Noise([u8; 16]),
    Remove,
    Insert(u8),
    Repeat,
    Splice { seed: usize, from: usize },
    Truncate,
    Number(u32),
}

fn change() -> impl Strategy<Value = Change> {
    /// Ends of ranges, of varints and of frames.
    const EDGES: [u8; 10] = [0, 1, 2, 8, 9, 0x7F, 0x80, 0xBF, 0xFE, 0xFF];
    let how = prop_oneof![
        (0..8_u8).prop_map(|bit| How::Flip(1 << bit)),
        (0..EDGES.len()).prop_map(|edge| How::Set(EDGES[edge])),
        (-4..=4_i8).prop_map(|by| How::Add(by as u8)),
        any::<[u8; 16]>().prop_map(How::Noise),
        Just(How::Remove),
        any::<u8>().prop_map(How::Insert),
        Just(How::Repeat),
        (any::<usize>(), any::<usize>()).prop_map(|(seed, from)| How::Splice { seed, from }),
        Just(How::Truncate),
        (any::<u32>(), 0..32_u32).prop_map(|(value, shift)| How::Number(value >> shift)),
    ];
    (0..3 * LEN_MAX, 1..=16_usize, how).prop_map(|(at, len, how)| Change { at, len, how })
}

impl Change {
    fn make(&self, corpus: &[Vec<u8>], bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            bytes.push(0);
        }
        let at = self.at % bytes.len();
        let end = (at + self.len).min(bytes.len());
        match self.how {
            How::Flip(bit) => bytes[at] ^= bit,
            How::Set(value) => bytes[at] = value,
            How::Add(by) => bytes[at] = bytes[at].wrapping_add(by),
            How::Noise(noise) => bytes[at..end].copy_from_slice(&noise[..end - at]),
            How::Remove => drop(bytes.drain(at..end)),
            How::Insert(value) => bytes.insert(at, value),
            How::Repeat => bytes.extend_from_within(at..end),
            How::Splice { seed, from } => {
                let seed = &corpus[seed % corpus.len()];
                let from = from % (seed.len() + 1);
                bytes.splice(at..end, seed[from..].iter().copied().take(64));
            }
            How::Truncate => bytes.truncate(at),
            How::Number(value) => {
                for (byte, new) in bytes[at..].iter_mut().zip(value.to_le_bytes()) {
                    *byte = new;
                }
            }
        }
    }
}
