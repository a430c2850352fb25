//! What the compiler tells its user when it cannot go on: what is wrong, where, the arithmetic, a way out.
//!
//! ```text
//! error[SSC0502]: `matmul` can overflow its width
//!   bert.onnx, node "layer.0/qk/MatMul"
//!   |v6| reaches 171 in calibration: 8 integer bits. Width 32 at scale 24 leaves 7 (32 - 24 - 1 sign).
//!   try: scale 11 for v3, or a `lift` before it (1 round)
//! ```
//!
//! One report may hold several faults, so that a user need not meet them one by one; faults that differ in their places
//! alone are one entry, which names the first places and counts all. No weight, share or input value
//! goes into a diagnostic; names, shapes and counts do.

mod codes;

use std::fmt;

pub use codes::Code;

/// One or more faults, each rendered as in the module head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// At least one, in the order of discovery.
    faults: Vec<Fault>,
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// What kind of fault, under which it can be looked up.
    pub code: Code,
    /// What is wrong, in one line without a full stop.
    pub title: String,
    /// Where: a file and an ONNX node, an instruction.
    pub places: Vec<String>,
    /// How many faults of other places this one stands for, itself included.
    pub count: usize,
    /// Why: the arithmetic, in sentences, one per line.
    pub explanation: Vec<String>,
    /// Ways out, one per line.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// A report with one fault, of which only the title is known yet.
    pub fn new(code: Code, title: impl Into<String>) -> Diagnostic {
        let fault = Fault {
            code,
            title: title.into(),
            places: Vec::new(),
            count: 1,
            explanation: Vec::new(),
            help: Vec::new(),
        };
        Diagnostic { faults: vec![fault] }
    }

    /// Adds a place to the newest fault.
    pub fn at(mut self, place: impl Into<String>) -> Diagnostic {
        self.newest().places.push(place.into());
        self
    }

    /// Adds a line of explanation to the newest fault.
    pub fn because(mut self, line: impl Into<String>) -> Diagnostic {
        self.newest().explanation.push(line.into());
        self
    }

    /// Adds a way out to the newest fault.
    pub fn help(mut self, line: impl Into<String>) -> Diagnostic {
        self.newest().help.push(line.into());
        self
    }

    /// Appends the faults of another report, but for those that are told already: of them the places are added.
    pub fn and(mut self, other: Diagnostic) -> Diagnostic {
        for fault in other.faults {
            match self.faults.iter_mut().find(|told| told.is_like(&fault)) {
                Some(told) => {
                    told.places.extend(fault.places);
                    told.count += fault.count;
                }
                None => self.faults.push(fault),
            }
        }
        self
    }

    /// `Ok` if nothing was found, else one report of everything that was.
    pub fn check(found: impl IntoIterator<Item = Diagnostic>) -> Result<(), Diagnostic> {
        found.into_iter().reduce(Diagnostic::and).map_or(Ok(()), Err)
    }

    /// The faults, at least one.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    fn newest(&mut self) -> &mut Fault {
        self.faults.last_mut().expect("a diagnostic has a fault")
    }
}

impl Fault {
    /// Whether it differs in its places alone.
    fn is_like(&self, other: &Fault) -> bool {
        let said = |fault: &'_ Fault| (fault.code, fault.title.clone(), fault.explanation.clone(), fault.help.clone());
        said(self) == said(other)
    }
}

/// Places that are shown of a fault that stands for several.
const SHOWN: usize = 3;

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: {}", self.code, self.title)?;
        if self.count > 1 {
            write!(f, " ({} times)", self.count)?;
        }
        let shown = if self.count > 1 { SHOWN.min(self.places.len()) } else { self.places.len() };
        for line in &self.places[..shown] {
            write!(f, "\n  {line}")?;
        }
        if shown < self.places.len() {
            write!(f, "\n  and at {} more", self.places.len() - shown)?;
        }
        for line in &self.explanation {
            write!(f, "\n  {line}")?;
        }
        for line in &self.help {
            write!(f, "\n  try: {line}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.faults.iter().enumerate() {
            write!(f, "{}{fault}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_render_one_after_another() {
        let report = Diagnostic::new(Code::Mask, "first").at("m.onnx, node \"a\"").because("1 > 0.").help("less");
        let report = report.and(Diagnostic::new(Code::Width, "second"));
        assert_eq!(
            report.to_string(),
            "error[SSC0302]: first\n  m.onnx, node \"a\"\n  1 > 0.\n  try: less\nerror[SSC0502]: second"
        );
        assert_eq!(Diagnostic::check([]), Ok(()));
    }

    #[test]
    fn faults_that_differ_in_places_are_one_entry() {
        let at = |place: &str| Diagnostic::new(Code::Mask, "masked").at(place).because("so.");
        let report = (1..6).map(|i| at(&i.to_string())).reduce(Diagnostic::and).unwrap();
        let report = report.and(Diagnostic::new(Code::Mask, "masked").at("6"));
        assert_eq!(
            report.to_string(),
            "error[SSC0302]: masked (5 times)\n  1\n  2\n  3\n  and at 2 more\n  so.\nerror[SSC0302]: masked\n  6"
        );
    }
}
