use super::*;

#[test]
fn tiny_is_about_a_hundred_thousand_parameters() {
    let config = ModelConfig::tiny(113);
    config.validate().unwrap();
    assert_eq!(config.parameters(), 96_768);
}

#[test]
fn json_round_trips_and_names_the_architecture() {
    let config = ModelConfig::tiny(113);
    let text = config.to_json().unwrap();
    assert!(text.contains("Qwen3ForCausalLM") && text.contains("\"model_type\": \"qwen3\""));
    assert_eq!(ModelConfig::from_json(&text).unwrap(), config);
}

#[test]
fn transformers_five_keeps_theta_in_rope_parameters() {
    let mut json: serde_json::Value = serde_json::from_str(&ModelConfig::tiny(9).to_json().unwrap()).unwrap();
    let fields = json.as_object_mut().unwrap();
    fields.remove("rope_theta");
    fields.insert(
        "rope_parameters".into(),
        serde_json::json!({"rope_theta": 5e5, "rope_type": "default"}),
    );
    assert_eq!(ModelConfig::from_json(&json.to_string()).unwrap().rope_theta, 5e5);
}

#[test]
fn what_cannot_be_computed_is_refused_by_name() {
    let tiny = ModelConfig::tiny(9);
    let check = |config: ModelConfig, part: &str| {
        let message = config.validate().unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    };
    check(
        ModelConfig {
            vocab_size: 0,
            ..tiny.clone()
        },
        "vocab_size",
    );
    check(
        ModelConfig {
            head_dim: 15,
            ..tiny.clone()
        },
        "head_dim",
    );
    check(
        ModelConfig {
            num_key_value_heads: 3,
            ..tiny.clone()
        },
        "no multiple",
    );
    check(
        ModelConfig {
            rope_theta: f64::NAN,
            ..tiny.clone()
        },
        "rope_theta",
    );
    for (field, value) in [
        ("model_type", serde_json::json!("llama")),
        ("attention_bias", serde_json::json!(true)),
        ("quantization_config", serde_json::json!({"quant_method": "fp8"})),
        (
            "layer_types",
            serde_json::json!(["full_attention", "sliding_attention"]),
        ),
        ("partial_rotary_factor", serde_json::json!(0.5)),
    ] {
        let mut json: serde_json::Value = serde_json::from_str(&tiny.to_json().unwrap()).unwrap();
        json[field] = value;
        let message = ModelConfig::from_json(&json.to_string()).unwrap_err().to_string();
        assert!(message.contains(field), "{message}");
    }
}

/// Tiny's fields, with these in their place.
fn parse(fields: serde_json::Value) -> Result<ModelConfig, ConfigError> {
    let mut json: serde_json::Value = serde_json::from_str(&ModelConfig::tiny(9).to_json().unwrap()).unwrap();
    for (field, value) in fields.as_object().unwrap() {
        match value.as_str() {
            Some("absent") => drop(json.as_object_mut().unwrap().remove(field)),
            _ => json[field] = value.clone(),
        }
    }
    ModelConfig::from_json(&json.to_string())
}

#[test]
fn what_is_left_out_is_what_transformers_takes() {
    let config =
        parse(serde_json::json!({"head_dim": "absent", "num_attention_heads": 32, "num_key_value_heads": "absent"}))
            .unwrap();
    assert_eq!((config.head_dim, config.num_key_value_heads), (128, 32));
    let config = parse(serde_json::json!({"num_key_value_heads": null, "tie_word_embeddings": "absent"})).unwrap();
    assert_eq!((config.num_key_value_heads, config.tie_word_embeddings), (4, false));
}

#[test]
fn rope_scaling_is_read_in_every_spelling() {
    let yarn = Some(RopeScaling::Yarn(Yarn::new(4.0, 32_768)));
    let fields = serde_json::json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768});
    let with = |field: &str, value: serde_json::Value| {
        let mut fields = fields.clone();
        fields[field] = value;
        fields
    };
    let mut legacy = with("type", "yarn".into());
    legacy.as_object_mut().unwrap().remove("rope_type");
    for json in [
        serde_json::json!({"rope_scaling": fields}),
        serde_json::json!({"rope_scaling": legacy}),
        serde_json::json!({"rope_scaling": with("attention_factor", serde_json::Value::Null)}),
        serde_json::json!({"rope_scaling": with("beta_fast", 32.into())}),
        serde_json::json!({"rope_scaling": null, "rope_parameters": fields}),
        serde_json::json!({"rope_scaling": fields, "rope_parameters": fields}),
        serde_json::json!({"rope_theta": "absent", "rope_parameters": with("rope_theta", 1000.into())}),
        serde_json::json!({"rope_scaling": with("original_max_position_embeddings", 7.into()), "original_max_position_embeddings": 32_768}),
    ] {
        let config = parse(json.clone()).unwrap();
        assert_eq!((config.rope_scaling, config.rope_theta), (yarn, 1000.0), "{json}");
        assert_eq!(ModelConfig::from_json(&config.to_json().unwrap()).unwrap(), config);
    }
    for none in [
        serde_json::json!(null),
        serde_json::json!({}),
        serde_json::json!({"rope_type": "default"}),
    ] {
        assert_eq!(
            parse(serde_json::json!({"rope_scaling": none})).unwrap().rope_scaling,
            None
        );
    }
}

#[test]
fn other_scalings_are_refused_by_name() {
    for (fields, parts) in [
        (
            serde_json::json!({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}),
            ["rope_scaling.rope_type", "dynamic"],
        ),
        (
            serde_json::json!({"rope_scaling": {"type": "longrope", "factor": 2.0}}),
            ["rope_scaling.rope_type", "longrope"],
        ),
        (
            serde_json::json!({"rope_parameters": {"rope_type": "ours"}}),
            ["rope_parameters.rope_type", "ours"],
        ),
        (serde_json::json!({"rope_scaling": "yarn"}), ["rope_scaling", "yarn"]),
        (
            serde_json::json!({"rope_scaling": {"rope_type": "yarn"}}),
            ["factor", "missing"],
        ),
        (
            serde_json::json!({"rope_scaling": {"rope_type": "linear", "factor": 0.5}}),
            ["rope_scaling.factor", "0.5"],
        ),
        (
            serde_json::json!({"rope_scaling": {"rope_type": "yarn", "factor": 2, "beta_fast": 0.5}}),
            ["beta_fast", "0.5"],
        ),
        (
            serde_json::json!({"rope_scaling": {"rope_type": "yarn", "factor": 2, "mscale": 0}}),
            ["mscale", "got 0"],
        ),
        (
            serde_json::json!({"rope_scaling": {"rope_type": "yarn", "factor": 2, "original_max_position_embeddings": 0}}),
            ["original_max", "got 0"],
        ),
        (
            serde_json::json!({"rope_scaling": {"rope_type": "llama3", "factor": 2, "low_freq_factor": 4, "high_freq_factor": 4}}),
            ["high_freq_factor", "got 4"],
        ),
        (
            serde_json::json!({"rope_parameters": {"rope_type": "default", "rope_theta": 5}}),
            ["rope_parameters.rope_theta", "5"],
        ),
        (
            serde_json::json!({"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}),
            ["rope_parameters.full_attention", "yarn"],
        ),
        (
            serde_json::json!({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}),
            ["rope_parameters.partial_rotary_factor", "0.5"],
        ),
        (
            serde_json::json!({"rope_scaling": {"type": "linear", "factor": 2}, "rope_parameters": {"type": "linear", "factor": 4}}),
            ["rope_parameters", "4"],
        ),
    ] {
        let message = parse(fields).unwrap_err().to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
}
