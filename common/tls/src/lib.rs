//! TLS between sockets and conversations, for the stages from 24 on (stage 23's lasting form).
//!
//! A package of its own, so that the first build of stage 1 does not wait for its cryptography.
//!
//! ```no_run
//! use common::{App, Limits, Listener, Response, Service};
//! use tls::{Certificates, Tls};
//!
//! let mut app = App::new();
//! app.get("/", |_| Ok(Response::text("hello")));
//! let certificates = Certificates::load(&[("cert.pem".into(), "key.pem".into())])?;
//! let tls = Tls::new(certificates);
//! app.through(move || tls.session());
//! let service = Service::new(Listener::bind(4221)?, Limits::default())?;
//! common::on_stop(service.stopper())?;
//! app.run(service)?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! The modules from the bottom up, each of which uses only those above it:
//!
//! | module | what it is |
//! |---|---|
//! | `self_signed` | a certificate for trying it out |
//! | `identity` | a certificate and its key |
//! | `certificates` | which certificate is for whom, and how new ones are taken |
//! | `session` | the TLS of one client |
//! | `plain` | the port without TLS |
//! | `secure` | all of this, as the command line asks for it |

#![warn(missing_docs)]

mod certificates;
mod identity;
mod plain;
mod secure;
mod self_signed;
mod session;

pub use certificates::Certificates;
pub use plain::{Plain, strict};
pub use secure::{Redirecting, files, secure};
pub use self_signed::self_signed;
pub use session::Tls;
