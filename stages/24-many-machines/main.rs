//! Stage 24: many machines. Chapter: docs/24-many-machines.md

mod client;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use client::Members;
use cluster::Cluster;
use common::{App, Args, Events, Response};
use json::{Memory, Rules, Store};
use store::Disk;
use tls::Redirecting;

fn main() -> ExitCode {
    common::run_one_of_many(|args| {
        let files = args.files().synced();
        let events = Events::new(args.max_watchers, args.heartbeat);
        let store = open(args, &events)?;
        let mut app = args.app(&files);
        let rules = Rules { max_body: args.max_json, require_if_match: args.require_if_match };
        json::add_records(&mut app, &store, rules);
        json::add_form_files(&mut app, &files);
        json::add_events(&mut app, &events);
        add_readyz(&mut app, args);
        let redirecting = tls::secure(&mut app, args)?;
        match args.threads {
            true => args.run(app)?,
            false => drop(event_loop::run(args.driven(app)?, event_loop::cores())?),
        }
        redirecting.into_iter().for_each(Redirecting::wait);
        files.abandon_uploads();
        Ok(())
    })
}

/// Says whether requests should be sent here. `/healthz` says whether the program is alive, which is something else.
fn add_readyz(app: &mut App, args: &Args) {
    let draining = app.drain(args.drain);
    app.get("/readyz", move |_| {
        Ok(match draining.has_begun() {
            true => Response::text("no: it will stop").with_status(503),
            false => Response::text("yes"),
        })
    });
}

/// A store that tells what changes in it, on this machine or on others.
fn open(args: &Args, events: &Events) -> io::Result<Arc<dyn Store>> {
    let events = Arc::new(events.clone());
    if let Some(members) = args.members()? {
        return Ok(Arc::new(Cluster::new(Members::new(members)).observed_by(events)?));
    }
    Ok(match &args.store {
        Some(path) => Arc::new(Disk::open(path)?.observed_by(events)),
        None => Arc::new(Memory::default().observed_by(events)),
    })
}
