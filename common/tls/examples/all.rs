//! All that the stages up to 23 have, from the packages; on threads with `--threads`. The checks and the benchmark use it.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use common::{Args, Events};
use json::{Memory, Rules, Store};
use store::Disk;
use tls::Redirecting;

fn main() -> ExitCode {
    common::run_secure(|args| {
        let files = args.files().synced();
        let events = Events::new(args.max_watchers, args.heartbeat);
        let store = open(args, &events)?;
        let mut app = args.app(&files);
        let rules = Rules { max_body: args.max_json, require_if_match: args.require_if_match };
        json::add_records(&mut app, &store, rules);
        json::add_form_files(&mut app, &files);
        json::add_events(&mut app, &events);
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

fn open(args: &Args, events: &Events) -> io::Result<Arc<dyn Store>> {
    let events = Arc::new(events.clone());
    Ok(match &args.store {
        Some(path) => Arc::new(Disk::open(path)?.observed_by(events)),
        None => Arc::new(Memory::default().observed_by(events)),
    })
}
