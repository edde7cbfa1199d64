//! What no handler needs to see (stage 11's lasting form).

use crate::head::Version;
use crate::refused::{Refused, bad_request};
use crate::target::is_authority;
use crate::{Limits, Request};

/// Refuses a request that breaks a rule of the protocol, or one of this server's limits, which
/// hold whatever the request is for.
///
/// # Errors
///
/// 400 unless there is one valid `Host` (RFC 9112, section 3.2), 501 for an unknown method, 417
/// for an expectation other than `100-continue`, 413 for a body that is larger than allowed.
pub fn check(request: &Request, limits: &Limits) -> Result<(), Refused> {
    check_host(request)?;
    if !is_method(request.method()) {
        return Err(Refused { status: 501, why: "this server does not know the method" });
    }
    let mut expectations = request.headers().list("Expect");
    if expectations.any(|it| !it.eq_ignore_ascii_case("100-continue")) {
        return Err(Refused { status: 417, why: "100-continue is all that can be expected here" });
    }
    if request.content_length() > Some(limits.max_body) {
        return Err(Refused { status: 413, why: "the body is larger than this server takes" });
    }
    Ok(())
}

/// Whether it is a method of RFC 9110, section 9, or of RFC 5789.
fn is_method(method: &str) -> bool {
    matches!(
        method,
        "GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "CONNECT" | "OPTIONS" | "TRACE" | "PATCH"
    )
}

fn check_host(request: &Request) -> Result<(), Refused> {
    let mut hosts = request.headers().all("Host");
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if is_authority(host) => Ok(()),
        (Some(_), None) => {
            Err(bad_request("the Host is not a name or an address, with or without a port"))
        }
        (Some(_), Some(_)) => Err(bad_request("the request has more than one Host")),
        (None, _) if request.version() == Version::Http10 => Ok(()),
        (None, _) => Err(bad_request("the request has no Host")),
    }
}
