//! What is written, and what is left of what was there before.

use super::*;

#[test]
fn a_directory_round_trips() {
    for tied in [false, true] {
        let weights = small(tied);
        let dir = tempfile::tempdir().unwrap();
        weights.save(dir.path()).unwrap();
        let loaded = load(dir.path()).unwrap();
        assert_eq!(loaded.config(), weights.config());
        assert_eq!(loaded.to_vec().unwrap(), weights.to_vec().unwrap());
        assert_eq!(loaded.get(HEAD).is_none(), tied);
        assert_eq!(files(dir.path()), ["config.json", WEIGHTS_FILE]);
    }
}

#[test]
fn the_file_is_the_one_that_safetensors_would_write() {
    let (dir, path) = (tempfile::tempdir().unwrap(), |dir: &Path| dir.join(WEIGHTS_FILE));
    small(false).save(dir.path()).unwrap();
    let written = std::fs::read(path(dir.path())).unwrap();
    let file = SafeTensors::deserialize(&written).unwrap();
    let format = [("format".to_owned(), "pt".to_owned())].into();
    assert_eq!(written, safetensors::serialize(file.tensors(), Some(format)).unwrap());
}

#[test]
fn what_is_kept_in_half_precision_is_saved_as_it_is() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    small(false).save(first.path()).unwrap();
    for dtype in [DType::BF16, DType::F16] {
        let weights = Weights::load_as(first.path(), dtype, &Device::Cpu).unwrap();
        weights.save(second.path()).unwrap();
        let again = Weights::load_as(second.path(), dtype, &Device::Cpu).unwrap();
        assert_eq!(again.to_vec().unwrap(), weights.to_vec().unwrap());
        // Gains are kept as f32, and lie first, where they are aligned.
        let all = tensors(&second.path().join(WEIGHTS_FILE));
        assert_eq!(all[NORM].0, Dtype::F32);
        assert_eq!(all[EMBEDDING].2.len(), 2 * 40);
    }
}

#[test]
fn shards_hold_no_more_than_asked_for() {
    for (dtype, size) in [(DType::F32, 4), (DType::BF16, 2), (DType::F16, 2)] {
        let weights = small(false);
        let total = weights.config().parameters() as u64 * size;
        let mut counts = Vec::new();
        for max in [0, 1, 300, 600, total - 1, total, u64::MAX] {
            let dir = tempfile::tempdir().unwrap();
            weights.save_as(dir.path(), dtype, Some(max)).unwrap();
            let names = files(dir.path());
            let shards: Vec<_> = names.iter().filter(|name| name.ends_with(".safetensors")).collect();
            counts.push(shards.len());
            let listed = std::fs::read_to_string(dir.path().join(INDEX_FILE));
            assert_eq!(listed.is_ok(), shards.len() > 1);
            for name in &shards {
                let all = tensors(&dir.path().join(name));
                let bytes: usize = all.values().map(|tensor| tensor.2.len()).sum();
                assert!(bytes as u64 <= max || all.len() == 1, "{name}: {bytes} of {max}");
            }
            if let Ok(listed) = listed {
                let json: serde_json::Value = serde_json::from_str(&listed).unwrap();
                assert_eq!(json["metadata"]["total_size"], total);
                assert_eq!(json["weight_map"].as_object().unwrap().len(), weights.vars().len());
                assert_eq!(json["weight_map"][EMBEDDING], *shards[0]);
            }
            let config = std::fs::read_to_string(dir.path().join("config.json")).unwrap();
            let config: serde_json::Value = serde_json::from_str(&config).unwrap();
            let name = ["float32", "bfloat16", "float16"][[DType::F32, DType::BF16, DType::F16]
                .iter()
                .position(|other| *other == dtype)
                .unwrap()];
            assert_eq!((&config["dtype"], &config["torch_dtype"]), (&name.into(), &name.into()));
            let loaded = Weights::load_as(dir.path(), dtype, &Device::Cpu).unwrap();
            let same = Weights::load_as(dir.path(), DType::F32, &Device::Cpu).unwrap();
            assert_eq!(loaded.to_vec().unwrap(), same.to_vec().unwrap());
        }
        assert_eq!(counts[0], weights.vars().len());
        assert!(
            counts.is_sorted_by(|a, b| a >= b) && counts[4..] == [2, 1, 1],
            "{counts:?}"
        );
    }
}

#[test]
fn what_was_there_before_is_replaced_whole() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
    std::fs::write(dir.path().join("model-of-mine.safetensors"), "").unwrap();
    for (seed, max, count) in [
        (1, None, 1),
        (2, Some(600), 4),
        (3, Some(1000), 2),
        (4, None, 1),
        (5, Some(600), 4),
    ] {
        let weights = Weights::new(small(false).config(), seed, &Device::Cpu).unwrap();
        weights.save_as(dir.path(), DType::F32, max).unwrap();
        assert_eq!(load(dir.path()).unwrap().to_vec().unwrap(), weights.to_vec().unwrap());
        let mut names = files(dir.path());
        names.retain(|name| name.starts_with("model") && name != "model-of-mine.safetensors");
        assert_eq!(names.len(), count + usize::from(count > 1), "{names:?}");
    }
    let names = files(dir.path());
    assert!(names.contains(&"tokenizer.json".to_owned()) && names.contains(&"model-of-mine.safetensors".to_owned()));
}

#[test]
fn numbers_that_cannot_be_read_again_are_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let weights = small(false);
    weights.save(dir.path()).unwrap();
    let refused = |dtype, max, parts: [&str; 4]| {
        let message = weights.save_as(dir.path(), dtype, max).unwrap_err().to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        // What was there is still there, and nothing beside it.
        assert_eq!(
            load(dir.path()).unwrap().to_vec().unwrap(),
            small(false).to_vec().unwrap()
        );
        assert_eq!(files(dir.path()), ["config.json", WEIGHTS_FILE]);
    };
    let head = weights.get(HEAD).unwrap();
    head.set(&head.affine(0.0, 1e5).unwrap()).unwrap();
    refused(DType::F16, None, [WEIGHTS_FILE, HEAD, "100000", "F16"]);
    refused(DType::F16, Some(100), ["model-000", HEAD, "100000", "element 0"]);
    head.set(&head.affine(0.0, f64::from(f32::MAX)).unwrap()).unwrap();
    refused(DType::BF16, None, [WEIGHTS_FILE, HEAD, "element 0", "BF16"]);
    head.set(&head.affine(f64::from(f32::MAX), 0.0).unwrap()).unwrap();
    refused(DType::F32, None, [WEIGHTS_FILE, HEAD, "element 0", "inf"]);
    refused(DType::U8, None, ["U8", "F32", "F16", "BF16"]);
}

#[test]
fn fields_that_say_nothing_of_the_shape_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    small(false).save(dir.path()).unwrap();
    let path = dir.path().join("config.json");
    let json =
        |path: &Path| -> serde_json::Value { serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap() };
    let mut config = json(&path);
    config["eos_token_id"] = serde_json::json!([151_645, 151_643]);
    config["bos_token_id"] = 151_643.into();
    config["initializer_range"] = 0.02.into();
    config["torch_dtype"] = "bfloat16".into();
    config["transformers_version"] = "4.51.0".into();
    config["rope_parameters"] = serde_json::json!({"rope_type": "default", "rope_theta": 1000.0});
    std::fs::write(&path, config.to_string()).unwrap();

    let weights = load(dir.path()).unwrap().copy().unwrap();
    let other = tempfile::tempdir().unwrap();
    weights.save_as(other.path(), DType::F16, None).unwrap();
    let fields = config.as_object_mut().unwrap();
    fields.remove("rope_parameters");
    fields.insert("torch_dtype".to_owned(), "float16".into());
    fields.insert("dtype".to_owned(), "float16".into());
    assert_eq!(json(&other.path().join("config.json")), config);
}
