//! Files that are given as models and are something else, told by their first bytes.

use std::io::Read;
use std::path::Path;

use crate::diagnostic::{Code, Diagnostic};

/// Bytes that are looked at.
const HEAD: usize = 4096;

const EXPORT: &str = "export the model to ONNX from its framework: optimum-cli export onnx --model MODEL OUT";

/// Says what a file or folder is if it is known not to be ONNX. Whether it is a valid model is not looked at.
pub fn check(path: &Path) -> Result<(), Diagnostic> {
    let unreadable = |e: std::io::Error| {
        Diagnostic::new(Code::FileUnreadable, "the model cannot be read")
            .at(path.display().to_string())
            .because(format!("{e}."))
    };
    if path.is_dir() {
        return Err(folder(path));
    }
    let mut head = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(HEAD as u64).read_to_end(&mut head).map_err(unreadable)?;
    match kind(&head, path) {
        Some((what, help)) => Err(not_onnx(path, what).help(help)),
        None => Ok(()),
    }
}

fn not_onnx(path: &Path, what: &str) -> Diagnostic {
    let name = path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    Diagnostic::new(Code::NotOnnx, format!("this is {what}, not an ONNX file")).at(name)
}

/// What the bytes are the beginning of, and what to do.
fn kind(head: &[u8], path: &Path) -> Option<(&'static str, &'static str)> {
    let text = head.trim_ascii_start();
    let has = |part: &[u8]| head.windows(part.len()).any(|window| window == part);
    let begins = |word: &str| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()));
    // A flat buffer begins with an offset, and its kind follows.
    let flat = |name: &[u8]| head.get(2..4) == Some(&[0, 0]) && head.get(4..8) == Some(name);
    let json_after_its_length = || {
        let length = u64::from_le_bytes(head.get(..8)?.try_into().ok()?);
        (head.get(8) == Some(&b'{') && length < 1 << 32).then_some(())
    };
    Some(match head {
        [] => ("an empty file", "fetch or export the model again"),
        _ if begins("version https://git-lfs") => {
            ("a pointer of Git LFS", "git lfs pull in its repository, or download the file itself")
        }
        _ if begins("<!doctype") || begins("<html") || begins("<?xml") => {
            ("a web page", "download the file itself, not the page about it")
        }
        [b'G', b'G', b'U', b'F', ..] => ("a GGUF file, which holds weights and no computation", EXPORT),
        [b'P', b'K', 3, 4, ..] if has(b"/data.pkl") => ("a PyTorch checkpoint", EXPORT),
        [b'P', b'K', 3, 4, ..] if has(b".npy") => ("a numpy archive", "give the model, and arrays as --calibrate"),
        [b'P', b'K', 3 | 5, 4 | 6, ..] => ("a zip archive", "unpack it and give the .onnx file in it"),
        [0x1f, 0x8b, ..] => ("a gzip archive", "unpack it and give the .onnx file in it"),
        [0x80, 2..=5, ..] => ("a pickle, such as a PyTorch checkpoint", EXPORT),
        [0x89, b'H', b'D', b'F', ..] => ("an HDF5 file, such as Keras writes", EXPORT),
        _ if head.get(257..262) == Some(b"ustar") => ("a tar archive", "unpack it and give the .onnx file in it"),
        _ if json_after_its_length().is_some() => {
            ("a safetensors file, which holds weights and no computation", EXPORT)
        }
        _ if flat(b"TFL3") => ("a TensorFlow Lite model", EXPORT),
        _ if flat(b"ORTM") => ("a model in onnxruntime's own format", "give the .onnx file that it was made from"),
        _ if path.file_name().is_some_and(|name| name == "saved_model.pb") => ("a TensorFlow SavedModel", EXPORT),
        [b'{' | b'[', ..] if std::str::from_utf8(&head[..head.len().min(64)]).is_ok() => {
            ("JSON text", "give the .onnx file; tokenizer.json and config.json are read from its folder")
        }
        _ => return None,
    })
}

fn folder(path: &Path) -> Diagnostic {
    if path.join("saved_model.pb").exists() {
        return not_onnx(path, "a TensorFlow SavedModel").help(EXPORT);
    }
    let report = not_onnx(path, "a folder");
    let mut models: Vec<_> = std::fs::read_dir(path)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "onnx"))
        .collect();
    models.sort();
    match models.is_empty() {
        true => report.help("give the path of an .onnx file"),
        false => models.iter().take(4).fold(report, |report, model| report.help(model.display().to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(name: &str, bytes: &[u8]) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        check(&path).err().map(|report| report.faults()[0].title.clone())
    }

    #[test]
    fn other_files_are_named() {
        let safetensors = [&64u64.to_le_bytes()[..], b"{\"__metadata__\":{}}"].concat();
        let tar = [&[b'm'; 257][..], b"ustar\0"].concat();
        let cases: [(&[u8], &str); 17] = [
            (b"", "an empty file"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a pointer of Git LFS"),
            (b"\n<!DOCTYPE html><html>", "a web page"),
            (b"<HTML>", "a web page"),
            (b"GGUF\x03\0\0\0", "a GGUF file"),
            (b"PK\x03\x04....archive/data.pkl", "a PyTorch checkpoint"),
            (b"PK\x03\x04....ids.npy", "a numpy archive"),
            (b"PK\x03\x04....model.onnx", "a zip archive"),
            (b"PK\x05\x06", "a zip archive"),
            (b"\x1f\x8b\x08", "a gzip archive"),
            (b"\x80\x02}q", "a pickle"),
            (b"\x89HDF\r\n", "an HDF5 file"),
            (&tar, "a tar archive"),
            (&safetensors, "a safetensors file"),
            (b"\x1c\0\0\0TFL3", "a TensorFlow Lite model"),
            (b"\x18\0\0\0ORTM", "a model in onnxruntime's own format"),
            (b"{\"model_type\": \"gpt2\"}", "JSON text"),
        ];
        for (bytes, what) in cases {
            let said = said("model.onnx", bytes).unwrap();
            assert!(said.starts_with(&format!("this is {what}")), "{what}: {said}");
        }
        assert_eq!(said("saved_model.pb", b"\x08\x01").unwrap(), "this is a TensorFlow SavedModel, not an ONNX file");
        assert_eq!(said("model.onnx", b"\x08\x07\x12\x04test"), None);
    }

    #[test]
    fn folders_name_the_models_in_them() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check(folder.path()).unwrap_err().to_string().contains("a folder"));
        std::fs::write(folder.path().join("decoder.onnx"), b"").unwrap();
        assert!(check(folder.path()).unwrap_err().to_string().contains("decoder.onnx"));
        std::fs::write(folder.path().join("saved_model.pb"), b"").unwrap();
        assert!(check(folder.path()).unwrap_err().to_string().contains("SavedModel"));
        let missing = check(&folder.path().join("missing.onnx")).unwrap_err();
        assert_eq!(missing.faults()[0].code, Code::FileUnreadable);
    }
}
