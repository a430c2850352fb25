//! Links between documents, and the book's list of pages.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use processes::net::frame::Kind;
use sscc::diagnostic::Code;
use tests::processes::repository;

use crate::markdown::{Document, documents};

/// A path without `.` and `..`; nothing where it leaves the repository.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if !plain.pop() => return None,
            Component::ParentDir => {}
            part => plain.push(part),
        }
    }
    Some(plain)
}

/// What is wrong with a link of a document.
fn fault(all: &[Document], document: &Document, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let target = match path {
        "" => PathBuf::from(&document.name),
        path => match plain(&document.folder().join(path)) {
            Some(target) if repository().join(&target).exists() => target,
            _ => return Some(format!("{link} does not exist")),
        },
    };
    if document.name.starts_with("docs/") && !target.starts_with("docs") {
        return Some(format!("{link} leaves the book, which then has a dead link"));
    }
    let anchor = anchor?;
    let page = all.iter().find(|d| Path::new(&d.name) == target);
    let known = page.is_some_and(|page| page.anchors().iter().any(|a| a == anchor));
    (!known).then(|| format!("{link}: no such heading"))
}

#[test]
fn links_lead_somewhere() {
    let all = documents(".md");
    let mut complaints = Vec::new();
    for document in &all {
        for (line, link) in document.links() {
            complaints.extend(fault(&all, document, &link).map(|fault| format!("{}:{line}: {fault}", document.name)));
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// Folders whose files documents name between backticks.
const FOLDERS: &[&str] =
    &["benches", "compiler", "docs", "examples", "ir", "model-files", "models", "runtime", "tests"];

/// Whether a span is a path of the repository; words in capitals stand for a name.
fn is_path(span: &str) -> bool {
    let folder = span.split_once('/').is_some_and(|(folder, rest)| FOLDERS.contains(&folder) && !rest.is_empty());
    let name =
        |part: &str| part.len() > 1 && part != "README" && part.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    folder && !span.contains([' ', '*', '[']) && !span.split(['/', '.', '-']).any(name)
}

#[test]
fn documents_name_what_exists() {
    let mut complaints = Vec::new();
    // The changelog may name what is gone.
    for document in documents(".md").iter().filter(|document| document.name != "CHANGELOG.md") {
        for (line, path) in document.spans().into_iter().filter(|(_, span)| is_path(span)) {
            if !repository().join(&path).exists() {
                complaints.push(format!("{}:{line}: {path} does not exist", document.name));
            }
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
    let paths = ["ir/src/op.rs", "runtime/ot", "runtime/protocols/src/NAME.rs", "docs/", "ssvm run", "a/b"];
    assert_eq!(paths.map(is_path), [true, true, false, false, false, false]);
}

#[test]
fn the_book_lists_every_page_once() {
    let all = documents(".md");
    let summary = all.iter().find(|d| d.name == "docs/SUMMARY.md").expect("a summary");
    let listed: Vec<String> = summary.links().into_iter().map(|(_, link)| format!("docs/{link}")).collect();
    let distinct: BTreeSet<&str> = listed.iter().map(String::as_str).collect();
    assert_eq!(distinct.len(), listed.len(), "a page is listed twice");
    let pages = all.iter().map(|d| d.name.as_str()).filter(|n| n.starts_with("docs/") && *n != "docs/SUMMARY.md");
    assert_eq!(pages.collect::<BTreeSet<_>>(), distinct, "pages, and pages that the summary lists");
    // A link of an included page would be one from the page that includes it.
    for page in all.iter().filter(|d| d.name.starts_with("docs/")) {
        for path in page.includes() {
            let included = plain(&page.folder().join(path)).expect("a file of the repository");
            let included = all.iter().find(|d| Path::new(&d.name) == included).expect("a document");
            let relative = included.links().into_iter().find(|(_, link)| !link.contains("://"));
            assert_eq!(relative, None, "{}, which {} includes", included.name, page.name);
        }
    }
}

#[test]
fn every_code_is_in_the_table() {
    let all = documents(".md");
    let table = all.iter().find(|d| d.name == "docs/errors.md").expect("a page of codes");
    let rows: Vec<&str> = table.text.lines().filter(|line| line.starts_with("| [SSC")).collect();
    let expected = Code::ALL.iter().map(|code| {
        let name = code.name();
        format!("| [{name}](errors/{name}.md) | {} |", code.meaning())
    });
    assert_eq!(rows, expected.collect::<Vec<_>>());
}

#[test]
fn frames_are_as_the_code_has_them() {
    let all = documents(".md");
    let page = &all.iter().find(|d| d.name == "docs/file-formats.md").expect("a page of files and frames").text;
    let version = format!("wire version (now {})", processes::handshake::PROTOCOL_VERSION);
    assert!(page.contains(&version), "{version}");
    let kinds = (1..).map_while(Kind::from_code).map(|kind| format!("| {} {} |", kind as u32, kind.name()));
    let missing: Vec<String> = kinds.filter(|cell| !page.contains(cell)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
