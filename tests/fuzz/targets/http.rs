//! HTTP API requests with any content: a body is understood or refused with a reason, and no header
//! grants what it must not.

#![no_main]

use libfuzzer_sys::fuzz_target;

use potluck::http::{self, ApiError, Gate, Prompt};

fn told(error: &ApiError) {
    assert!(!error.message.is_empty() && error.kind.status() >= 400, "{error:?}");
    let body: serde_json::Value = serde_json::from_str(&error.body()).expect("an error must be JSON");
    assert_eq!(body["error"]["message"], error.message);
}

fuzz_target!(|data: &[u8]| {
    match http::chat(data) {
        Ok(asked) => assert!(matches!(asked.prompt, Prompt::Chat { .. })),
        Err(error) => told(&error),
    }
    match http::completion(data) {
        Ok(asked) => assert!(!matches!(asked.prompt, Prompt::Chat { .. })),
        Err(error) => told(&error),
    }
    if let Err(error) = http::text_to_tokenize(data) {
        told(&error);
    }
    let Ok(text) = str::from_utf8(data) else { return };
    let (host, rest) = text.split_once('\n').unwrap_or((text, ""));
    let (origin, key) = rest.split_once('\n').unwrap_or((rest, ""));
    let gate = Gate::new(Some("secret"), &[], Some("kitchen"));
    if let Ok(verdict) = gate.admits(Some(host), Some(origin)) {
        // Only the node's own page gets this far.
        assert_eq!(verdict.allow_origin, None);
        let authority = origin.to_ascii_lowercase();
        let authority = authority.strip_prefix("http://").or_else(|| authority.strip_prefix("https://"));
        assert_eq!(authority, Some(host.to_ascii_lowercase().as_str()));
    }
    if gate.unlocks(Some(key)).is_ok() {
        assert_eq!(key.split_once(' ').map(|(_, key)| key.trim()), Some("secret"));
    }
});
