//! Functions around functions: what is true for all answers is said once.

use std::io;
use std::panic::{self, AssertUnwindSafe};

use common::{Request, Response};

/// What a middleware wraps: the next one, and at the end the routes.
pub type Next<'n> = &'n dyn Fn(&Request) -> Response;

type Middleware = dyn Fn(&Request, Next) -> Response + Send + Sync;

#[derive(Default)]
pub struct Chain {
    layers: Vec<Box<Middleware>>,
}

impl Chain {
    /// Adds a middleware. The first one that is added is the outermost.
    pub fn wrap(&mut self, layer: impl Fn(&Request, Next) -> Response + Send + Sync + 'static) {
        self.layers.push(Box::new(layer));
    }

    /// Sends a request through all layers to `end`, and the answer back through them.
    pub fn answer(&self, request: &Request, end: Next) -> Response {
        call(&self.layers, request, end)
    }
}

fn call(layers: &[Box<Middleware>], request: &Request, end: Next) -> Response {
    match layers.split_first() {
        Some((first, rest)) => first(request, &|request| call(rest, request, end)),
        None => end(request),
    }
}

/// Makes an answer of whatever comes out of a handler: an error, or a panic, is an answer as well.
pub fn guarded(handler: impl FnOnce() -> io::Result<Response>) -> Response {
    match panic::catch_unwind(AssertUnwindSafe(handler)) {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => Response::failed(error),
        Err(_) => Response::new(500),
    }
}
