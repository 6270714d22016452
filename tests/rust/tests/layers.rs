//! The layer rule: a module of the core uses only the modules before it, and
//! the algorithms do not use each other.

use scoom_tests::{read, root, rust_files};

/// From the bottom to the top. Modules of one row do not use each other.
const LAYERS: [&[&str]; 8] = [
    &["stats"],
    &["h5ad"],
    &["matrix"],
    &["transform"],
    &["pass"],
    &["summary"],
    &["adjust", "collect", "qc", "hvg", "de", "embed", "graph", "score", "enrich"],
    // What puts algorithms together.
    &["doublets"],
];

/// Used by everybody, using nobody but each other.
const COMMON: [&str; 3] = ["error", "types", "ctx"];

const CORE: &str = "src/rust/core/src";

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

/// The modules that `crate::` paths in `text` begin with, test code excepted.
fn modules_used(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    let code: String = lines.collect::<Vec<_>>().join(" ");
    let mut used = Vec::new();
    for after in code.split("crate::").skip(1) {
        match after.trim_start().strip_prefix('{') {
            Some(group) => used.extend(heads_of_group(group)),
            None => used.push(identifier(after)),
        }
    }
    used.retain(|name| name.starts_with(|c: char| c.is_ascii_lowercase()));
    used
}

fn identifier(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The first identifiers of `a::{b, c}, d::e}`: `a` and `d`.
fn heads_of_group(group: &str) -> Vec<String> {
    let mut heads = vec![identifier(group)];
    let mut depth = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(identifier(&group[at + 1..])),
            _ => {}
        }
    }
    heads.retain(|head| !head.is_empty());
    heads
}

/// What is wrong with a file of `module` that holds `text`.
fn violations(module: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if layer(module).is_none() && !COMMON.contains(&module) {
        wrong.push(format!("`{module}` has no place in the layers"));
    }
    for used in modules_used(text) {
        let allowed = used == module
            || COMMON.contains(&used.as_str())
            || matches!((layer(module), layer(&used)), (Some(own), Some(other)) if other < own);
        if !allowed {
            wrong.push(format!("`{module}` uses `{used}`"));
        }
    }
    wrong
}

#[test]
fn modules_use_only_the_layers_below() {
    let folder = root().join(CORE);
    let mut wrong = Vec::new();
    let mut seen = 0;
    for path in rust_files(CORE) {
        let inside = path.strip_prefix(&folder).expect("files are listed below the folder");
        let top = inside.components().next().expect("a file has a name");
        let module = top.as_os_str().to_string_lossy().replace(".rs", "");
        if module == "lib" {
            continue;
        }
        seen += 1;
        let text = read(&path);
        let found = violations(&module, &text);
        wrong.extend(found.into_iter().map(|what| format!("{}: {what}", inside.display())));
    }
    assert!(seen > 10, "the sources of the core are not where they were");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_rule_sees_what_it_forbids() {
    assert_eq!(violations("matrix", "use crate::pass::Pass;"), ["`matrix` uses `pass`"]);
    assert_eq!(violations("qc", "let x = crate::de::test();"), ["`qc` uses `de`"]);
    assert_eq!(violations("ctx", "use crate::stats;"), ["`ctx` uses `stats`"]);
    let group = "use crate::{error::{Error, Result},\n  pass::Pass, stats};";
    assert_eq!(violations("h5ad", group), ["`h5ad` uses `pass`"]);
    assert_eq!(violations("plots", ""), ["`plots` has no place in the layers"]);
}

#[test]
fn the_rule_allows_what_it_should() {
    assert!(violations("pass", "use crate::{ctx::Ctx, matrix::Grid, pass::Fold};").is_empty());
    assert!(violations("h5ad", "// crate::pass does more\nuse crate::Error;").is_empty());
    assert!(violations("h5ad", "#[cfg(test)] mod tests { use crate::pass; }").is_empty());
}

#[test]
fn the_core_knows_nothing_of_r() {
    for path in rust_files(CORE) {
        assert!(!read(&path).contains("extendr"), "{} names extendr", path.display());
    }
    let output = std::process::Command::new(env!("CARGO"))
        .args(["tree", "-p", "scoom-core", "--edges", "normal", "--locked", "--prefix", "none"])
        .current_dir(root().join("src/rust"))
        .output()
        .expect("cargo runs, it started this test");
    let tree = String::from_utf8_lossy(&output.stdout);
    assert!(tree.contains("hdf5-metno"), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!tree.contains("extendr"), "{tree}");
}
