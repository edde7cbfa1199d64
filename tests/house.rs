//! The house rules: what the repository promises about its own structure.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use harness::{Stage, repository};
use pretty_assertions::assert_eq;

/// Methods of `common`, and the modules that they belong to. A stage may call a method only if the module comes
/// from an earlier stage.
const METHODS: [(&str, &str); 9] = [
    (".listen(", "transport::listener"),
    ("request.path(", "protocol::request"),
    (".header(", "message::headers"),
    (".headers(", "message::headers"),
    (".files(", "content::directory"),
    (".body(", "message::body"),
    (".compressed_for(", "message::coding"),
    (".service(", "serve::service"),
    (".param(", "app::router"),
];

/// The parts of `common` that must not use sockets, threads or clocks.
const PURE: [&str; 2] = ["message", "protocol"];

fn read(path: impl AsRef<Path>) -> String {
    let path = repository().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The folders of the stages in order, such as `04-echo`.
fn stages() -> Vec<String> {
    Stage::all().into_iter().map(|stage| stage.folder).collect()
}

fn number(stage: &str) -> u32 {
    stage[..2].parse().expect("a stage's folder begins with its number")
}

/// The modules of `common` from the lowest to the highest, and the stages that they come from. This is the table
/// in the documentation of `common`.
fn modules(library: &str) -> Vec<(&str, u32)> {
    let rows = library.lines().filter_map(|line| line.strip_prefix("//! | "));
    rows.filter_map(|row| {
        let mut cells = row.split(" | ");
        let name = cells.next()?.trim_matches(['*', '`']);
        Some((name, cells.next()?.parse().ok()?))
    })
    .collect()
}

/// The stage that a module comes from.
fn stage_of(modules: &[(&str, u32)], module: &str) -> u32 {
    let found = modules.iter().find(|(name, _)| *name == module);
    found.unwrap_or_else(|| panic!("{module} is not in the table of common/src/lib.rs")).1
}

/// The stage that an item comes from, if its comment names one (`From stage 10.`) because it is not the stage of
/// its module.
fn own_stage(name: &str, module: &str) -> Option<u32> {
    let code = read(format!("common/src/{}.rs", module.replace("::", "/")));
    let kinds = ["fn", "struct", "enum", "trait", "const"];
    let found = kinds.iter().find_map(|kind| code.find(&format!("\npub {kind} {name}")))?;
    let doc = &code[code[..found].rfind("\n\n").unwrap_or(0)..found];
    doc.split("From stage ").nth(1)?.split('.').next()?.parse().ok()
}

/// What `common` exports, and the module that each name comes from.
fn exports(library: &str) -> BTreeMap<&str, String> {
    let uses = library.split("\npub use ").skip(1).filter_map(|rest| rest.split(';').next());
    uses.flat_map(|path| {
        let (module, names) = path.rsplit_once("::").expect("a path");
        let (module, names) = match path.split_once("::{") {
            Some((module, list)) => (module, list.trim_end_matches('}')),
            None => (module, names),
        };
        let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(move |name| (name, module.to_owned()))
    })
    .collect()
}

/// The files of `common`: the module of each file, and its code without the tests.
fn files_of_common() -> Vec<(String, String)> {
    fn visit(folder: &Path, prefix: &str, files: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let module = format!("{prefix}{}", name.trim_end_matches(".rs"));
            if path.is_dir() {
                visit(&path, &format!("{module}::"), files);
            } else if name != "lib.rs" && name != "testing.rs" {
                let code = read(&path);
                let code = code.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
                files.push((module, code.to_owned()));
            }
        }
    }
    let mut files = Vec::new();
    visit(&repository().join("common/src"), "", &mut files);
    files
}

/// The modules that a file of `common` uses: in `use crate::message::head::Head;` and in the code.
fn used_modules(code: &str) -> Vec<String> {
    let paths = code.split("crate::").skip(1);
    paths
        .map(|rest| {
            let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            let path = rest.split(|c| !is_name(c)).next().unwrap_or_default();
            path.split("::").take(2).collect::<Vec<_>>().join("::")
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
    let mut in_table: Vec<_> = modules(&library).into_iter().map(|(name, _)| name).collect();
    let mut in_folder: Vec<_> = files_of_common().into_iter().map(|(module, _)| module).collect();
    in_table.sort_unstable();
    in_folder.sort();
    assert_eq!(in_table, in_folder);
    assert!(exports(&library).values().all(|module| in_table.contains(&module.as_str())));
}

#[test]
fn files_of_common_use_only_lower_ones() {
    let library = read("common/src/lib.rs");
    let modules = modules(&library);
    let height = |module: &str| modules.iter().position(|(name, _)| *name == module);
    for (module, code) in files_of_common() {
        for used in used_modules(&code) {
            // A name such as `crate::Client`, in a comment, is for readers: code must not use it.
            let Some(below) = height(&used) else {
                assert!(
                    !code.contains(&format!("use crate::{used}")),
                    "{module} uses {used}, which is not a file: write the path of its module"
                );
                continue;
            };
            assert!(
                height(&module) > Some(below),
                "{module} uses {used}, which comes after it in the table of common/src/lib.rs"
            );
        }
    }
}

#[test]
fn the_protocol_knows_no_sockets_threads_or_clocks() {
    for (module, code) in files_of_common() {
        let floor = module.split("::").next().unwrap_or_default();
        for name in ["std::net", "TcpStream", "std::thread", "thread::", "Instant", "SystemTime"] {
            assert!(
                !PURE.contains(&floor) || !code.contains(name),
                "{module} uses {name}: sockets, threads and clocks belong to the higher parts"
            );
        }
    }
}

#[test]
fn no_stage_uses_what_comes_from_a_later_one() {
    let library = read("common/src/lib.rs");
    let (modules, exports) = (modules(&library), exports(&library));
    for stage in stages() {
        let files = fs::read_dir(repository().join("stages").join(&stage)).expect("a folder");
        let files = files.map(|entry| entry.expect("the entry can be read").path());
        let code: String =
            files.filter(|path| path.extension().is_some_and(|it| it == "rs")).map(read).collect();
        let used = imports(&code);
        let named = exports.iter().filter(|(name, _)| used.contains(name));
        let called = METHODS.iter().filter(|(method, _)| code.contains(method));
        let named = named.map(|(name, module)| (*name, module.as_str()));
        for (name, module) in named.chain(called.copied()) {
            let from = own_stage(name, module).unwrap_or_else(|| stage_of(&modules, module));
            assert!(
                from < number(&stage),
                "stage {stage} uses {name} of the module {module}, which comes from stage {from}: \
                 a stage may use only those parts of common that earlier stages have written by hand"
            );
        }
    }
}

#[test]
fn a_stage_is_one_screen() {
    for stage in stages() {
        let lines = read(format!("stages/{stage}/main.rs")).lines().count();
        let most = if number(&stage) < 10 { 70 } else { 110 };
        assert!((15..=most).contains(&lines), "stages/{stage}/main.rs has {lines} lines");
    }
}

#[test]
fn names_and_numbers_match_everywhere() {
    let readme = read("README.md");
    let summary = read("docs/SUMMARY.md");
    for (index, stage) in stages().iter().enumerate() {
        assert_eq!(number(stage) as usize, index + 1, "the numbers of the stages have a gap");
        let name = format!("stage{}", &stage[..2]);
        assert!(read(format!("stages/{stage}/Cargo.toml")).contains(&format!("name = \"{name}\"")));
        let chapter = format!("docs/{stage}.md");
        assert!(read(format!("stages/{stage}/main.rs")).contains(&format!("Chapter: {chapter}")));
        assert!(
            read(format!("tests/{name}.rs")).starts_with(&format!("//! Stage {} · ", index + 1))
        );
        assert!(read(&chapter).starts_with("# "), "{chapter} has no title");
        assert!(readme.contains(&chapter), "README.md does not link to {chapter}");
        assert!(summary.contains(&format!("{stage}.md")), "SUMMARY.md does not link to {chapter}");
    }
}

#[test]
fn only_stages_that_teach_gzip_depend_on_flate2() {
    for stage in stages() {
        let needs_it = read(format!("stages/{stage}/Cargo.toml")).contains("flate2");
        let teaches_it = matches!(number(&stage), 9 | 13); // 13 compresses files while it reads them
        assert_eq!(needs_it, teaches_it, "{stage}");
    }
}
