//! The house rules: what the repository promises about its own shape.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use harness::{Stage, repository};
use pretty_assertions::assert_eq;

/// Methods that a stage may call only from a certain stage on, as the module they belong to.
const METHODS: [(&str, &str); 6] = [
    (".listen(", "listener"),
    ("request.path(", "request"),
    (".header(", "headers"),
    (".headers(", "headers"),
    (".files(", "files"),
    (".body(", "body"),
];

fn read(path: impl AsRef<Path>) -> String {
    let path = repository().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The folders of the stages in their order, such as `04-echo`.
fn stages() -> Vec<String> {
    Stage::all().into_iter().map(|stage| stage.folder).collect()
}

fn number(stage: &str) -> u32 {
    stage[..2].parse().expect("a stage's folder begins with its number")
}

/// The modules of `common` and the stages they come from: the table in its documentation.
fn modules(library: &str) -> BTreeMap<&str, u32> {
    let rows = library.lines().filter_map(|line| line.strip_prefix("//! | `"));
    rows.map(|row| {
        let mut cells = row.split(" | ");
        let name = cells.next().unwrap_or_default().trim_end_matches('`');
        let stage = cells.next().and_then(|cell| cell.parse().ok());
        (name, stage.unwrap_or_else(|| panic!("no stage in the row: {row}")))
    })
    .collect()
}

/// What `common` exports, and the module that each name comes from.
fn exports(library: &str) -> BTreeMap<&str, &str> {
    let uses = library.lines().filter_map(|line| line.strip_prefix("pub use "));
    uses.flat_map(|line| {
        let (module, names) = line.trim_end_matches(';').split_once("::").expect("a path");
        let names = names.trim_matches(['{', '}']).split(", ");
        names.map(move |name| (name, module))
    })
    .collect()
}

/// The names that a stage takes from `common`: in `use common::{A, B};` and `common::c(…)`.
fn imports(code: &str) -> Vec<&str> {
    let uses = code.split("common::").skip(1);
    uses.flat_map(|rest| match rest.strip_prefix('{') {
        Some(list) => list.split('}').next().unwrap_or_default().split(", ").collect(),
        None => vec![rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("")],
    })
    .collect()
}

#[test]
fn common_tells_the_stage_of_each_module() {
    let library = read("common/src/lib.rs");
    let modules = modules(&library);
    let declared: Vec<_> = library
        .lines()
        .filter_map(|line| line.strip_prefix("mod "))
        .map(|line| line.trim_end_matches(';'))
        .collect();
    assert_eq!(modules.keys().copied().collect::<Vec<_>>(), declared);
    assert!(exports(&library).values().all(|module| modules.contains_key(module)));
}

#[test]
fn no_stage_uses_what_comes_from_a_later_one() {
    let library = read("common/src/lib.rs");
    let (modules, exports) = (modules(&library), exports(&library));
    for stage in stages() {
        let files = fs::read_dir(repository().join("stages").join(&stage)).expect("a folder");
        let files = files.map(|entry| entry.expect("readable").path());
        let code: String =
            files.filter(|path| path.extension().is_some_and(|it| it == "rs")).map(read).collect();
        let used = imports(&code);
        let named = exports.iter().filter(|(name, _)| used.contains(name));
        let called = METHODS.iter().filter(|(method, _)| code.contains(method));
        for (name, module) in named.chain(called.map(|(method, module)| (method, module))) {
            let from = modules[module];
            assert!(
                from < number(&stage),
                "stage {stage} uses {name} of the module {module}, which comes from stage {from}: \
                 a stage takes from common what the stages before it have written by hand"
            );
        }
    }
}

#[test]
fn a_stage_is_one_screen() {
    for stage in stages().iter().take(9) {
        let lines = read(format!("stages/{stage}/main.rs")).lines().count();
        assert!((15..=65).contains(&lines), "stages/{stage}/main.rs has {lines} lines");
    }
}

#[test]
fn names_and_numbers_match_everywhere() {
    let readme = read("README.md");
    let summary = read("docs/SUMMARY.md");
    for (index, stage) in stages().iter().enumerate() {
        assert_eq!(number(stage) as usize, index + 1, "the stages are numbered without a gap");
        let name = format!("stage{}", &stage[..2]);
        assert!(read(format!("stages/{stage}/Cargo.toml")).contains(&format!("name = \"{name}\"")));
        let chapter = format!("docs/{stage}.md");
        assert!(read(format!("stages/{stage}/main.rs")).contains(&format!("Chapter: {chapter}")));
        assert!(
            read(format!("tests/{name}.rs")).starts_with(&format!("//! Stage {} · ", index + 1))
        );
        assert!(read(&chapter).starts_with("# "), "{chapter} has a title");
        assert!(readme.contains(&chapter), "README.md links to {chapter}");
        assert!(summary.contains(&format!("{stage}.md")), "SUMMARY.md links to {chapter}");
    }
}

#[test]
fn gzip_is_paid_for_by_the_stages_that_teach_it() {
    for stage in stages() {
        let needs_it = read(format!("stages/{stage}/Cargo.toml")).contains("flate2");
        let teaches_it = matches!(number(&stage), 9 | 12); // 12 packs while it reads
        assert_eq!(needs_it, teaches_it, "{stage}");
    }
}
