//! (tokenizer)
