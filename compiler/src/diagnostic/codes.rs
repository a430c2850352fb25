//! The code of every fault: stable, so that a message can be looked up whatever its wording. `sscc explain SSC0102` prints
//! the page of one.
//!
//! Codes go by what is wrong, not by where it is found, in hundreds by stage. A new one is a row here and a page in
//! `docs/errors`, whose title is the row's sentence. A code that is no longer used goes; its number is not given again.

use std::fmt;

macro_rules! codes {
    ($(#[doc = $meaning:literal] $name:ident = $number:literal;)*) => {
        /// What kind of fault; see the module head.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Code {
            $(#[doc = $meaning] $name,)*
        }

        impl Code {
            /// All of them, ascending.
            pub const ALL: &[Code] = &[$(Code::$name),*];

            /// As it is printed.
            pub fn name(self) -> &'static str {
                match self { $(Code::$name => concat!("SSC", $number),)* }
            }

            /// The kind of fault in one line.
            pub fn meaning(self) -> &'static str {
                match self { $(Code::$name => $meaning,)* }.trim()
            }

            /// Its page in `docs/errors`.
            pub fn page(self) -> &'static str {
                match self { $(Code::$name => include_str!(concat!("../../../docs/errors/SSC", $number, ".md")),)* }
            }

            /// What the source calls it.
            pub fn ident(self) -> &'static str {
                match self { $(Code::$name => stringify!($name),)* }
            }
        }
    };
}

codes! {
    // Files.
    /// a file cannot be read
    FileUnreadable = "0001";
    /// a file cannot be written
    FileUnwritable = "0002";
    /// a file is not ONNX
    NotOnnx = "0003";
    /// an ONNX file is broken
    BrokenModel = "0004";
    /// a file beside the model cannot be used
    Companion = "0005";
    /// a file of arrays cannot be used
    BrokenArrays = "0006";
    /// the operating system gives no randomness
    NoRandomness = "0007";

    // Import.
    /// the version of the operator set is not supported
    Opset = "0101";
    /// an operator is not supported
    UnknownOperator = "0102";
    /// an operator is used in a way that is not supported
    OperatorUse = "0103";
    /// a tensor of the model cannot be read
    BrokenTensor = "0104";
    /// an option names a tensor that the model does not have
    NoSuchTensor = "0105";
    /// control flow depends on data
    ControlFlow = "0106";
    /// weights are quantised
    Quantised = "0107";
    /// the model is a mixture of experts
    Experts = "0108";
    /// the model is recurrent
    Recurrent = "0109";
    /// a convolution is not supported
    Convolution = "0110";

    // Sizes and values of inputs.
    /// an option names a dimension that the model does not have
    NoSuchDimension = "0201";
    /// a dimension has no size
    OpenDimension = "0202";
    /// a dimension has two sizes
    TwoSizes = "0203";
    /// an input is too large
    LargeInput = "0204";
    /// an input has a type that is not supported
    InputType = "0205";
    /// a value does not fit the model's inputs
    InputValue = "0206";
    /// the model has fewer positions
    FewPositions = "0207";
    /// an input differs from the value that the program is compiled for
    OtherValue = "0208";

    // Graph and fusion.
    /// no protocol computes an operation
    NoProtocol = "0301";
    /// an attention mask cannot be used
    Mask = "0302";
    /// a graph is not well formed
    BrokenGraph = "0303";
    /// a node cannot be evaluated
    Evaluation = "0304";

    // Calibration and ranges.
    /// calibration arrays do not fit the model
    CalibrationArrays = "0401";
    /// a calibrated interval has no table
    NoTable = "0402";
    /// the row maxima of an attention spread too far
    RowMaxima = "0403";
    /// an activation's inputs reach too far
    ActivationReach = "0404";
    /// the private result is too far from the float one
    Inaccurate = "0405";

    // Widths and lowering.
    /// a value does not fit any ring
    LargeValue = "0501";
    /// a product needs more width than a ring has
    Width = "0502";
    /// a weight does not fit its encoding
    LargeWeight = "0503";
    /// an integer input is not token ids
    SecretIntegers = "0504";
    /// two parties cannot make the material of an operation
    Unmade = "0505";

    // Generation.
    /// the model cannot generate token by token
    CannotGenerate = "0601";
    /// a size of an entry makes no sense
    EntrySize = "0602";

    // Programs.
    /// a file is not a program that this version can run
    NotProgram = "0701";

    // Tools.
    /// a report of a run cannot be used
    Report = "0801";
    /// there is no such code
    NoSuchCode = "0802";
    /// a program was made from another model
    OtherModel = "0803";
    /// a program has no such entry
    NoSuchEntry = "0804";
}

impl Code {
    /// The code of that name; the letters may be small or left out, as may leading zeros.
    pub fn find(name: &str) -> Option<Code> {
        let number = Code::number_in(name)?;
        Code::ALL.iter().copied().find(|code| code.number() == number)
    }

    /// Its number.
    pub fn number(self) -> u16 {
        self.name()[3..].parse().expect("a code ends in digits")
    }

    /// Codes of the same stage as a name that is none, or those that share a word with it.
    pub fn near(name: &str) -> Vec<Code> {
        match Code::number_in(name) {
            Some(number) => Code::ALL.iter().copied().filter(|code| code.number() / 100 == number / 100).collect(),
            None => {
                let name = name.to_lowercase();
                let words: Vec<&str> = name.split(|c: char| !c.is_alphanumeric()).filter(|w| w.len() > 2).collect();
                let like = |code: &Code| words.iter().any(|word| code.meaning().contains(word));
                Code::ALL.iter().copied().filter(like).collect()
            }
        }
    }

    fn number_in(name: &str) -> Option<u16> {
        let name = name.trim();
        let digits = match name.get(..3) {
            Some(letters) if letters.eq_ignore_ascii_case("ssc") => &name[3..],
            _ => name,
        };
        if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    #[test]
    fn every_code_has_a_page_of_its_title() {
        for &code in Code::ALL {
            let page = code.page();
            assert!(page.starts_with(&format!("# {code}: {}\n", code.meaning())), "{code}: the page's title");
            assert!(page.contains(&format!("error[{code}]: ")), "{code}: the page's example");
            assert!(page.contains("\n## Ways out\n"), "{code}: the page's last part");
        }
        assert!(Code::ALL.is_sorted_by(|a, b| a.number() < b.number()));
    }

    #[test]
    fn no_page_is_left_over() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/errors");
        for entry in std::fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let code = name.strip_suffix(".md").and_then(Code::find);
            assert!(code.is_some_and(|code| format!("{code}.md") == name), "{name} is the page of no code");
        }
    }

    #[test]
    fn every_code_is_used() {
        fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    sources(&path, found);
                } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("diagnostic/codes.rs") {
                    found.push(path);
                }
            }
        }
        let mut files = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
        let text: String = files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
        for &code in Code::ALL {
            let used = text
                .match_indices(&format!("Code::{}", code.ident()))
                .any(|(at, word)| !text[at + word.len()..].starts_with(|c: char| c.is_alphanumeric()));
            assert!(used, "{code}: no message has `Code::{}`", code.ident());
        }
    }

    #[test]
    fn names_are_read_in_every_form() {
        for name in ["SSC0102", "ssc0102", "0102", "102", " Ssc0102 "] {
            assert_eq!(Code::find(name), Some(Code::UnknownOperator), "{name}");
        }
        for name in ["", "SSC", "SSC0199", "SSC01020", "-102", "+102", "99999999999"] {
            assert_eq!(Code::find(name), None, "{name}");
        }
        assert!(Code::near("SSC0199").contains(&Code::Opset));
        assert_eq!(Code::near("attention mask"), [Code::Mask, Code::RowMaxima]);
        assert_eq!(Code::near("ßßß"), []);
    }
}
