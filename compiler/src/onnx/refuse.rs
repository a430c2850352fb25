//! What is said of nodes that cannot be imported: what they are, why not, and a way out that helps with this file.

use super::file::{self, Model};
use crate::diagnostic::{Code, Diagnostic};

/// Nodes of one operator that cannot be imported for one reason.
pub struct Refused<'a> {
    /// The operator, with its domain unless that is the standard one.
    pub operator: &'a str,
    /// Half a sentence; empty where the operator is not known at all.
    pub why: &'a str,
    /// What messages call the nodes, in the order of the model.
    pub nodes: &'a [String],
}

/// Nodes that a report names for each fault.
const SHOWN: usize = 4;

/// What an operator that no model can be imported with stands for.
struct Kind {
    code: Code,
    what: &'static str,
    operators: &'static [&'static str],
    because: &'static str,
    help: Option<&'static str>,
}

const KINDS: &[Kind] = &[
    Kind {
        code: Code::ControlFlow,
        what: "control flow",
        operators: &["If", "Loop", "Scan", "SequenceMap"],
        because: "Both parties run one public sequence of steps, so what is computed cannot depend on data.",
        help: Some(
            "an export without branches and loops: one file for each case, as `--task` and `--no-post-process` of \
                    Optimum make them",
        ),
    },
    Kind {
        code: Code::Quantised,
        what: "quantised weights",
        operators: &[
            "QuantizeLinear",
            "DequantizeLinear",
            "DynamicQuantizeLinear",
            "MatMulInteger",
            "ConvInteger",
            "QLinearMatMul",
            "QLinearConv",
            "com.microsoft.MatMulNBits",
            "com.microsoft.MatMulBnb4",
            "com.microsoft.MatMulFpQ4",
            "com.microsoft.DynamicQuantizeMatMul",
            "com.microsoft.MatMulIntegerToFloat",
            "com.microsoft.QAttention",
            "com.microsoft.QEmbedLayerNormalization",
            "com.microsoft.QGemm",
            "com.microsoft.QLinearAdd",
            "com.microsoft.QLinearMul",
            "com.microsoft.DequantizeBFP",
            "com.microsoft.DequantizeLinear",
            "com.microsoft.QuantizeLinear",
            "com.microsoft.GatherBlockQuantized",
            "com.microsoft.QOrderedMatMul",
            "com.microsoft.QOrderedAttention",
            "com.microsoft.QOrderedGelu",
            "com.microsoft.QOrderedLayerNormalization",
        ],
        because: "The compiler chooses widths and scales itself, and rounding twice would cost accuracy.",
        help: Some("the model before it was quantised; float16 and bfloat16 weights are read too"),
    },
    Kind {
        code: Code::Experts,
        what: "a mixture of experts",
        operators: &["com.microsoft.MoE", "com.microsoft.QMoE"],
        because: "Which experts a token takes is secret, so each token would have to run through all of them.",
        help: None,
    },
    Kind {
        code: Code::Experts,
        what: "a choice of the greatest",
        operators: &["TopK"],
        because: "Which elements are the greatest is secret, so nothing can be left out: a mixture of experts, whose router \
                  this mostly is, would run all experts for each token.",
        help: None,
    },
    Kind {
        code: Code::Recurrent,
        what: "a recurrent network",
        operators: &["LSTM", "GRU", "RNN", "com.microsoft.AttnLSTM"],
        because: "Each position waits for the one before: a round for each gate of each position would be needed.",
        help: None,
    },
    Kind {
        code: Code::Convolution,
        what: "a convolution that is not a cut into patches",
        operators: &["ConvTranspose", "DeformConv", "MaxPool", "AveragePool", "LpPool", "com.microsoft.NhwcConv"],
        because: "Transformers are what is compiled: of convolutions those alone whose windows do not overlap.",
        help: None,
    },
];

/// The report of one operator and reason.
pub fn refuse(model: &Model, refused: &Refused) -> Diagnostic {
    let Refused { operator, why, nodes } = *refused;
    let count = if nodes.len() == 1 { "1 node".to_string() } else { format!("{} nodes", nodes.len()) };
    // A router spelt out in standard operators.
    let routes = operator == "TopK"
        && nodes.iter().all(|n| ["router", "moe", "expert", "gate", "mlp"].iter().any(|w| n.contains(w)));
    let named = |kind: &&Kind| kind.operators.contains(&operator) || routes && kind.code == Code::Experts;
    let kind = KINDS.iter().find(|kind| (why.is_empty() || routes) && named(kind));
    let (code, title) = match kind {
        Some(kind) => (kind.code, format!("{} ({count} of operator `{operator}`)", kind.what)),
        None if why.is_empty() => (Code::UnknownOperator, format!("operator `{operator}` is not supported ({count})")),
        None if operator == "Conv" => (Code::Convolution, format!("`{operator}` cannot be imported ({count})")),
        None => (Code::OperatorUse, format!("`{operator}` cannot be imported ({count})")),
    };
    let mut report = Diagnostic::new(code, title);
    for node in nodes.iter().take(SHOWN) {
        report = report.at(format!("{}, node \"{node}\"", model.name));
    }
    if nodes.len() > SHOWN {
        report = report.at(format!("and {} more", nodes.len() - SHOWN));
    }
    match kind {
        Some(kind) => kind.help.iter().fold(report.because(kind.because), |report, help| report.help(*help)),
        None if !why.is_empty() => report.because(format!("{operator}: {why}.")),
        None => unknown(report, operator, model.opset),
    }
}

fn unknown(report: Diagnostic, operator: &str, opset: i64) -> Diagnostic {
    match operator.rsplit_once('.') {
        Some((domain, _)) if !file::is_standard(domain) => report
            .because(format!("It is of the domain {domain}, not of the standard one."))
            .help("the model as exported, before an optimizer fused its nodes")
            .help("`sscc ops` lists what is supported"),
        _ => report
            .because(format!("No version of the exporter's operator set helps; the file has version {opset}."))
            .help("`sscc ops` lists what is supported"),
    }
}
