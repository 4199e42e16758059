//! `rao export`.

use super::policy::Arm;
use anyhow::{Context, bail};
use rao_trainer::backend::{Quant, Trainee};
use rao_trainer::config::Config;
use rao_trainer::run::RunDir;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  rao export runs/train-001 -o policy.gguf                  for llama.cpp, with the very bits that were trained
  rao export runs/train-001 --quant f16 -o policy.gguf      half the size; a small policy loses nothing that shows
  rao export runs/train-001 --quant q8_0 -o policy.gguf     a quarter; q4_0 an eighth, for large policies only
  rao export runs/train-001 --arm flat -o flat.gguf         another policy of the run
  rao export runs/train-001/recursive -o policy.gguf        a policy by its own directory
  rao export runs/train-001 --format safetensors -o policy  config.json and model.safetensors, into the directory `policy`

The GGUF file holds the names of the tokens: `GOAL S0 #3` reads as three tokens, and `FINISH` ends what is generated.")]
pub struct Args {
    /// Run directory of `rao train`, or the directory of one policy.
    #[arg(value_name = "RUN")]
    policy: PathBuf,
    /// Which policy of the run. Default: recursive.
    #[arg(long, value_enum)]
    arm: Option<Arm>,
    /// What to write.
    #[arg(long, value_enum, default_value_t = Format::Gguf)]
    format: Format,
    /// How a GGUF file stores matrices: f32, f16, q8_0, q4_0; with the feature `llama-cpp` also q6_k, q5_k_m, q4_k_m, ... Default: f32.
    #[arg(long)]
    quant: Option<Quant>,
    /// Where to: a file, or the directory for safetensors.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Overwrite what is there.
    #[arg(long)]
    force: bool,
}

/// What other programs read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// One file for llama.cpp.
    Gguf,
    /// The two files of a Hugging Face model.
    Safetensors,
}

/// What [`Trainee::save`] writes into a directory.
const POLICY_FILES: [&str; 2] = ["config.json", "model.safetensors"];

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.format == Format::Safetensors
        && let Some(quant) = args.quant
    {
        bail!("--quant {quant} is for GGUF: safetensors holds the weights as they are; leave --quant or --format out");
    }
    let source = locate(&args.policy, args.arm)?;
    let output = &args.output;
    let files: Vec<PathBuf> = match args.format {
        Format::Gguf => vec![output.clone()],
        Format::Safetensors => POLICY_FILES.iter().map(|name| output.join(name)).collect(),
    };
    refuse_unwritable(args, &files)?;
    // Wherever it was trained: nothing is computed.
    let config = Config::resolve(None, &["device=cpu".to_owned()])?;
    let policy =
        Trainee::load(&source, &config).with_context(|| format!("cannot load the policy in {}", source.display()))?;
    let kind = match args.format {
        Format::Gguf => {
            let quant = args.quant.unwrap_or(Quant::F32);
            policy.export(quant, output)?;
            quant.to_string()
        }
        Format::Safetensors => {
            policy.save(output)?;
            Quant::F32.to_string()
        }
    };
    let parameters = policy.parameters();
    for file in &files {
        let bytes = std::fs::metadata(file)
            .with_context(|| file.display().to_string())?
            .len();
        super::print(&format!("{}  {bytes} bytes\n", file.display()))?;
    }
    super::print(&format!(
        "{parameters} parameters as {kind}, from {}\n",
        source.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// The policy's own directory.
fn locate(path: &Path, arm: Option<Arm>) -> anyhow::Result<PathBuf> {
    let is_policy = POLICY_FILES.iter().all(|name| path.join(name).is_file());
    match (RunDir::open(path), arm) {
        (Ok(run), arm) => Ok(run.policy(arm.unwrap_or(Arm::Recursive).name())),
        (Err(_), None) if is_policy => Ok(path.to_owned()),
        (Err(_), Some(arm)) if is_policy => bail!(
            "--arm {} names a policy of a run, and {} is one policy already: leave --arm out",
            arm.name(),
            path.display()
        ),
        (Err(_), _) => bail!(
            "{} is neither a run of `rao train` (config.toml is missing) nor a policy ({} are): name one of them, such as runs/train-001",
            path.display(),
            POLICY_FILES.join(" and ")
        ),
    }
}

/// Says before any work what would fail after it.
fn refuse_unwritable(args: &Args, files: &[PathBuf]) -> anyhow::Result<()> {
    let output = args.output.display();
    match args.format {
        Format::Gguf if args.output.is_dir() => {
            bail!("{output} is a directory, and GGUF is one file: name it, such as {output}/policy.gguf");
        }
        Format::Safetensors if args.output.is_file() => {
            bail!("{output} is a file, and safetensors makes two: name a directory for them");
        }
        _ => {}
    }
    if let Some(parent) = args.output.parent()
        && args.format == Format::Gguf
        && !parent.as_os_str().is_empty()
        && !parent.is_dir()
    {
        bail!("{output}: there is no directory {}; make it first", parent.display());
    }
    match files.iter().find(|file| file.exists()) {
        Some(file) if !args.force => bail!(
            "{} already exists: name another with -o, or add --force",
            file.display()
        ),
        _ => Ok(()),
    }
}
