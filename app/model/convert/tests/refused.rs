//! What is not converted: settings that Gemma 3 does not have, broken or missing files, and outputs
//! that cannot be written. Each gives one line that names the fault.

use super::*;

#[test]
fn what_gemma_3_does_not_have_is_refused() {
    let refused = |key: &str, value: Value| Case::new().with(key, value).refusal();
    assert!(
        refused("model_type", json!("llama"))
            .ends_with("model_type is llama; potluck converts gemma3 and gemma3_text")
    );
    assert!(refused("attention_bias", json!(true)).contains("attention_bias is true"));
    assert!(
        refused("use_bidirectional_attention", json!(true))
            .contains("use_bidirectional_attention is true")
    );
    assert!(refused("final_logit_softcapping", json!(30.0)).contains("Gemma 3 caps no logits"));
    assert!(refused("hidden_activation", json!("silu")).contains("Gemma 3's is gelu_pytorch_tanh"));
    assert!(refused("quantization_config", json!({})).contains("use the model in bfloat16"));
    assert!(
        refused("rope_scaling", json!({"rope_type": "yarn", "factor": 4}))
            .contains("rope_type is yarn")
    );
    assert!(
        refused("rope_scaling", json!({"rope_type": "linear"}))
            .contains("must be a positive number")
    );
    assert!(
        refused("rope_scaling", json!({"type": "linear", "factor": 0}))
            .contains("must be a positive number")
    );
    assert!(refused("layer_types", json!(["full_attention"])).contains("each of the 2 layers"));
    assert!(refused("head_dim", json!(15)).contains("RoPE rotates pairs"));
    assert!(refused("num_key_value_heads", json!(0)).contains("number of KV heads is 0"));
    assert!(refused("hidden_size", json!(-4)).contains("hidden_size is -4, not a size"));
    assert!(refused("hidden_size", json!(64)).contains("but config.json makes it 6 x 64"));
    assert!(refused("sliding_window_pattern", json!(0)).contains("sliding_window_pattern is 0"));
    assert!(
        refused("num_hidden_layers", json!(3))
            .contains("tensor model.layers.2.input_layernorm.weight is missing")
    );
    let one = Case::new().with("num_hidden_layers", json!(1)).refusal();
    assert!(one.contains("does not belong to Gemma 3's text model of 1 layers"), "{one}");
}

#[test]
fn broken_weights_are_refused_by_the_tensors_name() {
    let mut case = Case::new();
    let name = "model.layers.1.mlp.up_proj.weight";
    let mut values = vec![1.0f32; 40 * 32];
    values[1_000] = f32::NAN;
    case.tensors.insert(name.into(), (Dtype::F32, vec![40, 32], floats(values.clone())));
    let line = case.refusal();
    assert!(
        line.contains(&format!("tensor {name}, value 1000 is NaN: the weights are damaged")),
        "{line}"
    );
    values[1_000] = 1e6;
    case.tensors.insert(name.into(), (Dtype::F32, vec![40, 32], floats(values)));
    case.write();
    assert!(case.run(ConvertType::F32).is_ok());
    fs::remove_file(case.path("out.gguf")).unwrap();
    assert!(
        case.run(ConvertType::F16)
            .err()
            .unwrap()
            .contains("beyond half precision: convert with --type f32")
    );
    case.tensors.insert(name.into(), (Dtype::I8, vec![40, 32], vec![0; 40 * 32]));
    assert!(
        case.refusal()
            .contains(&format!("tensor {name} is I8; potluck converts F32, F16 and BF16"))
    );
}

#[test]
fn missing_truncated_and_foreign_files_are_named() {
    let empty = tempfile::tempdir().unwrap();
    let out = empty.path().join("out.gguf");
    let run =
        |dir: &Path| convert(dir, &out, ConvertType::F32, &mut |_| {}).unwrap_err().to_string();
    assert!(run(empty.path()).ends_with(
        "has neither model.safetensors nor its shards; download the model as safetensors"
    ));
    assert!(run(&empty.path().join("absent")).contains("cannot be read"));
    let case = Case::new();
    case.write();
    let file = case.path("model.safetensors");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 4]).unwrap();
    assert!(case.run(ConvertType::F32).err().unwrap().contains("it may be truncated"));
    fs::write(&file, b"GGUF\x03\0\0\0\0\0\0\0").unwrap();
    assert!(
        case.run(ConvertType::F32)
            .err()
            .unwrap()
            .contains("is a GGUF file; it needs no conversion")
    );
    fs::write(&file, [0xff; 64]).unwrap();
    assert!(case.run(ConvertType::F32).err().unwrap().contains("is not a safetensors file"));
    fs::write(&file, &whole).unwrap();
    fs::write(case.path("config.json"), b"{").unwrap();
    assert!(case.run(ConvertType::F32).err().unwrap().contains("config.json: damaged: not JSON"));
    fs::remove_file(case.path("config.json")).unwrap();
    assert!(case.run(ConvertType::F32).err().unwrap().contains("config.json: cannot be read"));
}

#[test]
fn a_conversion_that_cannot_be_written_says_so() {
    let case = Case::new();
    case.write();
    let line =
        convert(case.dir.path(), &case.path("absent/out.gguf"), ConvertType::F32, &mut |_| {})
            .unwrap_err()
            .to_string();
    assert!(line.contains("cannot be written"), "{line}");
    let line = convert(case.dir.path(), case.dir.path(), ConvertType::F32, &mut |_| {})
        .unwrap_err()
        .to_string();
    assert!(line.ends_with("is a directory; name a file in it"), "{line}");
}
