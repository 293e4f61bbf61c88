//! The types of `[http]`: the address of the HTTP API, and who may use it.

use core::net::SocketAddr;

use crate::limits::{MAX_API_KEY_BYTES, MAX_HTTP_ORIGINS};

use super::value::{Kind, Secret, Setting, single};

/// An address and a port to serve on. Port 0 takes any free port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Listen(SocketAddr);

impl Listen {
    /// The address.
    pub(crate) fn addr(self) -> SocketAddr {
        self.0
    }
}

single!(
    Listen,
    Kind::Text,
    |text| text.parse().ok().map(Listen),
    |listen| listen.0.to_string(),
    "an address and a port, such as 0.0.0.0:8080 for all of this machine's, or 127.0.0.1:8080 for this machine alone"
);

/// The API key that clients must send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ApiKey(Secret);

impl ApiKey {
    /// The key itself.
    pub(crate) fn reveal(&self) -> &str {
        self.0.as_str()
    }

    /// A header can carry only visible ASCII.
    fn parse(text: &str) -> Option<ApiKey> {
        let is_sent = (1..=MAX_API_KEY_BYTES).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_sent.then(|| ApiKey(Secret::new(text)))
    }
}

single!(
    ApiKey,
    Kind::Text,
    ApiKey::parse,
    |_| Secret::HIDDEN.to_string(),
    format!(
        "letters, digits and signs without blanks, at most {MAX_API_KEY_BYTES}, in quotation marks"
    )
);

/// Web pages of other origins that may use the API.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Origins(Vec<String>);

impl Origins {
    /// Their origins.
    pub(crate) fn names(&self) -> &[String] {
        &self.0
    }
}

impl Setting for Origins {
    const KIND: Kind = Kind::List;
    fn read(given: &[&str]) -> Result<Origins, usize> {
        if given.len() > MAX_HTTP_ORIGINS {
            return Err(MAX_HTTP_ORIGINS);
        }
        let is_origin = |text: &str| {
            let authority = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
            let is_host = |host: &str| {
                !host.is_empty()
                    && host.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@".contains(&byte))
            };
            text == "*"
                || authority.map(|host| host.strip_suffix('/').unwrap_or(host)).is_some_and(is_host)
        };
        given
            .iter()
            .enumerate()
            .map(|(at, text)| is_origin(text).then(|| (*text).to_string()).ok_or(at))
            .collect::<Result<_, _>>()
            .map(Origins)
    }
    fn show(&self) -> Vec<String> {
        self.0.clone()
    }
    fn needs() -> String {
        format!(
            "a list of at most {MAX_HTTP_ORIGINS} origins such as \"https://example.org\", or \"*\" for any page"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_meant_is_refused() {
        assert_eq!(Listen::read(&["0.0.0.0:8080"]).unwrap().show(), ["0.0.0.0:8080"]);
        assert!(Listen::read(&["[::]:80"]).is_ok());
        for text in ["8080", ":8080", "localhost:8080", "0.0.0.0", ""] {
            assert!(Listen::read(&[text]).is_err(), "{text}");
        }
        assert_eq!(ApiKey::read(&["sk-1"]).unwrap().show(), [Secret::HIDDEN]);
        for text in ["", "a b", "ä", "a\n", &"x".repeat(MAX_API_KEY_BYTES + 1)] {
            assert!(ApiKey::read(&[text]).is_err(), "{text}");
        }
        assert_eq!(
            Origins::read(&["*", "https://example.org/", "http://127.0.0.1:3000"])
                .unwrap()
                .names()
                .len(),
            3
        );
        for text in ["example.org", "https://", "https://a/b", "null", ""] {
            assert_eq!(Origins::read(&["*", text]), Err(1), "{text}");
        }
    }
}
