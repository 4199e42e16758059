//! The directory that PEFT writes and reads: `adapter_config.json` and `adapter_model.safetensors`.

use super::*;
use crate::candle::weights::{Shard, read_var};
use crate::files::{self, whole::write_whole};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};
use std::io::Write;

pub(super) const CONFIG_FILE: &str = "adapter_config.json";
const TENSORS_FILE: &str = "adapter_model.safetensors";
const PREFIX: &str = "base_model.model.";

pub(super) fn tensor_name(module: &str, factor: Factor) -> String {
    format!("{PREFIX}{module}.lora_{factor:?}.weight")
}

/// The module of the model that a factor belongs to.
pub(super) fn module_name(tensor: &str) -> &str {
    let module = tensor.strip_prefix(PREFIX).unwrap_or(tensor);
    module.split(".lora_").next().unwrap_or(module)
}

impl Adapter {
    /// Writes `adapter_config.json` and `adapter_model.safetensors` into `dir`, which is created; PEFT loads them. `base` is what the
    /// configuration names as the model below: a directory, or a name on a hub. Each file appears whole or not at all.
    ///
    /// # Errors
    /// [`AdapterError::Io`] names the file; what was there before is unharmed.
    pub fn save(&self, dir: &Path, base: &str) -> Result<(), AdapterError> {
        let io = |path: &Path, source| AdapterError::Io {
            path: path.to_owned(),
            source,
        };
        std::fs::create_dir_all(dir).map_err(|source| io(dir, source))?;
        let mut tensors = Vec::with_capacity(self.vars.len());
        for (name, var) in self.iter() {
            let values = var.flatten_all()?.to_vec1::<f32>()?;
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            tensors.push((name.to_owned(), var.dims().to_vec(), bytes));
        }
        let path = dir.join(TENSORS_FILE);
        let damaged = |source| WeightsError::Damaged {
            path: path.clone(),
            source,
        };
        let mut views = Vec::with_capacity(tensors.len());
        for (name, shape, bytes) in &tensors {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(damaged)?;
            views.push((name, view));
        }
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(damaged)?;
        write_whole(&path, |file| file.write_all(&bytes)).map_err(|source| io(&path, source))?;
        let path = dir.join(CONFIG_FILE);
        let text = serde_json::to_string_pretty(&self.config.to_json(base)).map_err(|source| AdapterError::Json {
            path: path.clone(),
            source,
        })?;
        write_whole(&path, |file| file.write_all(text.as_bytes())).map_err(|source| io(&path, source))
    }

    /// Reads what [`save`](Self::save) or PEFT wrote, for a model of this shape. Nothing is returned unless every tensor is whole.
    ///
    /// # Errors
    /// [`AdapterError`] names the file, and the field or tensor that is at fault.
    pub fn load(dir: &Path, model: &ModelConfig, device: &Device) -> Result<Self, AdapterError> {
        let config = LoraConfig::load(dir)?;
        let path = dir.join(TENSORS_FILE);
        let file = Shard::open(path.clone())?;
        let adapter = Self::build(model, config, |name, shape, _| {
            Ok(read_var(&file, name, shape, DType::F32, device)?)
        })?;
        match file.names().into_iter().find(|name| !adapter.names.contains(name)) {
            Some(tensor) => Err(WeightsError::Unexpected { path, tensor }.into()),
            None => Ok(adapter),
        }
    }
}

fn read_json(path: &Path) -> Result<Value, AdapterError> {
    let text = files::read_text(path, files::SETTINGS_MAX).map_err(|source| AdapterError::Io {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_str(&text).map_err(|source| AdapterError::Json {
        path: path.to_owned(),
        source,
    })
}

impl LoraConfig {
    /// What `adapter_config.json` in `dir` names as the model below.
    ///
    /// # Errors
    /// [`AdapterError`]: the file cannot be read, or names none.
    pub fn base(dir: &Path) -> Result<String, AdapterError> {
        let path = dir.join(CONFIG_FILE);
        let json = read_json(&path)?;
        match json.get("base_model_name_or_path") {
            Some(Value::String(base)) => Ok(base.clone()),
            other => Err(AdapterError::Unsupported {
                path,
                field: "base_model_name_or_path",
                value: other.unwrap_or(&Value::Null).to_string(),
            }),
        }
    }

    /// Reads `adapter_config.json` in `dir`.
    ///
    /// # Errors
    /// [`AdapterError`] names the field: what PEFT can do and this code cannot is refused.
    pub fn load(dir: &Path) -> Result<Self, AdapterError> {
        let path = dir.join(CONFIG_FILE);
        let json = read_json(&path)?;
        let parse = |source| AdapterError::Json {
            path: path.clone(),
            source,
        };
        let unsupported = |field, value: &Value| AdapterError::Unsupported {
            path: path.clone(),
            field,
            value: value.to_string(),
        };
        // Absent and null mean the same to PEFT, and so do empty lists and maps.
        let nothing = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Object(fields) => fields.is_empty(),
            Value::Array(items) => items.is_empty(),
            _ => false,
        };
        match json.get("peft_type") {
            Some(Value::String(kind)) if kind == "LORA" => {}
            other => return Err(unsupported("peft_type", other.unwrap_or(&Value::Null))),
        }
        match json.get("bias") {
            None | Some(Value::Null) => {}
            Some(Value::String(bias)) if bias == "none" => {}
            Some(other) => return Err(unsupported("bias", other)),
        }
        for field in [
            "use_dora",
            "fan_in_fan_out",
            "modules_to_save",
            "layers_to_transform",
            "rank_pattern",
            "alpha_pattern",
            "exclude_modules",
            "lora_bias",
            "trainable_token_indices",
        ] {
            if let Some(value) = json.get(field)
                && !nothing(value)
            {
                return Err(unsupported(field, value));
            }
        }
        let number =
            |field| serde_json::from_value::<f64>(json.get(field).cloned().unwrap_or(Value::Null)).map_err(parse);
        let rank = serde_json::from_value::<usize>(json.get("r").cloned().unwrap_or(Value::Null)).map_err(parse)?;
        let alpha = number("lora_alpha")?;
        let targets = match json.get("target_modules") {
            Some(Value::String(all)) if all == "all-linear" => Target::ALL.to_vec(),
            Some(Value::Array(names)) => {
                let mut targets = Vec::with_capacity(names.len());
                for name in names {
                    let Some(Ok(target)) = name.as_str().map(Target::from_str) else {
                        return Err(unsupported("target_modules", name));
                    };
                    targets.push(target);
                }
                targets.sort_unstable();
                targets.dedup();
                targets
            }
            other => return Err(unsupported("target_modules", other.unwrap_or(&Value::Null))),
        };
        // Rank-stabilised LoRA divides by the root of the rank: the same thing with another alpha.
        let stabilised = json.get("use_rslora").and_then(Value::as_bool).unwrap_or(false);
        let alpha = if stabilised {
            alpha * (rank as f64).sqrt()
        } else {
            alpha
        };
        Ok(Self { rank, alpha, targets })
    }

    fn to_json(&self, base: &str) -> Value {
        // PEFT writes whole numbers as such.
        let alpha = if self.alpha.fract() == 0.0 && self.alpha < 1e15 {
            json!(self.alpha as u64)
        } else {
            json!(self.alpha)
        };
        json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "r": self.rank,
            "lora_alpha": alpha,
            "lora_dropout": 0.0,
            "target_modules": self.targets.iter().map(|target| target.name()).collect::<Vec<_>>(),
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "use_rslora": false,
            "use_dora": false,
            "modules_to_save": null,
            "layers_to_transform": null,
            "rank_pattern": {},
            "alpha_pattern": {},
        })
    }
}
