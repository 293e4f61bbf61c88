//! The routes, and the headers of every response.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use smol::Timer;
use smol::future::FutureExt;

use crate::http::{self, ApiError, Kind, Minute, Sample, Shape, Verdict};
use crate::limits::{HTTP_READ_TIMEOUT_MS, MAX_HTTP_BODIES_BYTES, MAX_HTTP_BODY_BYTES};
use crate::node::Status;

use super::State;
use super::answer::{self, model_name};
use super::feed::Out;
use crate::fronts::net;

const JSON: &str = "application/json";
/// The page loads nothing from elsewhere, and no other page may frame it.
const PAGE_POLICY: &str = "default-src 'none'; connect-src 'self'; img-src 'self' data:; script-src 'self'; style-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Answers any request.
pub(super) async fn answer(
    state: Rc<State>,
    request: Request<Incoming>,
) -> Result<Response<Out>, Infallible> {
    let (host, origin) =
        (text(request.headers(), header::HOST), text(request.headers(), header::ORIGIN));
    let verdict = state.gate.admits(host.as_deref(), origin.as_deref());
    let (allow_origin, result) = match verdict {
        Err(error) => (None, Err(error)),
        Ok(Verdict { allow_origin }) if request.method() == Method::OPTIONS => {
            (allow_origin, Ok(response(204, JSON, Out::of(""))))
        }
        Ok(Verdict { allow_origin }) => (allow_origin, served(&state, request).await),
    };
    let mut response = result.unwrap_or_else(|error| refusal(&error));
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(origin) = allow_origin.and_then(|origin| HeaderValue::from_str(&origin).ok()) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static("authorization, content-type"),
        );
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
    }
    Ok(response)
}

async fn served(state: &Rc<State>, request: Request<Incoming>) -> Result<Response<Out>, ApiError> {
    let path = request.uri().path().trim_end_matches('/').to_string();
    let (method, name) = (request.method().clone(), path.as_str());
    let asset = match name {
        "" => Some(("text/html; charset=utf-8", http::PAGE)),
        "/page.css" => Some(("text/css; charset=utf-8", http::STYLE)),
        "/page.js" => Some(("text/javascript; charset=utf-8", http::SCRIPT)),
        _ => None,
    };
    if let Some((kind, text)) = asset {
        only(&method, &Method::GET)?;
        let mut page = response(200, kind, Out::of(text));
        page.headers_mut()
            .insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
        return Ok(page);
    }
    if name == "/health" {
        only(&method, &Method::GET)?;
        state.host.running().map_err(|reason| ApiError::new(Kind::Unavailable, reason))?;
        return Ok(response(200, JSON, Out::of("{\"status\":\"ok\"}")));
    }
    state.gate.unlocks(text(request.headers(), header::AUTHORIZATION).as_deref())?;
    match name {
        "/v1/models" => {
            only(&method, &Method::GET)?;
            let running = running(state)?;
            Ok(response(
                200,
                JSON,
                Out::of(http::model_list(model_name(&running.model), 0, running.context)),
            ))
        }
        "/swarm" => {
            only(&method, &Method::GET)?;
            swarm(state)
        }
        "/prompt" => {
            only(&method, &Method::GET)?;
            json(&running(state)?.driver.map())
        }
        "/metrics" => {
            only(&method, &Method::GET)?;
            metrics(state)
        }
        "/v1/chat/completions" => {
            only(&method, &Method::POST)?;
            let asked = http::chat(&body(state, request).await?)?;
            answer::answer(state, Shape::Chat, asked)
                .await
                .map(|(out, kind)| response(200, kind, out))
        }
        "/v1/completions" => {
            only(&method, &Method::POST)?;
            let asked = http::completion(&body(state, request).await?)?;
            answer::answer(state, Shape::Completion, asked)
                .await
                .map(|(out, kind)| response(200, kind, out))
        }
        "/tokenize" => {
            only(&method, &Method::POST)?;
            let (text, special) = http::text_to_tokenize(&body(state, request).await?)?;
            let tokenizer = running(state)?.tokenizer;
            let tokens =
                if special { tokenizer.encode_prompt(&text) } else { tokenizer.encode(&text) };
            let tokens = tokens.map_err(|error| ApiError::of("content", error.to_string()))?;
            Ok(response(200, JSON, Out::of(serde_json::json!({ "tokens": tokens }).to_string())))
        }
        _ => Err(ApiError::new(
            Kind::NotFound,
            "there is no such path: docs/use/http.md lists the paths",
        )),
    }
}

fn running(state: &State) -> Result<Rc<crate::fronts::host::Running>, ApiError> {
    state.host.running().map_err(|reason| ApiError::new(Kind::Unavailable, reason))
}

fn only(given: &Method, method: &Method) -> Result<(), ApiError> {
    if given == method {
        Ok(())
    } else {
        Err(ApiError::new(Kind::Method, format!("use {method} for this path")))
    }
}

/// Reads a request's whole body within the limits for one body and for all bodies being read.
async fn body(state: &State, request: Request<Incoming>) -> Result<Vec<u8>, ApiError> {
    let whole = async {
        let (mut body, mut bytes) =
            (request.into_body(), Room { state, bytes: Vec::new(), counted: 0 });
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                ApiError::new(Kind::Invalid, format!("the request was cut short: {error}"))
            })?;
            if let Some(data) = frame.data_ref() {
                bytes.take(data)?;
            }
        }
        Ok(std::mem::take(&mut bytes.bytes))
    };
    let late = async {
        Timer::after(Duration::from_millis(HTTP_READ_TIMEOUT_MS)).await;
        Err(ApiError::new(Kind::Timeout, "the request came too slowly: send it again"))
    };
    whole.or(late).await
}

/// The part of a body read so far, counted towards all bodies being read.
struct Room<'a> {
    state: &'a State,
    bytes: Vec<u8>,
    /// Bytes counted, including those already handed on.
    counted: usize,
}

impl Room<'_> {
    fn take(&mut self, data: &[u8]) -> Result<(), ApiError> {
        if self.bytes.len() + data.len() > MAX_HTTP_BODY_BYTES {
            return Err(ApiError::new(
                Kind::TooLarge,
                format!("a request may have {MAX_HTTP_BODY_BYTES} bytes: shorten it"),
            ));
        }
        let reading = self.state.reading.get() + data.len();
        if reading > MAX_HTTP_BODIES_BYTES {
            return Err(ApiError::new(
                Kind::Busy,
                "too many long requests are being read: ask again in a moment",
            ));
        }
        self.state.reading.set(reading);
        self.counted += data.len();
        self.bytes.extend_from_slice(data);
        Ok(())
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.state.reading.set(self.state.reading.get() - self.counted);
    }
}

/// The swarm as this node sees it, for the page.
fn swarm(state: &State) -> Result<Response<Out>, ApiError> {
    #[derive(Serialize)]
    struct Swarm<'a> {
        name: Option<&'a str>,
        model: &'a str,
        chat: bool,
        context: usize,
        /// Whether a prompt is being answered: `/prompt` shows it.
        busy: bool,
        /// Requests that wait for a turn at the node.
        requests_waiting: usize,
        celsius: Option<f32>,
        hour: Vec<Minute>,
        #[serde(flatten)]
        status: &'a Status,
    }
    let running = running(state)?;
    let status = running.driver.status();
    let swarm = Swarm {
        name: running.name.as_deref(),
        model: model_name(&running.model),
        chat: running.form.is_chat_model(),
        context: running.context,
        busy: state.host.is_busy(),
        requests_waiting: state.queue.waiting(),
        celsius: net::celsius(),
        hour: state.host.meters.history(state.host.now()),
        status: &status,
    };
    json(&swarm)
}

fn json(data: &impl Serialize) -> Result<Response<Out>, ApiError> {
    let text = serde_json::to_string(data)
        .map_err(|error| ApiError::new(Kind::Internal, error.to_string()))?;
    Ok(response(200, JSON, Out::of(text)))
}

fn metrics(state: &State) -> Result<Response<Out>, ApiError> {
    let running = running(state)?;
    let status = running.driver.status();
    let place = state.host.effective.config.node.state.clone();
    let machine = net::machine(&running, place.as_deref(), state.host.now());
    let sample = Sample {
        status: &status,
        model: model_name(&running.model),
        waiting: state.queue.waiting(),
        machine: &machine,
    };
    let text = state.host.meters.text(&sample);
    Ok(response(200, "application/openmetrics-text; version=1.0.0; charset=utf-8", Out::of(text)))
}

fn refusal(error: &ApiError) -> Response<Out> {
    let mut response = response(error.kind.status(), JSON, Out::of(error.body()));
    if let Some(seconds) = error.kind.retry_after() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if error.kind == Kind::Unauthorized {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn response(status: u16, kind: &'static str, out: Out) -> Response<Out> {
    let mut response = Response::new(out);
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_string)
}
