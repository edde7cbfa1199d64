//! Stage 20: a store. Chapter: docs/20-store.md

mod log;

use std::process::ExitCode;
use std::sync::Arc;

use json::{Memory, Rules, Store};
use log::Log;

fn main() -> ExitCode {
    common::run_store(|args| {
        let files = args.files().synced();
        let store: Arc<dyn Store> = match &args.store {
            Some(path) => Arc::new(Log::open(path)?),
            None => Arc::new(Memory::default()),
        };
        let mut app = args.app(&files);
        let rules = Rules { max_body: args.max_json, require_if_match: args.require_if_match };
        json::add_records(&mut app, &store, rules);
        json::add_form_files(&mut app, &files);
        args.run(app)?;
        files.abandon_uploads();
        Ok(())
    })
}
