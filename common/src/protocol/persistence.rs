//! Whether a connection stays open after a response (stage 10's lasting form).

use crate::message::head::{Head, Version};
use crate::message::headers::Known;
use crate::message::response::Response;
use crate::protocol::request::Request;

/// The most bytes of an unread body that are skipped to keep the connection: 64 KiB. If there are
/// more, a new connection is faster.
const MAX_SKIPPED: u64 = 64 * 1024;

/// What happens to a connection after a response. From stage 9.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Another request may follow.
    KeepOpen,
    /// The connection ends.
    Close,
}

impl Then {
    /// Returns the option of the field `Connection` that announces this (RFC 9112, section 9.6).
    pub fn option(self) -> &'static str {
        match self {
            Then::KeepOpen => "keep-alive",
            Then::Close => "close",
        }
    }
}

/// Decides whether another request may follow this one and its response.
///
/// The connection ends if the client asks for that, or speaks HTTP/1.0 and does not ask to keep it
/// open. It also ends if the response is the last one, if too much of the request's body is unread,
/// or if the length of the unread body is unknown: because it is in chunks, or because it may never
/// arrive.
pub(crate) fn after(request: &Request, response: &Response) -> Then {
    let can_be_skipped = request.unread().is_some_and(|bytes| bytes <= MAX_SKIPPED);
    if can_be_skipped && client_goes_on(request.head()) && !response.is_last(request.version()) {
        Then::KeepOpen
    } else {
        Then::Close
    }
}

/// Whether the client has said that it sends no other request, and all of this one has been read.
pub(crate) fn is_last_word(request: &Request) -> bool {
    !client_goes_on(request.head()) && request.unread() == Some(0)
}

/// Whether the client may send another request on this connection (RFC 9112, section 9.3).
fn client_goes_on(head: &Head) -> bool {
    let says = |wanted: &[u8]| {
        head.headers.known_list(Known::Connection).any(|it| it.eq_ignore_ascii_case(wanted))
    };
    !says(b"close") && (head.version == Version::Http11 || says(b"keep-alive"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::head::HeadParser;

    #[test]
    fn the_client_decides_first() {
        for (version, connection, goes_on) in [
            ("HTTP/1.1", "", true),
            ("HTTP/1.1", "keep-alive", true),
            ("HTTP/1.1", "upgrade, Close", false),
            ("HTTP/1.1", "\u{e9}, close", false),
            ("HTTP/1.1", "closed", true),
            ("HTTP/1.0", "", false),
            ("HTTP/1.0", "Keep-Alive", true),
            ("HTTP/1.0", "keep-alive, close", false),
        ] {
            let bytes = format!("GET / {version}\r\nConnection: {connection}\r\n\r\n");
            let mut parser = HeadParser::new();
            parser.advance(bytes.as_bytes()).expect("valid").expect("complete");
            let head = parser.head(bytes.as_bytes());
            assert_eq!(client_goes_on(&head), goes_on, "{version} {connection}");
        }
    }
}
