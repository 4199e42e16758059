//! Runs the fuzz targets on any toolchain: inputs are mutations of the seed corpus, each a function of the seed and its number, so that a
//! failure is repeated by naming both.
//!
//! ```text
//! cargo run --release --no-default-features --example hunt -- [TARGET ...] [--seconds N] [--inputs N] [--work N] [--seed S] [--from I]
//! ```
//!
//! Without a target, all of them. Ends after `--seconds` (10 if nothing is said), `--inputs`, or `--work` (frames decoded, calls made),
//! whichever is first.

use rand::{Rng, RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use rao_fuzz::{TARGETS, Target, mend};
use std::error::Error;
use std::panic::catch_unwind;
use std::path::Path;
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
    from: u64,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let options = options()?;
    for (name, target) in TARGETS {
        if (options.targets.is_empty() || options.targets.iter().any(|wanted| wanted == name))
            && !hunt(name, target, &options)?
        {
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
        from: 0,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let number = match argument.as_str() {
            "--seconds" => &mut options.seconds,
            "--inputs" => &mut options.inputs,
            "--work" => &mut options.work,
            "--seed" => &mut options.seed,
            "--from" => &mut options.from,
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
    let corpus = corpus(name)?;
    let Options { seed, from, .. } = *options;
    println!("{name}: {} seeds, --seed {seed}", corpus.len());
    for bytes in &corpus {
        target(bytes);
    }
    let (start, limit) = (Instant::now(), Duration::from_secs(options.seconds));
    let (mut inputs, mut work) = (0, 0);
    let mut input = Vec::new();
    while inputs < options.inputs && work < options.work && (inputs % ROUND != 0 || start.elapsed() < limit) {
        let number = from + inputs;
        mutate(&corpus, seed, number, &mut input);
        match catch_unwind(|| target(&input)) {
            Ok(done) => work += done,
            Err(_) => {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("artifacts/{name}/{seed}-{number}"));
                std::fs::create_dir_all(path.parent().ok_or("no directory")?)?;
                std::fs::write(&path, &input)?;
                println!("{name}: FAILED; the input is in {}", path.display());
                println!("{name}: again with: {name} --seed {seed} --from {number} --inputs 1");
                return Ok(false);
            }
        }
        inputs += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{name}: sound; {inputs} inputs, {work} frames or calls in {seconds:.1} s");
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

/// Input `number`: one to three seeds behind one another, a few places changed, and every other time with right checksums.
fn mutate(corpus: &[Vec<u8>], seed: u64, number: u64, out: &mut Vec<u8>) {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed.wrapping_add(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    out.clear();
    for _ in 0..random.random_range(1..=3) {
        out.extend(&corpus[random.random_range(0..corpus.len())]);
    }
    for _ in 0..random.random_range(0..=6) {
        change(corpus, &mut random, out);
    }
    out.truncate(LEN_MAX);
    if random.random() {
        mend(out);
    }
}

fn change(corpus: &[Vec<u8>], random: &mut Xoshiro256PlusPlus, out: &mut Vec<u8>) {
    /// Ends of ranges, of varints and of frames.
    const EDGES: [u8; 10] = [0, 1, 2, 8, 9, 0x7F, 0x80, 0xBF, 0xFE, 0xFF];
    if out.is_empty() {
        out.push(random.random());
    }
    let at = random.random_range(0..out.len());
    let end = (at + random.random_range(1..=16)).min(out.len());
    match random.random_range(0..10) {
        0 => out[at] ^= 1 << random.random_range(0..8),
        1 => out[at] = EDGES[random.random_range(0..EDGES.len())],
        2 => out[at] = out[at].wrapping_add(random.random_range(0..=8)).wrapping_sub(4),
        3 => out[at..end].fill_with(|| random.random()),
        4 => drop(out.drain(at..end)),
        5 => out.insert(at, random.random()),
        6 => out.extend_from_within(at..end),
        7 => {
            let other = &corpus[random.random_range(0..corpus.len())];
            let from = random.random_range(0..=other.len());
            out.splice(at..end, other[from..].iter().copied().take(64));
        }
        8 => out.truncate(at),
        _ => {
            let value = random.next_u32() >> random.random_range(0..32_u32);
            for (byte, new) in out[at..].iter_mut().zip(value.to_le_bytes()) {
                *byte = new;
            }
        }
    }
}
