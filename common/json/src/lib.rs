//! What the stages from 19 on share: bodies of JSON, read strictly, and records behind a path.

#![warn(missing_docs)]

mod strict;

pub use strict::parse;
