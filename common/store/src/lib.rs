//! Records on a disk, for the stages from 21 on.
//!
//! A package of its own, so that the first build of stage 1 does not wait for a database.

#![warn(missing_docs)]

mod commits;
mod disk;

pub use disk::Disk;
