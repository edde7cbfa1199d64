//! Stage 21: live. Chapter: docs/21-live.md

mod changes;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use changes::Changes;
use common::Args;
use json::{Memory, Rules, Store};
use store::Disk;

fn main() -> ExitCode {
    common::run_live(|args| {
        let files = args.files().synced();
        let changes = Arc::new(Changes::new(args.max_watchers, args.heartbeat));
        let store = open(args, &changes)?;
        let mut app = args.app(&files);
        let rules = Rules { max_body: args.max_json, require_if_match: args.require_if_match };
        json::add_records(&mut app, &store, rules);
        json::add_form_files(&mut app, &files);
        let watched = Arc::clone(&changes);
        app.get("/data/events", move |request| Ok(watched.events(request)));
        app.at_stop(move || changes.close());
        args.run(app)?;
        files.abandon_uploads();
        Ok(())
    })
}

/// A store that tells what changes in it.
fn open(args: &Args, changes: &Arc<Changes>) -> io::Result<Arc<dyn Store>> {
    let changes = Arc::clone(changes);
    Ok(match &args.store {
        Some(path) => Arc::new(Disk::open(path)?.observed_by(changes)),
        None => Arc::new(Memory::default().observed_by(changes)),
    })
}
