//! `rao export`.

use super::policy::Arm;
use anyhow::{Context, bail};
use rao_trainer::backend::{Quant, Trainee};
use rao_trainer::config::{self, Config};
use rao_trainer::environments::EnvironmentName;
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

Of a policy that was trained with LoRA, all weights are written with the adapter merged, or the adapter alone:
  rao export runs/train-001 --format safetensors --dtype bf16 --max-shard 4 -o policy     for transformers, in files of up to 4 GiB
  rao export runs/train-001 --format adapter -o adapter                                   for PEFT, on the checkpoint
  rao export runs/train-001 --format gguf-adapter --quant f16 -o adapter.gguf             for llama.cpp, on a GGUF file of the checkpoint

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
    /// How a GGUF file stores matrices: f32, f16 (an adapter no other), q8_0, q4_0; with the feature `llama-cpp` also q6_k, q5_k_m, q4_k_m, ... Default: f32.
    #[arg(long)]
    quant: Option<Quant>,
    /// How safetensors hold matrices. Default: f32.
    #[arg(long, value_enum)]
    dtype: Option<Dtype>,
    /// Largest file of safetensors, in GiB. Default: one file.
    #[arg(long, value_name = "GIB")]
    max_shard: Option<f64>,
    /// Where to: a file, or the directory for safetensors and adapters.
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
    /// A directory of a Hugging Face model.
    Safetensors,
    /// The adapter alone, as PEFT has it.
    Adapter,
    /// The adapter alone, for llama.cpp.
    GgufAdapter,
}

impl Format {
    /// Whether a directory is written.
    fn is_directory(self) -> bool {
        matches!(self, Self::Safetensors | Self::Adapter)
    }
}

/// How safetensors hold matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Dtype {
    /// 32 bits, as they are.
    F32,
    /// 16 bits, the exponent of f32.
    Bf16,
    /// 16 bits, up to 65,504.
    F16,
}

impl From<Dtype> for config::Dtype {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::Bf16 => Self::Bf16,
            Dtype::F16 => Self::F16,
        }
    }
}

/// What [`Trainee::save`] writes into a directory: all weights, or an adapter.
const POLICY_FILES: [[&str; 2]; 2] = [
    ["config.json", "model.safetensors"],
    ["adapter_config.json", "adapter_model.safetensors"],
];
/// Names under which a directory of safetensors may hold weights or an index.
const INDEX_FILE: &str = "model.safetensors.index.json";

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    refuse_contradictions(args)?;
    let source = locate(&args.policy, args.arm)?;
    let output = &args.output;
    refuse_unwritable(args)?;
    // Wherever it was trained: nothing is computed.
    let mut config = Config::resolve(None, &["device=cpu".to_owned()])?;
    config.environment = environment(&args.policy)?;
    let policy =
        Trainee::load(&source, &config).with_context(|| format!("cannot load the policy in {}", source.display()))?;
    let quant = args.quant.unwrap_or(Quant::F32);
    let (parameters, kind) = match args.format {
        Format::Gguf => {
            policy.export(quant, output)?;
            (policy.parameters(), quant.to_string())
        }
        Format::Safetensors => {
            let dtype = args.dtype.unwrap_or(Dtype::F32);
            let most = args.max_shard.map(|gib| (gib * f64::from(1 << 30)) as u64);
            policy.export_merged(output, dtype.into(), most)?;
            (policy.parameters(), format!("{dtype:?}").to_lowercase())
        }
        Format::Adapter => {
            policy.export_adapter(output)?;
            (policy.trained_parameters(), Quant::F32.to_string())
        }
        Format::GgufAdapter => {
            let Quant::Written(kind) = quant else {
                bail!("--quant {quant} is too coarse for an adapter: f32 or f16");
            };
            policy.export_adapter_gguf(kind, output)?;
            (policy.trained_parameters(), quant.to_string())
        }
    };
    for file in written(args)? {
        let bytes = std::fs::metadata(&file)
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

/// Options that are for another format.
fn refuse_contradictions(args: &Args) -> anyhow::Result<()> {
    if args.format.is_directory()
        && let Some(quant) = args.quant
    {
        bail!("--quant {quant} is for GGUF: safetensors take --dtype; leave --quant or --format out");
    }
    if args.format != Format::Safetensors && (args.dtype.is_some() || args.max_shard.is_some()) {
        bail!("--dtype and --max-shard are for --format safetensors");
    }
    match args.max_shard {
        Some(gib) if !(gib.is_finite() && gib > 0.0) => bail!("--max-shard takes a number of GiB above 0"),
        _ => Ok(()),
    }
}

/// What was written, or, before that, what would be overwritten.
fn written(args: &Args) -> anyhow::Result<Vec<PathBuf>> {
    let output = &args.output;
    if !args.format.is_directory() {
        return Ok(if output.exists() {
            vec![output.clone()]
        } else {
            Vec::new()
        });
    }
    let mut files = Vec::new();
    if output.is_dir() {
        for entry in std::fs::read_dir(output).with_context(|| output.display().to_string())? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let of_a_policy = POLICY_FILES.iter().flatten().any(|file| *file == name);
            if of_a_policy || name == INDEX_FILE || name.ends_with(".safetensors") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The policy's own directory.
fn locate(path: &Path, arm: Option<Arm>) -> anyhow::Result<PathBuf> {
    let is_policy = POLICY_FILES
        .iter()
        .any(|files| files.iter().all(|name| path.join(name).is_file()));
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
            POLICY_FILES[0].join(" and ")
        ),
    }
}

/// What a policy speaks: what its run was about. One that has left its run is taken to speak TextCraft's language, as a checkpoint is.
fn environment(path: &Path) -> anyhow::Result<EnvironmentName> {
    // Its own, its run's, or from a checkpoint that of the run two levels up.
    let parent = path.parent();
    let checkpoints = parent.filter(|parent| parent.file_name().is_some_and(|name| name == "checkpoints"));
    let file = [Some(path), parent, checkpoints.and_then(Path::parent)]
        .into_iter()
        .flatten()
        .map(|directory| directory.join("config.toml"))
        .find(|file| file.is_file());
    match file {
        Some(file) => Ok(Config::resolve(Some(&file), &[])?.environment),
        None => Ok(EnvironmentName::default()),
    }
}

/// Says before any work what would fail after it.
fn refuse_unwritable(args: &Args) -> anyhow::Result<()> {
    let output = args.output.display();
    match args.format {
        Format::Gguf | Format::GgufAdapter if args.output.is_dir() => {
            bail!("{output} is a directory, and GGUF is one file: name it, such as {output}/policy.gguf");
        }
        Format::Safetensors | Format::Adapter if args.output.is_file() => {
            bail!("{output} is a file, and safetensors makes two: name a directory for them");
        }
        _ => {}
    }
    if let Some(parent) = args.output.parent()
        && !args.format.is_directory()
        && !parent.as_os_str().is_empty()
        && !parent.is_dir()
    {
        bail!("{output}: there is no directory {}; make it first", parent.display());
    }
    match written(args)?.first() {
        Some(file) if !args.force => bail!(
            "{} already exists: name another with -o, or add --force",
            file.display()
        ),
        _ => Ok(()),
    }
}
