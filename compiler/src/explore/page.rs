//! A page: boxes that unfold from layers to ONNX nodes to instructions, with what flows into each. All data are in the
//! page.

use serde_json::{Value as Json, json};

use super::{Message, Picture, Source};
use crate::html::{document, escape};
use crate::report::size;

/// The page; `name` is that of the module.
pub fn page(picture: &Picture, name: &str) -> String {
    let cost = &picture.cost;
    let body = format!(
        "<h1>{}, entry {}</h1>\n<p>{} rounds and {} one-way messages; client sends {}, server sends {}; material {} to the \
         client, {} to the server (trusted dealer).</p>\n\
         <p class=\"bar\"><button id=\"open\">Unfold layers</button> <button id=\"close\">Fold all</button> \
         <button id=\"less\">−</button> <button id=\"more\">+</button> \
         <input id=\"find\" placeholder=\"find a node\" size=\"28\"> \
         <span class=\"dim\">Click a box to unfold it. Lines on the left are values that skip boxes.</span></p>\n\
         <div id=\"stage\"><svg id=\"arcs\"></svg><div id=\"boxes\"></div></div>\n\
         <script type=\"application/json\" id=\"data\">{}</script>\n",
        escape(name),
        escape(&picture.program.name),
        cost.rounds,
        cost.one_way_messages,
        size(cost.client_sent_bytes),
        size(cost.server_sent_bytes),
        size(cost.client_material_bytes),
        size(cost.server_material_bytes),
        data(picture).to_string().replace('<', "\\u003c")
    );
    document(&format!("{name}: program"), STYLE, &body, SCRIPT)
}

/// Layers, nodes, instructions.
fn data(picture: &Picture) -> Json {
    let nodes: Vec<Json> =
        (0..picture.nodes.len()).map(|node| json!([picture.name(node), picture.layer(node)])).collect();
    let instructions: Vec<Json> = picture
        .program
        .instrs
        .iter()
        .enumerate()
        .map(|(index, instr)| {
            let Some(node) = picture.node_of[index] else { return Json::Null };
            let flows: Vec<Json> = picture
                .flows(index)
                .into_iter()
                .map(|flow| {
                    let source = match flow.source {
                        Source::Value(value) => json!(value.0),
                        Source::Weight(name) => json!(name),
                    };
                    json!([source, flow.owner, flow.width, flow.shape, flow.bytes.0, flow.bytes.1])
                })
                .collect();
            let ty = instr.ty.as_ref().map_or_else(String::new, ToString::to_string);
            let message = match picture.message[index] {
                Some(Message::Round(number)) => format!("round {number}"),
                Some(Message::Send(number)) => format!("one-way {number}"),
                None => String::new(),
            };
            let (sent, material) = picture.bytes(index);
            let macs = picture.cost.per_instruction[index].macs;
            let text = ir::print::op(picture.program, &instr.op);
            json!([node, instr.op.mnemonic(), text, ty, message, sent, material, macs, flows])
        })
        .collect();
    json!({ "layers": picture.layers.names, "nodes": nodes, "instructions": instructions })
}

const STYLE: &str = "\
.bar{position:sticky;top:0;background:var(--paper);padding:.4rem 0;z-index:2}
#stage{position:relative;padding-left:90px;transform-origin:0 0}
#arcs{position:absolute;left:0;top:0;width:90px;pointer-events:none}
.box{border:1px solid var(--line);border-radius:6px;background:var(--soft);padding:.25rem .6rem;margin:.45rem 0}
.box.node{margin-left:1.5rem;background:var(--paper)}.box.instr{margin-left:3rem;border-style:dashed;background:var(--paper)}
.head{cursor:pointer;display:flex;gap:1rem;align-items:baseline}.head b{font-weight:600;overflow-wrap:anywhere;flex:1}
.flow{font:12px/1.35 ui-monospace,monospace;color:var(--dim);overflow-wrap:anywhere}
.found{outline:2px solid var(--blue)}
";

const SCRIPT: &str = include_str!("page.js");
