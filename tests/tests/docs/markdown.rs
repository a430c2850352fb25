//! Documents as this test sees them: fenced blocks, spans between backticks, links and headings.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tests::processes::repository;

/// A file of the repository.
pub struct Document {
    /// Its path within the repository.
    pub name: String,
    pub text: String,
}

/// What stands between two fences.
pub struct Block {
    /// The line of its first fence, from 1.
    pub line: usize,
    /// The words behind the fence, as in `sh,run`.
    pub marks: Vec<String>,
    pub text: String,
}

impl Block {
    pub fn is(&self, mark: &str) -> bool {
        self.marks.iter().any(|m| m == mark)
    }
}

/// Files with an ending below the repository, by name; those that it is built of and into are left out.
pub fn documents(ending: &str) -> Vec<Document> {
    let mut found = Vec::new();
    let mut folders = vec![repository().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap_or_default();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" {
                    folders.push(path);
                }
            } else if name.ends_with(ending) {
                let name = path.strip_prefix(repository()).unwrap().to_str().unwrap().to_owned();
                found.push(Document { name, text: fs::read_to_string(&path).unwrap() });
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!found.is_empty(), "no {ending} file");
    found
}

impl Document {
    /// Its folder within the repository.
    pub fn folder(&self) -> PathBuf {
        Path::new(&self.name).parent().unwrap().to_owned()
    }

    /// Its fenced blocks.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut open = false;
        for (number, line) in self.text.lines().enumerate() {
            if let Some(marks) = line.trim_start().strip_prefix("```") {
                if !open {
                    let marks = marks.split(',').map(|mark| mark.trim().to_owned()).collect();
                    blocks.push(Block { line: number + 1, marks, text: String::new() });
                }
                open = !open;
            } else if open {
                let block = blocks.last_mut().expect("an open block");
                block.text.push_str(line);
                block.text.push('\n');
            }
        }
        assert!(!open, "{}: a block has no end", self.name);
        blocks
    }

    /// Its lines with their numbers, fenced blocks left out.
    pub fn prose(&self) -> Vec<(usize, &str)> {
        let mut fenced = false;
        let mut lines = Vec::new();
        for (number, line) in self.text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            } else if !fenced {
                lines.push((number + 1, line));
            }
        }
        lines
    }

    /// Its prose in pieces, each with its line and whether it stands between backticks. What does may go on in the next line, but not
    /// in the next paragraph.
    fn pieces(&self) -> Vec<(usize, bool, &str)> {
        let mut pieces = Vec::new();
        let mut inside = false;
        for (number, line) in self.prose() {
            inside &= !line.trim().is_empty();
            for (i, piece) in line.split('`').enumerate() {
                inside ^= i > 0;
                pieces.push((number, inside, piece));
            }
        }
        pieces
    }

    /// What stands between backticks outside of fenced blocks, with the line where it begins.
    pub fn spans(&self) -> Vec<(usize, String)> {
        let mut spans: Vec<(usize, String)> = Vec::new();
        let mut open = false;
        for (number, inside, piece) in self.pieces() {
            match spans.last_mut().filter(|_| open && inside) {
                // It goes on.
                Some((_, span)) => *span += &format!(" {}", piece.trim()),
                None if inside => spans.push((number, piece.to_owned())),
                None => {}
            }
            open = inside;
        }
        spans
    }

    /// Targets of its links, with the line of each.
    pub fn links(&self) -> Vec<(usize, String)> {
        // A link's text may stand between backticks, so pieces of a line are put together, without what does.
        let mut lines: BTreeMap<usize, String> = BTreeMap::new();
        for (number, _, piece) in self.pieces().into_iter().filter(|(_, inside, _)| !inside) {
            lines.entry(number).or_default().push_str(piece);
        }
        let mut links = Vec::new();
        for (number, line) in lines {
            links.extend(line.split("](").skip(1).map(|rest| (number, rest.split(')').next().unwrap().to_owned())));
        }
        links
    }

    /// The files that it includes, as it writes their paths.
    pub fn includes(&self) -> Vec<&str> {
        let pieces = self.text.split("{{#include ").skip(1);
        pieces.map(|piece| piece.split("}}").next().unwrap().trim()).collect()
    }

    /// The names that its headings can be linked by, and those of what it includes.
    pub fn anchors(&self) -> Vec<String> {
        let headings = self.prose().into_iter().filter(|(_, line)| line.starts_with('#'));
        let mut anchors: Vec<String> = headings.map(|(_, line)| anchor(line.trim_start_matches('#').trim())).collect();
        for path in self.includes() {
            let path = repository().join(self.folder()).join(path);
            let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {}: {e}", self.name, path.display()));
            anchors.extend(Document { name: self.name.clone(), text }.anchors());
        }
        anchors
    }
}

/// The name of a heading: lower case, without punctuation, hyphens for spaces.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    kept.chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
            _ => None,
        })
        .collect()
}

#[test]
fn blocks_spans_and_links_are_found() {
    let text = "# A head, of `two`\n\nSee `ssvm\nrun --x` and [b](b.md#c).\n\n```sh,run\nls `pwd`\n```\n";
    let document = Document { name: "d/a.md".to_owned(), text: text.to_owned() };
    let [block] = &document.blocks()[..] else { panic!("one block") };
    assert!(block.line == 6 && block.is("sh") && block.is("run") && !block.is("text"));
    assert_eq!(block.text, "ls `pwd`\n");
    assert_eq!(document.spans(), [(1, "two".to_owned()), (3, "ssvm run --x".to_owned())]);
    assert_eq!(document.links(), [(4, "b.md#c".to_owned())]);
    assert_eq!(document.anchors(), ["a-head-of-two"]);
    assert_eq!(document.folder(), Path::new("d"));
}
