//! What the stages from 19 on share: bodies of JSON, read strictly, and records behind a path.
//!
//! A package of its own, so that the first build of stage 1 does not wait for a JSON library. The modules from the bottom
//! up, each of which uses only those above it:
//!
//! | module | what it is |
//! |---|---|
//! | `strict` | JSON that comes back as it came, or is refused |
//! | `problem` | errors that programs can read |
//! | `multipart` | a form with files, as a stream |
//! | `body` | JSON, or the fields of a form, as one object |
//! | `patch` | a change of a part |
//! | `records` | records, and where they are kept |
//! | `api` | records behind a path |

#![warn(missing_docs)]

mod api;
mod body;
mod multipart;
mod patch;
mod problem;
mod records;
mod strict;

pub use api::{Rules, add_events, add_form_files, add_records, read};
pub use multipart::{Multipart, Part};
pub use patch::merged;
pub use problem::{Problem, answer};
pub use records::{
    Change, Decide, Event, EventKind, Memory, Observer, Page, Record, Room, Store, Table,
};
pub use strict::parse;
