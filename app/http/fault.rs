//! API errors: why a request is not answered.

use serde::Serialize;

/// The kind of error, one per HTTP status.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The request is invalid, or asks for something unsupported.
    Invalid,
    /// No key, or a wrong one.
    Unauthorized,
    /// The page that sent the request is not allowed to.
    Forbidden,
    /// There is no such path.
    NotFound,
    /// The path does not support this method.
    Method,
    /// The client sent too slowly.
    Timeout,
    /// The request is too long.
    TooLarge,
    /// Too many requests at once.
    Busy,
    /// The model has failed.
    Internal,
    /// There is no model yet, or no room at the moment.
    Unavailable,
}

impl Kind {
    /// Its HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Kind::Invalid => 400,
            Kind::Unauthorized => 401,
            Kind::Forbidden => 403,
            Kind::NotFound => 404,
            Kind::Method => 405,
            Kind::Timeout => 408,
            Kind::TooLarge => 413,
            Kind::Busy => 429,
            Kind::Internal => 500,
            Kind::Unavailable => 503,
        }
    }

    /// The error type that clients know.
    fn name(self) -> &'static str {
        match self {
            Kind::Invalid | Kind::NotFound | Kind::Method | Kind::Timeout | Kind::TooLarge => {
                "invalid_request_error"
            }
            Kind::Unauthorized => "authentication_error",
            Kind::Forbidden => "permission_error",
            Kind::Busy => "rate_limit_error",
            Kind::Internal => "server_error",
            Kind::Unavailable => "unavailable_error",
        }
    }

    /// Seconds after which a retry is worthwhile.
    pub(crate) fn retry_after(self) -> Option<u32> {
        matches!(self, Kind::Busy | Kind::Unavailable).then_some(2)
    }
}

/// Why a request is not answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiError {
    /// The kind of error.
    pub kind: Kind,
    /// The message for a person, with what to do.
    pub message: String,
    /// The request field at fault.
    pub(crate) param: Option<&'static str>,
    /// An error code for programs.
    pub(crate) code: Option<&'static str>,
}

#[derive(Serialize)]
struct Body<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<&'static str>,
    code: Option<&'static str>,
}

impl ApiError {
    /// An error of this kind.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> ApiError {
        ApiError { kind, message: message.into(), param: None, code: None }
    }

    /// An invalid value of this field.
    pub(crate) fn of(param: &'static str, message: impl Into<String>) -> ApiError {
        ApiError { param: Some(param), ..ApiError::new(Kind::Invalid, message) }
    }

    /// The same error with a code for programs.
    pub(crate) fn coded(self, code: &'static str) -> ApiError {
        ApiError { code: Some(code), ..self }
    }

    /// The response body.
    pub fn body(&self) -> String {
        let inner = Inner {
            message: &self.message,
            r#type: self.kind.name(),
            param: self.param,
            code: self.code,
        };
        serde_json::to_string(&Body { error: inner })
            .unwrap_or_else(|error| unreachable!("errors are plain data: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_form_that_clients_read() {
        let error = ApiError::of("n", "one answer at a time: leave n out").coded("unsupported");
        let body: serde_json::Value = serde_json::from_str(&error.body()).unwrap();
        assert_eq!(
            body,
            serde_json::json!({"error": {"message": "one answer at a time: leave n out", "type": "invalid_request_error",
                "param": "n", "code": "unsupported"}})
        );
        assert_eq!(
            (error.kind.status(), Kind::Busy.status(), Kind::Busy.retry_after()),
            (400, 429, Some(2))
        );
    }
}
