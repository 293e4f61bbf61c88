//! Access control for the HTTP API.
//!
//! Two checks protect a board on the LAN from other pages in a browser. A page elsewhere may have
//! its name resolve to the board's address (DNS rebinding), so a request's Host must be an address
//! or one of the board's names. And a page may send requests whose responses it cannot read, so a
//! request's Origin, if present, must be the board's own page or one that the settings name. An API
//! key, if set, is required for everything but the page itself and `/health`.

use core::net::IpAddr;

use super::{ApiError, Kind};

/// The checks; see the module header.
#[derive(Clone, Debug)]
pub struct Gate {
    /// The key's digest, so that comparing takes the same time for any input.
    key: Option<blake3::Hash>,
    /// Allowed origins of pages elsewhere; `*` allows any.
    origins: Vec<String>,
    /// This board's names.
    names: Vec<String>,
}

/// The result for an admitted request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// The foreign origin that the response must allow to read it.
    pub allow_origin: Option<String>,
}

impl Gate {
    /// The gate of a board with this name.
    pub fn new(key: Option<&str>, origins: &[String], name: Option<&str>) -> Gate {
        let own = name.into_iter().flat_map(|name| {
            [name.to_ascii_lowercase(), format!("{}.local", name.to_ascii_lowercase())]
        });
        let names = own.chain(["localhost".to_string()]).collect();
        let origins = origins
            .iter()
            .map(|origin| origin.trim_end_matches('/').to_ascii_lowercase())
            .collect();
        Gate { key: key.map(|key| blake3::hash(key.as_bytes())), origins, names }
    }

    /// Admits or refuses a request by its Host and Origin headers.
    ///
    /// # Errors
    /// [`ApiError`], for the client.
    pub fn admits(&self, host: Option<&str>, origin: Option<&str>) -> Result<Verdict, ApiError> {
        let host =
            host.ok_or_else(|| ApiError::new(Kind::Invalid, "the request has no Host header"))?;
        if !self.is_own(host) {
            let names = self.names.join(", ");
            let message = format!("this node is not called {host:?}: use its address, or {names}");
            return Err(ApiError::new(Kind::Forbidden, message));
        }
        let Some(origin) = origin.map(str::to_ascii_lowercase) else {
            return Ok(Verdict { allow_origin: None });
        };
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if authority == Some(host.to_ascii_lowercase().as_str()) {
            return Ok(Verdict { allow_origin: None });
        }
        if self.origins.iter().any(|known| known == "*" || *known == origin) {
            return Ok(Verdict { allow_origin: Some(origin) });
        }
        let message = "pages from elsewhere may not ask: to allow one, name its origin in [http] origins of potluck.toml";
        Err(ApiError::new(Kind::Forbidden, message))
    }

    /// Checks the key in the header `Authorization`, if a key is set.
    ///
    /// # Errors
    /// [`ApiError`], for the client.
    pub fn unlocks(&self, authorization: Option<&str>) -> Result<(), ApiError> {
        let Some(key) = self.key else { return Ok(()) };
        let given = authorization.and_then(|header| header.split_once(' '));
        match given {
            Some((scheme, given))
                if scheme.eq_ignore_ascii_case("bearer")
                    && blake3::hash(given.trim().as_bytes()) == key =>
            {
                Ok(())
            }
            Some(_) => {
                Err(ApiError::new(Kind::Unauthorized, "this is not the API key of this node")
                    .coded("invalid_api_key"))
            }
            None => {
                let message = "an API key is needed: send it as Authorization: Bearer KEY";
                Err(ApiError::new(Kind::Unauthorized, message).coded("invalid_api_key"))
            }
        }
    }

    /// Whether a Host header names this board.
    fn is_own(&self, host: &str) -> bool {
        if host.parse::<IpAddr>().is_ok() {
            return true;
        }
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split_once(']').map_or(rest, |(address, _)| address),
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        name.parse::<IpAddr>().is_ok() || self.names.contains(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Gate {
        Gate::new(Some("secret"), &["https://example.org".to_string()], Some("Kitchen"))
    }

    #[test]
    fn a_name_that_is_not_the_boards_is_refused_so_that_no_page_can_borrow_its_address() {
        for host in [
            "192.168.1.7",
            "192.168.1.7:8080",
            "[fe80::1]:8080",
            "::1",
            "localhost:80",
            "kitchen",
            "KITCHEN.local.:8080",
        ] {
            assert!(gate().admits(Some(host), None).is_ok(), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "kitchen.evil.example",
            "",
            "127.0.0.1.evil.example",
            "[evil]:80",
        ] {
            assert_eq!(
                gate().admits(Some(host), None).unwrap_err().kind,
                Kind::Forbidden,
                "{host}"
            );
        }
        assert_eq!(gate().admits(None, None).unwrap_err().kind, Kind::Invalid);
    }

    #[test]
    fn only_its_own_page_and_named_ones_may_ask() {
        let verdict = |origin| {
            gate().admits(Some("127.0.0.1:8080"), Some(origin)).map(|verdict| verdict.allow_origin)
        };
        assert_eq!(verdict("http://127.0.0.1:8080"), Ok(None));
        assert_eq!(
            verdict("HTTPS://example.org/".trim_end_matches('/')),
            Ok(Some("https://example.org".to_string()))
        );
        for origin in [
            "null",
            "http://127.0.0.1",
            "https://example.org@evil",
            "http://example.org",
            "https://localhost",
            "",
        ] {
            assert_eq!(verdict(origin).unwrap_err().kind, Kind::Forbidden, "{origin}");
        }
        let any = Gate::new(None, &["*".to_string()], None);
        assert!(any.admits(Some("10.0.0.2"), Some("https://crates.io")).is_ok());
    }

    #[test]
    fn the_key_is_asked_for_where_there_is_one() {
        assert!(gate().unlocks(Some("Bearer secret")).is_ok());
        assert!(gate().unlocks(Some("bearer  secret ")).is_ok());
        for header in [
            None,
            Some("Bearer"),
            Some("Bearer secre"),
            Some("Bearer secrets"),
            Some("Basic secret"),
            Some("secret"),
        ] {
            assert_eq!(gate().unlocks(header).unwrap_err().kind, Kind::Unauthorized, "{header:?}");
        }
        assert!(Gate::new(None, &[], None).unlocks(None).is_ok());
    }
}
