//! Directories as others write them, and all that can be wrong with them.

use super::*;

#[test]
fn every_stored_type_is_read_as_every_other() {
    let weights = small(false);
    for stored in [DType::F32, DType::F16, DType::BF16] {
        let dir = tempfile::tempdir().unwrap();
        weights.save_as(dir.path(), stored, None).unwrap();
        for kept in [DType::F32, DType::F16, DType::BF16] {
            let loaded = Weights::load_as(dir.path(), kept, &Device::Cpu).unwrap();
            assert_eq!(loaded.dtype(), kept);
            for (name, var) in loaded.iter() {
                assert_eq!(var.dtype(), if var.rank() == 1 { DType::F32 } else { kept }, "{name}");
                // Candle's conversions are the yardstick.
                let expected = weights.get(name).unwrap().to_dtype(stored).unwrap();
                let expected = expected.to_dtype(DType::F32).unwrap().to_dtype(var.dtype()).unwrap();
                let numbers = |t: &candle_core::Tensor| {
                    t.to_dtype(DType::F32)
                        .unwrap()
                        .flatten_all()
                        .unwrap()
                        .to_vec1::<f32>()
                        .unwrap()
                };
                assert_eq!(numbers(var), numbers(&expected), "{name}: {stored:?} as {kept:?}");
            }
        }
    }
}

#[test]
fn weights_are_kept_in_no_other_type() {
    let dir = tempfile::tempdir().unwrap();
    small(false).save(dir.path()).unwrap();
    let error = Weights::load_as(dir.path(), DType::F64, &Device::Cpu).unwrap_err();
    assert!(
        matches!(error, WeightsError::Precision { dtype: DType::F64 }),
        "{error}"
    );
}

/// Saves a small model as one file, changes its tensors, and says where it is.
fn changed(tied: bool, change: impl FnOnce(&mut Tensors)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    small(tied).save(dir.path()).unwrap();
    let path = dir.path().join(WEIGHTS_FILE);
    let mut all = tensors(&path);
    change(&mut all);
    put(&path, &all);
    dir
}

#[test]
fn bad_tensors_are_refused_by_file_and_name() {
    let refused = |change: fn(&mut Tensors), parts: &[&str]| {
        let parts: Vec<_> = parts.iter().copied().chain([WEIGHTS_FILE]).collect();
        assert_refused(changed(false, change).path(), &parts);
    };
    refused(|all| drop(all.remove(NORM)), &[NORM, "missing"]);
    refused(|all| drop(all.remove(HEAD)), &[HEAD, "missing"]);
    refused(
        |all| drop(all.insert("extra".to_owned(), (Dtype::F32, vec![1], vec![0; 4]))),
        &["extra", "not part"],
    );
    refused(
        |all| drop(all.insert(NORM.to_owned(), (Dtype::F32, vec![9], vec![0; 36]))),
        &[NORM, "shape [9], expected [8]"],
    );
    refused(
        |all| drop(all.insert(EMBEDDING.to_owned(), (Dtype::F32, vec![8, 5], vec![0; 160]))),
        &[EMBEDDING, "shape [8, 5], expected [5, 8]"],
    );
    refused(
        |all| drop(all.insert(NORM.to_owned(), (Dtype::I8, vec![8], vec![0; 8]))),
        &[NORM, "I8", "F32, F16 and BF16"],
    );
    refused(
        |all| drop(all.insert(NORM.to_owned(), (Dtype::F8_E4M3, vec![8], vec![0; 8]))),
        &[NORM, "F8_E4M3"],
    );
    refused(
        |all| drop(all.insert(NORM.to_owned(), (Dtype::F64, vec![8], vec![0; 64]))),
        &[NORM, "F64"],
    );
}

#[test]
fn broken_numbers_are_named_with_their_place() {
    for (dtype, infinity, nan) in [
        (
            Dtype::F32,
            &0x7f80_0000_u32.to_le_bytes()[..],
            &0xffff_ffff_u32.to_le_bytes()[..],
        ),
        (Dtype::F16, &0x7c00_u16.to_le_bytes(), &0x7e00_u16.to_le_bytes()),
        (Dtype::BF16, &0xff80_u16.to_le_bytes(), &0x7fc0_u16.to_le_bytes()),
    ] {
        for (number, text) in [(infinity, "inf"), (nan, "NaN")] {
            let mut bytes = vec![0; 40 * number.len()];
            bytes[37 * number.len()..38 * number.len()].copy_from_slice(number);
            let dir = changed(false, |all| {
                drop(all.insert(HEAD.to_owned(), (dtype, vec![5, 8], bytes)))
            });
            assert_refused(dir.path(), &[WEIGHTS_FILE, HEAD, text, "element 37"]);
        }
    }
}

#[test]
fn what_a_type_cannot_hold_is_refused_by_number() {
    let mut large = vec![0; 160];
    large[12..16].copy_from_slice(&70_000_f32.to_le_bytes());
    let dir = changed(false, |all| {
        drop(all.insert(HEAD.to_owned(), (Dtype::F32, vec![5, 8], large)))
    });
    assert!(Weights::load_as(dir.path(), DType::BF16, &Device::Cpu).is_ok());
    let message = Weights::load_as(dir.path(), DType::F16, &Device::Cpu)
        .unwrap_err()
        .to_string();
    for part in [WEIGHTS_FILE, HEAD, "70000", "element 3", "F16"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_tied_output_layer_may_be_there_if_it_is_the_embedding() {
    let dir = changed(true, |all| drop(all.insert(HEAD.to_owned(), all[EMBEDDING].clone())));
    let loaded = load(dir.path()).unwrap();
    assert!(loaded.get(HEAD).is_none());
    assert_eq!(loaded.to_vec().unwrap(), small(true).to_vec().unwrap());

    let dir = changed(true, |all| {
        let mut head = all[EMBEDDING].clone();
        head.2[4 * 21 + 1] ^= 1;
        all.insert(HEAD.to_owned(), head);
    });
    assert_refused(dir.path(), &[WEIGHTS_FILE, HEAD, "element 21", "tie_word_embeddings"]);
    let dir = changed(true, |all| {
        drop(all.insert(HEAD.to_owned(), (Dtype::F32, vec![4, 8], vec![0; 128])))
    });
    assert_refused(dir.path(), &[WEIGHTS_FILE, HEAD, "[4, 8]"]);
}

#[test]
fn buffers_of_the_rotary_embedding_are_passed_over() {
    let buffer = "model.layers.0.self_attn.rotary_emb.inv_freq";
    let dir = changed(false, |all| {
        drop(all.insert(buffer.to_owned(), (Dtype::F32, vec![2], vec![0; 8])))
    });
    assert_eq!(
        load(dir.path()).unwrap().to_vec().unwrap(),
        small(false).to_vec().unwrap()
    );
}

#[test]
fn a_file_that_is_cut_is_refused_wherever_it_was_cut() {
    let dir = tempfile::tempdir().unwrap();
    small(false).save(dir.path()).unwrap();
    let path = dir.path().join(WEIGHTS_FILE);
    let bytes = std::fs::read(&path).unwrap();
    let data = small(false).config().parameters() * 4;
    let header = bytes.len() - data;
    for length in (0..header + 50).chain((header..bytes.len()).step_by(7)) {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let error = load(dir.path()).unwrap_err();
        match &error {
            WeightsError::Damaged { .. } => assert!(length < header, "{length}: {error}"),
            WeightsError::Truncated { tensor, .. } => {
                assert!(length >= header && tensor.ends_with(".weight"), "{length}: {error}");
            }
            _ => panic!("{length}: {error}"),
        }
        assert!(error.to_string().contains(WEIGHTS_FILE));
    }
    std::fs::write(&path, [&bytes[..], &[0]].concat()).unwrap();
    assert!(matches!(load(dir.path()), Err(WeightsError::Damaged { .. })));
}

#[test]
fn a_damaged_header_is_an_error_or_the_same_weights() {
    let dir = tempfile::tempdir().unwrap();
    small(false).save(dir.path()).unwrap();
    let path = dir.path().join(WEIGHTS_FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let whole = small(false).to_vec().unwrap();
    let mut refused = 0;
    for at in 0..header {
        for flip in [1, 0xff] {
            bytes[at] ^= flip;
            std::fs::write(&path, &bytes).unwrap();
            bytes[at] ^= flip;
            match load(dir.path()) {
                Ok(loaded) => assert_eq!(loaded.to_vec().unwrap().len(), whole.len()),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > header, "{refused} of {}", 2 * header);
}

/// A small model in several files.
fn sharded(tied: bool) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    small(tied).save_as(dir.path(), DType::F32, Some(600)).unwrap();
    assert_eq!(files(dir.path()).len(), 2 + 4, "{:?}", files(dir.path()));
    dir
}

const FIRST: &str = "model-00001-of-00004.safetensors";
const SECOND: &str = "model-00002-of-00004.safetensors";
const LAST: &str = "model-00004-of-00004.safetensors";

/// Rewrites the list of shards as text.
fn edit_index(dir: &Path, edit: impl FnOnce(String) -> String) {
    let path = dir.join(INDEX_FILE);
    let text = edit(std::fs::read_to_string(&path).unwrap());
    std::fs::write(&path, text).unwrap();
}

/// Rewrites where the list places a tensor.
fn place(dir: &Path, tensor: &str, shard: Option<&str>) {
    edit_index(dir, |text| {
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let map = json["weight_map"].as_object_mut().unwrap();
        match shard {
            Some(shard) => drop(map.insert(tensor.to_owned(), shard.into())),
            None => drop(map.remove(tensor)),
        }
        json.to_string()
    });
}

#[test]
fn shards_are_read_as_one_file_would_be() {
    for tied in [false, true] {
        let loaded = load(sharded(tied).path()).unwrap();
        assert_eq!(loaded.to_vec().unwrap(), small(tied).to_vec().unwrap());
    }
}

#[test]
fn one_whole_file_goes_before_a_list_of_shards() {
    let dir = sharded(false);
    let other = Weights::new(small(false).config(), 8, &Device::Cpu).unwrap();
    let single = tempfile::tempdir().unwrap();
    other.save(single.path()).unwrap();
    std::fs::copy(single.path().join(WEIGHTS_FILE), dir.path().join(WEIGHTS_FILE)).unwrap();
    assert_eq!(load(dir.path()).unwrap().to_vec().unwrap(), other.to_vec().unwrap());
}

#[test]
fn an_absent_shard_is_named_with_what_it_holds() {
    let dir = sharded(false);
    std::fs::remove_file(dir.path().join(LAST)).unwrap();
    assert_refused(dir.path(), &[LAST, "absent", ".weight"]);
}

#[test]
fn without_any_weights_the_usual_file_is_named() {
    let dir = sharded(false);
    std::fs::remove_file(dir.path().join(INDEX_FILE)).unwrap();
    assert_refused(dir.path(), &[WEIGHTS_FILE]);
}

#[test]
fn shards_that_are_cut_are_refused_wherever_they_were_cut() {
    let dir = sharded(false);
    for name in [FIRST, SECOND, LAST] {
        let path = dir.path().join(name);
        let bytes = std::fs::read(&path).unwrap();
        for length in (0..bytes.len()).step_by(13).chain([bytes.len() - 1]) {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert_refused(dir.path(), &[name, "truncated"]);
        }
        std::fs::write(&path, bytes).unwrap();
    }
    load(dir.path()).unwrap();
}

#[test]
fn a_list_that_is_cut_is_refused_wherever_it_was_cut() {
    let dir = sharded(false);
    let text = std::fs::read_to_string(dir.path().join(INDEX_FILE)).unwrap();
    for length in 0..text.trim_end().len() {
        edit_index(dir.path(), |_| text[..length].to_owned());
        assert!(matches!(load(dir.path()), Err(WeightsError::Index { .. })), "{length}");
    }
}

#[test]
fn a_tensor_is_listed_once() {
    let dir = sharded(false);
    edit_index(dir.path(), |text| {
        text.replace(
            "\"weight_map\": {",
            &format!("\"weight_map\": {{ \"{EMBEDDING}\": \"{LAST}\","),
        )
    });
    assert_refused(dir.path(), &[INDEX_FILE, EMBEDDING, "twice", FIRST]);
}

#[test]
fn shards_lie_beside_their_list() {
    let dir = sharded(false);
    for outside in ["../x.safetensors", "/etc/x", "sub/x", "..", ".", "", "./x", "x/"] {
        place(dir.path(), NORM, Some(outside));
        assert_refused(dir.path(), &[INDEX_FILE, NORM, outside, "directory"]);
    }
}

#[test]
fn list_and_shards_must_agree() {
    let dir = sharded(false);
    // Listed in another shard than it is in.
    place(dir.path(), EMBEDDING, Some(LAST));
    assert_refused(dir.path(), &[FIRST, EMBEDDING, LAST, "belong"]);
    // Listed and in none.
    place(dir.path(), EMBEDDING, Some(FIRST));
    place(dir.path(), "extra", Some(LAST));
    assert_refused(dir.path(), &[LAST, "extra", "missing"]);
    place(dir.path(), "extra", None);
    // Not listed at all.
    place(dir.path(), EMBEDDING, None);
    assert_refused(dir.path(), &[INDEX_FILE, EMBEDDING, "missing"]);
    place(dir.path(), EMBEDDING, Some(FIRST));
    load(dir.path()).unwrap();
    // In two shards, of which the list knows one.
    let path = dir.path().join(LAST);
    let whole = tensors(&path);
    let mut more = whole.clone();
    more.insert(
        EMBEDDING.to_owned(),
        tensors(&dir.path().join(FIRST))[EMBEDDING].clone(),
    );
    put(&path, &more);
    assert_refused(dir.path(), &[LAST, EMBEDDING, FIRST]);
    // Unknown to the configuration, listed or not.
    let mut more = whole.clone();
    more.insert("extra".to_owned(), (Dtype::F32, vec![1], vec![0; 4]));
    put(&path, &more);
    assert_refused(dir.path(), &[LAST, "extra", "not part"]);
    place(dir.path(), "extra", Some(LAST));
    assert_refused(dir.path(), &[LAST, "extra", "not part"]);
}

#[test]
fn a_tied_output_layer_may_lie_in_another_shard_and_type() {
    let dir = sharded(true);
    let embedding = tensors(&dir.path().join(FIRST))[EMBEDDING].clone();
    let path = dir.path().join(LAST);
    let mut last = tensors(&path);
    last.insert(HEAD.to_owned(), embedding.clone());
    put(&path, &last);
    load(dir.path()).unwrap();
    place(dir.path(), HEAD, Some(LAST));
    load(dir.path()).unwrap();
    // As bf16 it has lost bits.
    let bytes = embedding.2.chunks(4).flat_map(|number| number[2..].to_vec()).collect();
    last.insert(HEAD.to_owned(), (Dtype::BF16, embedding.1, bytes));
    put(&path, &last);
    assert_refused(dir.path(), &[LAST, HEAD, "element 0"]);
}
