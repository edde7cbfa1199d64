//! Whether the pages of other sites may read answers (CORS, in the Fetch Standard).

use crate::chain::Next;
use common::{Request, Response};

pub struct Cors {
    /// The other sites, as `https://example.com`, or `*` for all.
    pub origins: Vec<String>,
    pub allow_credentials: bool,
}

impl Cors {
    /// Calls what comes next, and adds what the page's browser wants to know. A preflight, by which the browser asks
    /// before it sends a request, is answered here: it has no cookies, and no login would let it pass.
    pub fn answer(&self, request: &Request, next: Next) -> Response {
        let origin = request.header("Origin").unwrap_or_default();
        let is_preflight = request.method() == "OPTIONS"
            && !origin.is_empty()
            && request.header("Access-Control-Request-Method").is_some();
        let allowed = self.origins.iter().find(|it| *it == "*" || it.as_bytes() == origin);
        let mut response =
            if is_preflight { self.preflight(allowed.is_some()) } else { next(request) };
        if self.origins.iter().any(|it| it != "*") {
            response = response.header("Vary", "Origin"); // another origin gets another answer
        }
        let Some(allowed) = allowed else { return response };
        response = response.header("Access-Control-Allow-Origin", allowed.clone());
        if self.allow_credentials {
            response = response.header("Access-Control-Allow-Credentials", "true");
        }
        response
            .header("Access-Control-Expose-Headers", "ETag, Location, Retry-After, X-Request-Id")
    }

    fn preflight(&self, is_allowed: bool) -> Response {
        let vary = "Access-Control-Request-Method, Access-Control-Request-Headers";
        let response = Response::new(204).header("Vary", vary);
        if !is_allowed {
            return response;
        }
        response
            .header("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE")
            .header(
                "Access-Control-Allow-Headers",
                "Content-Type, Authorization, If-Match, If-None-Match, Range",
            )
            .header("Access-Control-Max-Age", "600")
    }
}
