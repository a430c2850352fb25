//! How a program was compiled: the command line and where it was given, in `OUT.recipe.json` beside the program.
//!
//! A program holds no floats, so `sscc accuracy` needs the model again, with the same sizes bound. The file stays with the
//! owner of the model; neither the client nor the dealer needs it. It also has what the compilation found of the program's accuracy.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::diagnostic::{Code, Diagnostic};

/// What [`Recipe::read`] reads.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Recipe {
    /// The folder in which the command was given.
    pub folder: PathBuf,
    /// The arguments after `sscc`.
    pub arguments: Vec<String>,
    /// What inputs that calibration did not see told, if there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<Accuracy>,
}

/// How far the private result was from the float one.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Accuracy {
    /// In words.
    pub summary: String,
    /// By layer: the root mean square error after it, relative to the values.
    pub layers: Vec<(String, f64)>,
}

impl Accuracy {
    /// The error after a layer.
    pub fn of(&self, layer: &str) -> Option<f64> {
        self.layers.iter().find(|(name, _)| name == layer).map(|(_, error)| *error)
    }
}

/// Where the recipe of a program is.
pub fn path(program: &Path) -> PathBuf {
    program.with_extension("recipe.json")
}

impl Recipe {
    /// Of this process, if its arguments are text.
    pub fn of_process(accuracy: Option<Accuracy>) -> Option<Recipe> {
        let arguments: Option<Vec<String>> = std::env::args_os().skip(1).map(|a| a.into_string().ok()).collect();
        Some(Recipe { folder: std::env::current_dir().ok()?, arguments: arguments?, accuracy })
    }

    /// The file's content.
    pub fn text(&self) -> String {
        let value = serde_json::to_string_pretty(self).expect("text can be written as JSON");
        format!("{value}\n")
    }

    /// Of a program, if there is one.
    pub fn read(program: &Path) -> Result<Option<Recipe>, Diagnostic> {
        let path = path(program);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => {
                return Err(Diagnostic::new(Code::FileUnreadable, format!("the recipe cannot be read: {e}"))
                    .at(path.display().to_string()));
            }
        };
        serde_json::from_slice(&text).map(Some).map_err(|e| {
            Diagnostic::new(Code::OtherModel, "the recipe of the program makes no sense")
                .at(path.display().to_string())
                .because(format!("{e}."))
                .help("give the model with --model, or compile it again")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("m.ssb");
        assert_eq!(Recipe::read(&program).unwrap(), None);
        let accuracy = Accuracy { summary: "near".to_owned(), layers: vec![("input".to_owned(), 1e-3)] };
        for accuracy in [None, Some(accuracy)] {
            let arguments = vec!["compile".into(), "m.onnx".into()];
            let recipe = Recipe { folder: folder.path().to_owned(), arguments, accuracy };
            std::fs::write(path(&program), recipe.text()).unwrap();
            assert_eq!(Recipe::read(&program).unwrap(), Some(recipe));
        }
        std::fs::write(path(&program), "{").unwrap();
        assert_eq!(Recipe::read(&program).unwrap_err().faults()[0].code, Code::OtherModel);
    }
}
